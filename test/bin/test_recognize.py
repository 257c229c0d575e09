"""Stage 12: the table of a fold, for a recogniser and for a joint model."""

import shutil

import numpy as np
import pytest
import soundfile
import torch

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import recognize
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.metrics.signal import si_sdr

LABELS = ["ang", "hap", "neu", "sad"]
OWN = ["id", "reference", "hypothesis", *(f"p_{label}" for label in LABELS)]
SIGNAL = ["si_sdr_mix", "si_sdr", "si_sdri", "stoi_mix", "stoi", "wrong_speaker"]


@pytest.fixture
def run(tmp_path, tiny_mixtures):
    def run(model_dir, batch_size, scp="wav.scp", ids=None, output="hyp.tsv", more=()):
        data_dir = tiny_mixtures / "mix"
        ids = ids or tiny_mixtures / "table" / "splits" / "fold1" / "test.lst"
        recognize.main(
            [f"--model_dir={model_dir}", f"--data_dir={data_dir}", f"--scp={data_dir / scp}"]
            + [f"--ids={ids}", f"--output={tmp_path / output}", f"--batch_size={batch_size}", *more]
        )
        return read_tsv(tmp_path / output)

    return run


def _same(first, second):
    for row, other in zip(first, second, strict=True):
        assert row.keys() == other.keys()
        for name in row:
            if name.startswith("p_"):
                assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-5)
            elif name in SIGNAL and row[name]:
                assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-3)
            else:
                assert row[name] == other[name]


def test_joint_model(run, joint_dir, tiny_mixtures):
    rows = run(joint_dir, 1)
    _same(rows, run(joint_dir, 5, output="5.tsv"))
    ids = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / "test.lst")
    emotions = read_table(tiny_mixtures / "mix" / "utt2emo")
    assert list(rows[0]) == OWN + SIGNAL + ["epoch"]
    assert [row["id"] for row in rows] == ids and len(ids) == 20
    assert [row["reference"] for row in rows] == [emotions[i] for i in ids]
    for row in rows:
        posteriors = {label: float(row[f"p_{label}"]) for label in LABELS}
        assert row["hypothesis"] == max(posteriors, key=posteriors.get)
        assert sum(posteriors.values()) == pytest.approx(1, abs=1e-5)
    # One of them by hand.
    model = TSESER.from_pretrained(joint_dir)
    tables = ("wav.scp", "enroll_spk1.scp", "spk1.scp", "spk2.scp")
    mixture, enrollment, target, interferer = (
        soundfile.read(read_table(tiny_mixtures / "mix" / t)[ids[4]])[0] for t in tables
    )
    result = model(mixture, enrollment)
    assert rows[4]["hypothesis"] == result.label
    assert float(rows[4]["p_sad"]) == pytest.approx(result.probabilities["sad"], abs=1e-5)
    assert float(rows[4]["si_sdr"]) == pytest.approx(si_sdr(target, result.speech), abs=1e-3)
    expected = si_sdr(target, result.speech) - si_sdr(target, mixture)
    assert float(rows[4]["si_sdri"]) == pytest.approx(expected, abs=1e-3)
    wrong = si_sdr(interferer, result.speech) > si_sdr(target, result.speech)
    assert rows[4]["wrong_speaker"] == str(int(wrong))


def test_extracted_audio(run, tmp_path, joint_dir, ser_dir, tiny_mixtures):
    """A joint model leaves what it extracts, and another recogniser can be run on it."""
    rows = run(joint_dir, 4, more=[f"--output_audio={tmp_path}/audio"])
    assert rows == run(joint_dir, 4, output="without.tsv")
    scp = read_table(tmp_path / "audio" / "wav.scp")
    assert list(scp) == [row["id"] for row in rows]
    model = TSESER.from_pretrained(joint_dir)
    for utt in list(scp)[::7]:
        speech, rate = soundfile.read(scp[utt])
        mixture, enrollment = (
            soundfile.read(read_table(tiny_mixtures / "mix" / t)[utt])[0]
            for t in ("wav.scp", "enroll_spk1.scp")
        )
        assert rate == 16000
        expected = model(mixture, enrollment).speech
        np.testing.assert_allclose(speech, expected, atol=1.1 / 32768)
    clean_ft = run(ser_dir, 4, scp=tmp_path / "audio" / "wav.scp", output="clean_ft.tsv")
    assert [row["id"] for row in clean_ft] == list(scp) and list(clean_ft[0]) == OWN + ["epoch"]
    with pytest.raises(UserError, match="--output_audio: .* neither extracts nor enhances"):
        run(ser_dir, 4, more=[f"--output_audio={tmp_path}/none"])
    assert not (tmp_path / "none").exists()


def test_recogniser_on_a_condition(run, ser_dir, tiny_mixtures):
    noisy = run(ser_dir, 1)
    _same(noisy, run(ser_dir, 5, output="5.tsv"))
    assert list(noisy[0]) == OWN + ["epoch"]
    clean = run(ser_dir, 5, scp="spk1.scp", output="clean.tsv")
    assert [r["id"] for r in clean] == [r["id"] for r in noisy] and clean != noisy
    model = TSESER.from_pretrained(ser_dir)
    signal, _ = soundfile.read(read_table(tiny_mixtures / "mix" / "spk1.scp")[clean[0]["id"]])
    expected = model(signal).probabilities
    for label in LABELS:
        assert float(clean[0][f"p_{label}"]) == pytest.approx(expected[label], abs=1e-5)


def test_epochs_are_said(run, tmp_path, ser_dir):
    """Those of the weights that were used: of one choice, or of the best in UA and in WA."""
    model_dir = shutil.copytree(ser_dir, tmp_path / "model")
    (model_dir / "valid.ua.best.pth").rename(model_dir / "12epoch.pth")
    state = torch.load(model_dir / "12epoch.pth", weights_only=True)
    torch.save({name: -value for name, value in state.items()}, model_dir / "7epoch.pth")
    for name, epoch in (("ua", 12), ("wa", 7)):
        (model_dir / f"valid.{name}.best.pth").symlink_to(f"{epoch}epoch.pth")
    rows = run(model_dir, 5)
    assert list(rows[0]) == [*OWN, "epoch"] and {row["epoch"] for row in rows} == {"12"}
    both = run(model_dir, 5, more=["--by_ua_and_wa"], output="both.tsv")
    assert list(both[0]) == [*OWN, "epoch", "hypothesis_wa", "epoch_wa"]
    assert {(row["epoch"], row["epoch_wa"]) for row in both} == {("12", "7")}
    assert [{k: row[k] for k in rows[0]} for row in both] == rows
    assert any(row["hypothesis"] != row["hypothesis_wa"] for row in both)
    assert {row["epoch"] for row in run(ser_dir, 5, output="n.tsv")} == {"n/a"}


def test_errors_leave_no_table(run, tmp_path, tse_dir, ser_dir, joint_dir, tiny_mixtures):
    ids = tmp_path / "ids.lst"
    ids.write_text("t0-0ang\nx-1\n")
    with pytest.raises(UserError, match=r"wav.scp: 1 of 2 id\(s\) are missing, first 'x-1'"):
        run(ser_dir, 5, ids=ids)
    with pytest.raises(UserError, match="none.lst: no such list of ids; run stage 2"):
        run(ser_dir, 5, ids=tmp_path / "none.lst")
    with pytest.raises(UserError, match="is neither a joint nor a SER model"):
        run(tse_dir, 5)
    with pytest.raises(UserError, match="none.scp: no such file"):
        run(ser_dir, 5, scp="none.scp")
    ids.write_text("t0-0ang\n")
    short = tmp_path / "short.wav"
    soundfile.write(short, [0.1] * 20, 16000)
    write_table(tmp_path / "short.scp", {"t0-0ang": short})
    with pytest.raises(UserError, match=r"short.wav: 20 samples .* are too short"):
        run(joint_dir, 1, scp=tmp_path / "short.scp", ids=ids)
    assert not (tmp_path / "hyp.tsv").exists()


@pytest.fixture
def own(tmp_path, tiny_mixtures):
    """A copy of the mixture directory, to be changed."""
    return shutil.copytree(tiny_mixtures / "mix", tmp_path / "own")


def _run_on(data_dir, model_dir, ids, output, *more):
    options = [f"--model_dir={model_dir}", f"--data_dir={data_dir}", f"--scp={data_dir}/wav.scp"]
    recognize.main([*options, f"--ids={ids}", f"--output={output}", *more])
    return read_tsv(output)


def test_a_wrong_speaker_is_known_or_there_is_no_score(own, tmp_path, joint_dir, ser_dir):
    ids = tmp_path / "ids.lst"
    ids.write_text("t0-0ang\nt1-0ang\n")
    (whole, _), table = (
        _run_on(own, joint_dir, ids, tmp_path / "w.tsv"),
        read_table(own / "spk2.scp"),
    )
    write_table(own / "spk2.scp", {u: p for u, p in table.items() if u != "t0-0ang"})
    for spoil in (lambda: None, (own / "spk2.scp").unlink):
        spoil()
        with pytest.raises(UserError, match="spk2.scp: .*'t0-0ang'"):
            _run_on(own, joint_dir, ids, tmp_path / "hyp.tsv")
    _run_on(own, ser_dir, ids, tmp_path / "ser.tsv")  # scores nothing
    (own / "mixtures.tsv").unlink()
    rows = _run_on(own, joint_dir, ids, tmp_path / "hyp.tsv")
    assert [row["wrong_speaker"] for row in rows] == ["", ""]
    assert whole | {"wrong_speaker": ""} == rows[0]


def test_the_output_is_no_input(own, tmp_path, joint_dir):
    ids = tmp_path / "ids.lst"
    ids.write_text("t0-0ang\n")
    (tmp_path / "link.tsv").symlink_to(ids)
    for output in (ids, own / "wav.scp", tmp_path / "link.tsv"):
        with pytest.raises(UserError, match="--output .*: is an input as well"):
            _run_on(own, joint_dir, ids, output)
    with pytest.raises(UserError, match="--output_audio .*: is an input as well"):
        _run_on(own, joint_dir, ids, tmp_path / "hyp.tsv", f"--output_audio={own}")
    path = tmp_path / "audio" / "t0-0ang.flac"  # a mixture where its extracted speech would be
    path.parent.mkdir()
    shutil.copy(read_table(own / "wav.scp")["t0-0ang"], path)
    write_table(own / "wav.scp", {"t0-0ang": path})
    with pytest.raises(UserError, match="--output_audio .*t0-0ang.flac: is an input as well"):
        _run_on(own, joint_dir, ids, tmp_path / "hyp.tsv", f"--output_audio={path.parent}")


def test_an_unknown_label(run, tmp_path, ser_config):
    import yaml

    from espnet_tse_ser.models.build_ser import build_ser_model

    config = ser_config | {"labels": ["ang", "hap", "neu"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(build_ser_model(config).state_dict(), tmp_path / "valid.ua.best.pth")
    with pytest.raises(UserError, match="unknown emotion 'sad'; known: ang hap neu"):
        run(tmp_path, 5)
