"""Stage 7: the denoised set, in jobs, restartable."""

import shutil

import numpy as np
import pytest
import soundfile
import tiny_espnet
import torch

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.audio.reading import write_audio
from espnet_tse_ser.bin import extract
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import extract as extract_signals
from espnet_tse_ser.frontends.loading import load_front_end, take_model


@pytest.fixture
def run(tmp_path, tse_dir, tiny_mixtures):
    def run(*further, data_dir=tiny_mixtures / "mix", output_dir=tmp_path / "denoised"):
        options = [f"--model_dir={tse_dir}", f"--data_dir={data_dir}", f"--output_dir={output_dir}"]
        extract.main([*options, *map(str, further)])
        return output_dir

    return run


def test_jobs_together_make_a_data_directory(run, tmp_path, tse_dir, tiny_mixtures):
    for job in (1, 2, 3):
        output_dir = run("--job", job, "--nj", 3)
    (output_dir / ".tmp.1.source.json").touch()  # of a job that was killed
    run("--combine", "--nj", 3)
    source = tiny_mixtures / "mix"
    mixtures, enrollments = read_table(source / "wav.scp"), read_table(source / "enroll_spk1.scp")
    denoised = read_table(output_dir / "wav.scp")
    assert list(denoised) == list(mixtures)
    front_end = load_front_end(tse_dir)
    for utt in list(denoised)[::7]:
        signal, rate = soundfile.read(denoised[utt], dtype="float32")
        mixture, enrollment = (
            soundfile.read(t[utt], dtype="float32")[0] for t in (mixtures, enrollments)
        )
        assert rate == 16000 and signal.shape == mixture.shape
        (expected,) = extract_signals(front_end, [mixture], [enrollment])
        np.testing.assert_allclose(signal, expected, atol=1.1 / 32768)
    for path in source.iterdir():
        if path.is_file() and path.name != "wav.scp":
            assert (output_dir / path.name).read_bytes() == path.read_bytes()
    assert not list(output_dir.glob(".tmp.*"))


def test_what_is_there_is_not_extracted_again(run, caplog):
    output_dir = run()
    audio = sorted((output_dir / "audio").iterdir())
    audio[3].unlink()
    audio[5].write_bytes(b"")
    before = {p: p.stat().st_mtime_ns for p in audio if p not in (audio[3], audio[5])}
    with caplog.at_level("INFO"):
        run("--batch_size", 1)
    assert "2 extracted" in caplog.text and audio[3].exists() and audio[5].stat().st_size > 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_job_that_goes_on_gives_the_same_to_the_bit(run, monkeypatch):
    estimates = {}

    def write(path, estimate, rate):
        path.parent.mkdir(exist_ok=True)
        path.write_text("written")
        estimates[path] = estimate

    monkeypatch.setattr("espnet_tse_ser.audio.reading.write_audio", write)
    run()
    whole, lost = dict(estimates), sorted(estimates)[3::4]
    for path in lost:
        path.unlink()
    estimates.clear()
    run()
    assert sorted(estimates) == lost
    assert all(np.array_equal(estimates[path], whole[path]) for path in lost)


def test_other_weights_are_not_mixed_with_what_is_there(run, tse_dir, tmp_path):
    output_dir = run()
    state = torch.load(tse_dir / "valid.loss.best.pth", weights_only=True)
    torch.save({k: v + 0.1 for k, v in state.items()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="extracted with other .*other.pth; remove it"):
        run("--weights", tmp_path / "other.pth", output_dir=output_dir)


def test_a_rate_that_is_none(run, tmp_path, tse_dir):
    for path in tse_dir.iterdir():
        shutil.copy(path, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("sample_rate: 16000", "sample_rate: 16k"))
    with pytest.raises(UserError, match="config.yaml: sample_rate: expected a whole number of 1"):
        run("--model_dir", tmp_path)


def test_no_such_weights(run, tmp_path):
    with pytest.raises(UserError, match="--weights .*none.pth: no such file"):
        run("--weights", tmp_path / "none.pth")


def test_batch_size_does_not_matter(run, tmp_path):
    one, five = (run("--batch_size", n, output_dir=tmp_path / str(n)) for n in (1, 5))
    for path in (one / "audio").iterdir():
        first, second = (soundfile.read(d / "audio" / path.name)[0] for d in (one, five))
        np.testing.assert_allclose(first, second, atol=1.1 / 32768)


def test_the_output_is_no_input(run, tmp_path, tiny_mixtures):
    shutil.copytree(tiny_mixtures / "mix", tmp_path / "mix")
    (tmp_path / "link").symlink_to(tmp_path / "mix")
    for name in ("mix", "link", "mix/../mix"):
        for more in ((), ("--combine",)):
            with pytest.raises(UserError, match="--output_dir .*: is an input as well"):
                run(*more, data_dir=tmp_path / "mix", output_dir=tmp_path / name)


def test_a_job_that_is_none(run):
    with pytest.raises(UserError, match="--job 5 --nj 2: the job must lie in 1 to nj"):
        run("--job", 5, "--nj", 2)


def test_a_length_that_is_not_that_of_the_audio(run, tmp_path, tiny_mixtures):
    for name in ("wav.scp", "enroll_spk1.scp", "utt2num_samples"):
        table = dict(list(read_table(tiny_mixtures / "mix" / name).items())[:2])
        first = next(iter(table))
        if name == "utt2num_samples":
            table[first] = int(table[first]) - 1
        write_table(tmp_path / "data" / name, table)
    with pytest.raises(
        UserError, match=rf"'{first}': .* has \d+ samples, but utt2num_samples says"
    ):
        run(data_dir=tmp_path / "data")


def test_an_estimate_that_is_not_finite(run, tmp_path, tse_dir):
    state = torch.load(tse_dir / "valid.loss.best.pth", weights_only=True)
    broken = {k: torch.full_like(v, 1e38) if v.is_floating_point() else v for k, v in state.items()}
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(UserError, match=r"^t\d.*: what the model gives for it is NaN or infinite"):
        run("--weights", tmp_path / "broken.pth")


def test_unfinished(run):
    with pytest.raises(UserError, match=r"flac and 39 more are not extracted; run stage 7"):
        run("--combine")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full(500, 0.1), r"bad.wav: 500 samples \(0.031 s\) are too short"),
        (np.zeros(5000), "bad.wav: is silent"),
        (None, "bad.wav: no such audio file"),
    ],
)
@pytest.mark.parametrize("kind", ["wav.scp", "enroll_spk1.scp"])
def test_errors_name_the_file(run, tmp_path, tiny_mixtures, kind, samples, message):
    data_dir = tmp_path / "data"
    bad = tmp_path / "bad.wav"
    if samples is not None:
        write_audio(bad, samples, 16000)
    for name in ("wav.scp", "enroll_spk1.scp", "utt2num_samples"):
        table = dict(list(read_table(tiny_mixtures / "mix" / name).items())[:2])
        if name == kind:
            table[list(table)[0]] = bad
        write_table(data_dir / name, table)
    with pytest.raises(UserError, match=message):
        run(data_dir=data_dir)
    assert [p.name for p in (tmp_path / "denoised").iterdir()] == ["source.json"]


def test_no_enrollment(run, tmp_path, tiny_mixtures):
    for name in ("wav.scp", "enroll_spk1.scp", "utt2num_samples"):
        table = dict(list(read_table(tiny_mixtures / "mix" / name).items())[:2])
        last = list(table)[-1]
        if name == "enroll_spk1.scp":
            del table[last]
        write_table(tmp_path / "data" / name, table)
    with pytest.raises(UserError, match=f"no enrollment for '{last}'; run stage 4 again"):
        run(data_dir=tmp_path / "data")


def test_enhancement_needs_no_enrollment(run, tmp_path, tiny_mixtures):
    config = tiny_espnet.enh("tcn", tiny_espnet.TCN)
    take_model(tiny_espnet.write(tmp_path / "enh", config), tmp_path / "exp", 16000)
    for name in ("wav.scp", "utt2num_samples"):
        table = dict(list(read_table(tiny_mixtures / "mix" / name).items())[:3])
        write_table(tmp_path / "data" / name, table)
    for more in ((), ("--combine",)):
        run("--model_dir", tmp_path / "exp", *more, data_dir=tmp_path / "data")
    denoised = read_table(tmp_path / "denoised/wav.scp")
    front_end = load_front_end(tmp_path / "exp")
    for utt, path in read_table(tmp_path / "data/wav.scp").items():
        (expected,) = extract_signals(front_end, [soundfile.read(path, dtype="float32")[0]])
        signal, _ = soundfile.read(denoised[utt], dtype="float32")
        np.testing.assert_allclose(signal, expected, atol=1.1 / 32768)
    (tmp_path / "enh/config.yaml").unlink()
    with pytest.raises(UserError, match="enh/config.yaml: is gone since"):
        run("--model_dir", tmp_path / "exp", data_dir=tmp_path / "data")
