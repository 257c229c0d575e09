"""Stage 8: scoring extracted speech."""

import numpy as np
import pytest

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.audio.reading import read_audio, write_audio
from espnet_tse_ser.bin import tse_score
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr, stoi
from espnet_tse_ser.metrics.tables import TSE_COLUMNS

FS = 16000
IDS = ("a", "b", "short")


@pytest.fixture
def dirs(tmp_path):
    """Three mixtures; the estimate of b is the interferer, short is too short for STOI."""
    rng = np.random.default_rng(0)
    tables = {name: {} for name in ("mix", "spk1", "spk2", "est")}
    for uid in IDS:
        samples = 3200 if uid == "short" else FS
        target, interferer = 0.05 * rng.normal(size=(2, samples)).clip(-4, 4)
        estimate = interferer + 0.1 * target if uid == "b" else target + 0.1 * interferer
        signals = dict(mix=target + interferer, spk1=target, spk2=interferer, est=estimate)
        for name, signal in signals.items():
            tables[name][uid] = tmp_path / f"audio/{name}/{uid}.flac"
            write_audio(tables[name][uid], signal, FS)
    data, denoised = tmp_path / "mix", tmp_path / "denoised"
    write_table(data / "wav.scp", tables["mix"])
    write_table(data / "spk1.scp", tables["spk1"])
    write_table(data / "spk2.scp", tables["spk2"])
    write_table(denoised / "wav.scp", tables["est"])
    write_table(data / "utt2emo", dict.fromkeys(IDS, "neu"))
    lengths = {uid: 3200 if uid == "short" else FS for uid in IDS}
    write_table(data / "utt2num_samples", lengths)
    write_mixtures(data, {uid: ["other"] for uid in IDS})
    return data, denoised


def write_mixtures(data, interferers):
    """The part of a mixture table that scoring reads, with these interferers of each mixture."""
    rows = [
        dict(
            mixture=uid,
            speaker="s1" if uid == "a" else "s2",
            interferers=",".join(found),
            fold="1",
            gender_state="same",
            snr_db="0.5",
            level="10" if uid == "b" else "clean",
        )
        for uid, found in interferers.items()
    ]
    write_tsv(data / "mixtures.tsv", rows, list(rows[0]))


def score(dirs, output, nj=1):
    data, denoised = dirs
    paths = [f"--data_dir={data}", f"--denoised_dir={denoised}", f"--output={output}"]
    tse_score.main([*paths, f"--nj={nj}"])
    return read_tsv(output, TSE_COLUMNS)


def test_scores(dirs, tmp_path):
    rows = {row["id"]: row for row in score(dirs, tmp_path / "score_utt.tsv")}
    assert list(rows) == list(IDS)
    for uid, row in rows.items():
        names = ("mix/wav.scp", "mix/spk1.scp", "mix/spk2.scp", "denoised/wav.scp")
        mix, target, other, estimate = (
            read_audio(read_table(tmp_path / name)[uid])[0][:, 0] for name in names
        )
        assert float(row["si_sdr_mix"]) == pytest.approx(si_sdr(target, mix), abs=1e-6)
        assert float(row["si_sdr"]) == pytest.approx(si_sdr(target, estimate), abs=1e-6)
        improvement = float(row["si_sdr"]) - float(row["si_sdr_mix"])
        assert float(row["si_sdri"]) == pytest.approx(improvement, abs=2e-6)
        assert row["wrong_speaker"] == str(int(is_wrong_speaker(estimate, target, [other])))
        if uid != "short":
            assert float(row["stoi"]) == pytest.approx(stoi(target, estimate), abs=1e-6)
    assert [rows[uid]["wrong_speaker"] for uid in IDS] == ["0", "1", "0"]
    assert rows["short"]["stoi"] == rows["short"]["stoi_mix"] == ""
    assert rows["a"]["fold"] == "1" and rows["a"]["snr_db"] == "0.5"


def test_means_by_level(dirs, tmp_path):
    rows = {row["id"]: row for row in score(dirs, tmp_path / "score_utt.tsv")}
    lines = (tmp_path / "SIGNALS.md").read_text().splitlines()
    (columns,) = [line for line in lines if line.startswith("| mixtures")]
    assert columns == (
        "| mixtures | n | SI-SDR in, dB | SI-SDR out, dB | SSNR in, dB | SSNR out, dB "
        "| STOI in | STOI out | TSOS |"
    )
    cells = {line.split(" | ")[0]: line.strip("| ").split(" | ") for line in lines}
    assert [*cells][-3:] == ["| all", "| 10 dB", "| clean"]
    assert cells["| 10 dB"][1] == "1" and cells["| all"][1] == "3"
    assert cells["| 10 dB"][3] == f"{float(rows['b']['si_sdr']):.2f}"
    mean = sum(float(rows[uid]["ssnr"]) for uid in IDS) / 3
    assert cells["| all"][5].startswith(f"{mean:.2f} [")
    assert cells["| all"][7].endswith("] (2)")  # one is too short


def test_number_of_processes_does_not_matter(dirs, tmp_path):
    assert score(dirs, tmp_path / "1.tsv") == score(dirs, tmp_path / "2.tsv", nj=2)


def test_silent_estimate_is_a_bad_score(dirs, tmp_path):
    write_audio(read_table(dirs[1] / "wav.scp")["a"], np.zeros(FS), FS)
    row = score(dirs, tmp_path / "s.tsv")[0]
    assert float(row["si_sdr"]) == -100 and row["wrong_speaker"] == "0"


@pytest.mark.parametrize("nj", [1, 2])
def test_estimate_of_another_length(dirs, tmp_path, nj):
    path = read_table(dirs[1] / "wav.scp")["b"]
    write_audio(path, np.full(FS - 1, 0.1), FS)
    with pytest.raises(
        UserError,
        match="b.flac: 15999 samples.* target has 16000 .*run the stage that writes it again",
    ):
        score(dirs, tmp_path / "s.tsv", nj)
    assert not (tmp_path / "s.tsv").exists()


def test_interferer_of_another_length(dirs, tmp_path):
    samples = 0.1 * np.random.default_rng(1).standard_normal(FS - 1).clip(-4, 4)
    write_audio(read_table(dirs[0] / "spk2.scp")["b"], samples, FS)
    with pytest.raises(UserError, match="spk2/b.flac: has 15999 samples, but utt2num_samples"):
        score(dirs, tmp_path / "s.tsv")


def test_ids_must_agree(dirs, tmp_path):
    table = read_table(dirs[1] / "wav.scp")
    write_table(dirs[1] / "wav.scp", {uid: table[uid] for uid in ("a", "b")})
    with pytest.raises(UserError, match="denoised/wav.scp: its ids .* differ, e.g. short"):
        score(dirs, tmp_path / "s.tsv")


def test_folds_in_directories_of_their_own(dirs, tmp_path):
    data, denoised = dirs
    whole = {row["id"]: row for row in score(dirs, tmp_path / "whole.tsv")}
    table = data / "mixtures.tsv"
    rows = read_tsv(table)
    for row in rows:
        row["fold"] = "2" if row["mixture"] == "b" else "1"
    write_tsv(table, rows, list(rows[0]))
    audio = read_table(denoised / "wav.scp")
    folds = {"1": tmp_path / "fold1/audio", "2": tmp_path / "fold2/audio"}
    write_table(folds["1"] / "wav.scp", {uid: audio[uid] for uid in ("a", "short")})
    write_table(folds["2"] / "wav.scp", {"b": audio["b"]})

    def scored(*options):
        output = f"--output={tmp_path / 's.tsv'}"
        tse_score.main([f"--data_dir={data}", output, "--denoised_dir", *map(str, options)])
        return {row["id"]: row for row in read_tsv(tmp_path / "s.tsv", TSE_COLUMNS)}

    whole["b"]["fold"] = "2"
    assert scored(*folds.values()) == whole
    assert list(scored(folds["2"], "--folds", "2")) == ["b"]
    assert list(scored(folds["1"], "--folds=1")) == ["a", "short"]
    with pytest.raises(UserError, match="fold1/audio/wav.scp: its ids .* differ, e.g. b"):
        scored(folds["1"])
    with pytest.raises(UserError, match="--folds 7: .*mixtures.tsv has no mixture of them"):
        scored(folds["1"], "--folds=7")


def test_no_interferer(dirs, tmp_path):
    (dirs[0] / "spk2.scp").unlink()
    with pytest.raises(UserError, match=r"spk2.scp: no such file, but 'a' has 1 .* run stage 4"):
        score(dirs, tmp_path / "s.tsv")


def test_third_talker_in_some_mixtures(dirs, tmp_path):
    table = read_table(dirs[0] / "spk2.scp")
    write_table(dirs[0] / "spk3.scp", {"a": read_table(dirs[1] / "wav.scp")["a"]})
    with pytest.raises(UserError, match="spk3.scp: has a line too many, of 'a', which has 1"):
        score(dirs, tmp_path / "s.tsv")
    write_mixtures(dirs[0], {"a": ["one", "two"], "b": ["one"], "short": ["one"]})
    rows = score(dirs, tmp_path / "s.tsv")
    # the third talker of a is what was extracted
    assert rows[0]["wrong_speaker"] == "1" and set(table) == {row["id"] for row in rows}


def test_the_output_is_no_input(dirs, tmp_path):
    for name in ("mixtures.tsv", "wav.scp", "spk2.scp"):
        before = (dirs[0] / name).read_bytes()
        with pytest.raises(UserError, match=f"--output .*{name}: is an input as well"):
            score(dirs, dirs[0] / name)
        assert (dirs[0] / name).read_bytes() == before
