import logging

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio import formatting
from espnet_tse_ser.audio.formatting import combine_parts, format_part, measure_loudness
from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin.format_audio import main
from espnet_tse_ser.errors import UserError, run

FS = 16000


def noise(seconds, rate=FS, channels=1, level=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return level * rng.standard_normal((round(seconds * rate), channels)).clip(-3, 3)


def make_data_dir(directory, wavs, segments=None, **tables):
    """A data directory of speaker ``a`` with utterances id -> (samples, rate)."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, (samples, rate) in wavs.items():
        paths[name] = directory / f"{name}.wav"
        soundfile.write(paths[name], samples, rate, subtype="PCM_16")
    utts = segments or paths
    write_table(directory / "wav.scp", paths)
    write_table(directory / "utt2spk", dict.fromkeys(utts, "a"))
    write_table(directory / "spk2gender", {"a": "f"})
    if segments:
        write_table(directory / "segments", segments)
    for name, table in tables.items():
        write_table(directory / name, table)
    return directory


def test_audio_becomes_mono_16_khz(tmp_path):
    wavs = {
        "a-fits": (noise(1.0), FS),
        "a-fast": (noise(1.0, 48000), 48000),
        "a-stereo": (noise(1.0, channels=2), FS),
    }
    emo = {"a-fits": "ang", "a-fast": "neu", "a-stereo": "sad"}
    data = make_data_dir(tmp_path / "data", wavs, utt2emo=emo)
    out = tmp_path / "dump"
    format_part(data, out)
    combine_parts(data, out)
    scp = read_table(out / "wav.scp")
    assert scp["a-fits"] == str(data / "a-fits.wav")  # in place
    for utt, path in scp.items():
        samples, rate = soundfile.read(path)
        assert (rate, samples.shape) == (FS, (FS,))
        if utt != "a-fits":
            assert path == str(out / "audio" / f"{utt}.flac")
    assert set(read_table(out / "utt2num_samples").values()) == {"16000"}
    assert read_table(out / "utt2emo") == emo
    assert read_table(out / "spk2utt") == {"a": "a-fast a-fits a-stereo"}
    assert read_table(out / "spk2gender") == {"a": "f"}
    assert not (out / "utt2fold").exists()
    stereo = soundfile.read(data / "a-stereo.wav")[0].mean(axis=1)
    np.testing.assert_allclose(soundfile.read(scp["a-stereo"])[0], stereo, atol=1 / 32768)


def test_segments_are_cut(tmp_path):
    samples = noise(3.0)
    segments = {"a-1": "rec 0.000 1.000", "a-2": "rec 1.250 3.000"}
    data = make_data_dir(tmp_path / "data", {"rec": (samples, FS)}, segments)
    format_part(data, tmp_path / "dump")
    combine_parts(data, tmp_path / "dump")
    assert not (tmp_path / "dump" / "segments").exists()
    assert read_table(tmp_path / "dump" / "utt2num_samples") == {"a-1": "16000", "a-2": "28000"}
    cut, _ = soundfile.read(read_table(tmp_path / "dump" / "wav.scp")["a-2"])
    np.testing.assert_allclose(cut, samples[20000:, 0], atol=1 / 32768)


def test_loudness_is_that_of_the_recommendation(tmp_path):
    # BS.1770: a sine of 997 Hz and full scale in one channel has -3.01 LUFS
    time = np.arange(2 * 48000) / 48000
    sine = np.sin(2 * np.pi * 997 * time)
    assert measure_loudness(sine, 48000) == pytest.approx(-3.01, abs=0.05)
    assert measure_loudness(0.1 * sine, 48000) == pytest.approx(-23.01, abs=0.05)
    data = make_data_dir(tmp_path / "data", {"a-1": (0.1 * sine, 48000)})
    format_part(data, tmp_path / "dump")
    combine_parts(data, tmp_path / "dump")
    lufs = read_table(tmp_path / "dump" / "utt2lufs")["a-1"]
    assert float(lufs) == pytest.approx(-23.01, abs=0.1)
    assert len(lufs.split(".")[1]) == 4


def test_short_utterances_are_dropped_and_named(tmp_path, caplog):
    wavs = {"a-1": (noise(1.0), FS), "a-2": (noise(0.49), FS), "a-3": (noise(0.5), FS)}
    data = make_data_dir(tmp_path / "data", wavs)
    format_part(data, tmp_path / "dump")
    with caplog.at_level(logging.WARNING):
        combine_parts(data, tmp_path / "dump")
    assert "dropped 1 of 3 utterances shorter than 0.5 s: a-2" in caplog.text
    for name in ("wav.scp", "utt2spk", "utt2lufs", "utt2num_samples"):
        assert set(read_table(tmp_path / "dump" / name)) == {"a-1", "a-3"}


def test_quiet_noise_is_dropped_and_named_but_no_quiet_speech(tmp_path, caplog):
    levels = {"n-1": 0.1, "n-2": 2e-4, "n-3": 0}
    wavs = {name: (noise(1.0, level=level), FS) for name, level in levels.items()}
    data = make_data_dir(tmp_path / "data", {**wavs, "n-4": (noise(0.4), FS)})
    with pytest.raises(UserError, match="utterance 'n-2': is too quiet, below -70 LUFS"):
        format_part(data, tmp_path / "dump")
    (data / "utt2spk").rename(data / "utt2group")
    format_part(data, tmp_path / "dump")
    with caplog.at_level(logging.WARNING):
        combine_parts(data, tmp_path / "dump")
    assert "dropped 2 of 4 utterances too quiet for a loudness: n-2 n-3" in caplog.text
    assert "dropped 1 of 4 utterances shorter than 0.5 s: n-4" in caplog.text
    for name in ("wav.scp", "utt2group", "utt2lufs", "utt2num_samples"):
        assert set(read_table(tmp_path / "dump" / name)) == {"n-1"}


def test_too_short_for_a_loudness(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": (noise(0.39), FS)})
    with pytest.raises(UserError, match="'a-1': 0.390 s are too short .*--min_duration"):
        format_part(data, tmp_path / "dump", min_duration=0.1)
    format_part(data, tmp_path / "dump")
    with pytest.raises(UserError, match="every utterance is shorter than 0.5 s"):
        combine_parts(data, tmp_path / "dump")


def test_overshoot_of_the_resampler_is_scaled(tmp_path, caplog):
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(48000) / 48000))
    data = make_data_dir(tmp_path / "data", {"a-1": (square, 48000)})
    with caplog.at_level(logging.INFO):
        format_part(data, tmp_path / "dump")
    assert "a-1: peak 1." in caplog.text
    samples, _ = soundfile.read(tmp_path / "dump" / "audio" / "a-1.flac")
    assert np.abs(samples).max() == pytest.approx(0.99, abs=1e-3)


def count_work(monkeypatch):
    """Count the utterances that are really formatted."""
    done, original = [], formatting._format

    def counting(utt, *args):
        done.append(utt)
        return original(utt, *args)

    monkeypatch.setattr(formatting, "_format", counting)
    return done


def test_rerun_does_only_missing_work(tmp_path, monkeypatch):
    wavs = {f"a-{i}": (noise(0.6, channels=1 + i % 2, seed=i), FS) for i in range(5)}
    data, out = make_data_dir(tmp_path / "data", wavs), tmp_path / "dump"
    done = count_work(monkeypatch)
    format_part(data, out, job=1, num_jobs=2)
    assert done == ["a-0", "a-2", "a-4"]
    with pytest.raises(UserError, match="2 utterances are not formatted yet, the first is 'a-1'"):
        combine_parts(data, out)
    assert not (out / "wav.scp").exists()
    format_part(data, out, job=1, num_jobs=1)  # another number of jobs
    assert done[3:] == ["a-1", "a-3"]
    combine_parts(data, out)
    table = read_table(out / "utt2lufs")
    (out / "audio" / "a-3.flac").unlink()
    soundfile.write(data / "a-0.wav", noise(0.7), FS)  # new content, new stamp
    format_part(data, out)
    assert done[5:] == ["a-0", "a-3"]
    combine_parts(data, out)
    assert read_table(out / "utt2num_samples")["a-0"] == "11200"
    assert read_table(out / "utt2lufs") == table | {"a-0": read_table(out / "utt2lufs")["a-0"]}


def test_changing_the_segments_and_back(tmp_path):
    out = tmp_path / "dump"
    for num_jobs, start, expected in ((1, "0.0", 0), (2, "1.0", FS), (1, "0.0", 0)):
        samples = noise(2.0)
        data = tmp_path / "data"
        if not data.exists():
            make_data_dir(data, {"rec": (samples, FS)}, {"a-1": "rec 0 1"})
        write_table(data / "segments", {"a-1": f"rec {start} {float(start) + 1}"})
        for job in range(1, num_jobs + 1):
            format_part(data, out, job=job, num_jobs=num_jobs)
        combine_parts(data, out)
        cut, _ = soundfile.read(read_table(out / "wav.scp")["a-1"])
        np.testing.assert_allclose(cut, samples[expected : expected + FS, 0], atol=1 / 32768)


def test_killed_job_keeps_what_it_saved(tmp_path, monkeypatch):
    wavs = {f"a-{i}": (noise(0.6, seed=i), FS) for i in range(4)}
    data, out = make_data_dir(tmp_path / "data", wavs), tmp_path / "dump"
    monkeypatch.setattr(formatting, "SAVE_EVERY", 2)
    (data / "a-3.wav").write_bytes(b"not audio")
    with pytest.raises(UserError, match="'a-3': .*a-3.wav: cannot be read as audio"):
        format_part(data, out)
    soundfile.write(data / "a-3.wav", noise(0.6), FS)
    done = count_work(monkeypatch)
    format_part(data, out)
    assert done == ["a-2", "a-3"]


def test_result_does_not_depend_on_the_number_of_jobs(tmp_path):
    wavs = {f"a-{i}": (noise(0.6, 22050, seed=i), 22050) for i in range(5)}
    data = make_data_dir(tmp_path / "data", wavs)
    for num_jobs in (1, 3):
        for job in range(1, num_jobs + 1):
            format_part(data, tmp_path / str(num_jobs), job=job, num_jobs=num_jobs)
        combine_parts(data, tmp_path / str(num_jobs))
    one, three = tmp_path / "1", tmp_path / "3"
    assert (one / "utt2lufs").read_bytes() == (three / "utt2lufs").read_bytes()
    for utt in wavs:
        name = f"audio/{utt}.flac"
        assert (one / name).read_bytes() == (three / name).read_bytes()


def antiphase():
    return noise(1.0) * [1, -1]


def write_nan(path):
    samples = noise(1.0)
    samples[5] = np.nan
    soundfile.write(path, samples, FS, subtype="FLOAT")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda p: p.unlink(), "a-1.wav: no such audio file"),
        (lambda p: p.write_bytes(b"no audio at all"), "a-1.wav: cannot be read as audio"),
        (lambda p: soundfile.write(p, np.zeros(0), FS), "a-1.wav: holds no samples"),
        (write_nan, "a-1.wav: sample 5 is NaN"),
        (lambda p: soundfile.write(p, np.zeros(FS), FS), "a-1.wav: is silent"),
        (lambda p: soundfile.write(p, np.full(FS, 0.1), 8000), "a-1.wav: is silent"),
        (lambda p: soundfile.write(p, antiphase(), FS), "a-1.wav: its 2 channels cancel each oth"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "a-1.wav: the file is cut short"),
        (lambda p: soundfile.write(p, noise(1.0, level=2e-4), FS), "'a-1': is too quiet"),
    ],
)
def test_bad_audio_is_named(tmp_path, spoil, message):
    data = make_data_dir(tmp_path / "data", {"a-1": (noise(1.0), FS)})
    spoil(data / "a-1.wav")
    with pytest.raises(UserError, match=message):
        format_part(data, tmp_path / "dump")
    assert not list(tmp_path.glob("dump/**/*.*"))


@pytest.mark.parametrize("name", ["mkdir {0}/ran; cat {0}/data/a-1.wav |", "|mkdir {0}/ran"])
@pytest.mark.parametrize("segments", [None, {"a-1": "rec 0 1"}])
def test_a_pipe_is_refused(tmp_path, name, segments):
    key = "rec" if segments else "a-1"
    data = make_data_dir(tmp_path / "data", {key: (noise(1.0), FS)}, segments)
    write_table(data / "wav.scp", {key: name.format(tmp_path)})
    message = f"data/wav.scp: line 1: '{key}': .*: pipes are not supported: write a file"
    with pytest.raises(UserError, match=message):
        format_part(data, tmp_path / "dump")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "segment, message",
    [
        ("rec 0.5 1.2", "segment ends at 1.2 s but the recording at 1.000 s"),
        ("other 0 1", "'a-1': recording 'other' is not in wav.scp"),
        ("rec 0.8 0.3", "need 0 <= start < end"),
        ("rec 0.8", "expected 'recording start end'"),
    ],
)
def test_bad_segments_are_named(tmp_path, segment, message):
    data = make_data_dir(tmp_path / "data", {"rec": (noise(1.0), FS)}, {"a-1": segment})
    with pytest.raises(UserError, match=message):
        format_part(data, tmp_path / "dump")


def test_inconsistent_directories(tmp_path):
    data = make_data_dir(tmp_path / "data", {"a-1": (noise(1.0), FS), "a-2": (noise(1.0), FS)})
    write_table(data / "utt2spk", {"a-1": "a"})
    with pytest.raises(UserError, match="such as 'a-2', are not in utt2spk"):
        format_part(data, tmp_path / "dump")
    write_table(data / "utt2spk", {"a-1": "a", "a-2": "b"})
    format_part(data, tmp_path / "dump")
    with pytest.raises(UserError, match="spk2gender: has no line for 'b'"):
        combine_parts(data, tmp_path / "dump")


def test_command_line(tmp_path, capsys):
    data = make_data_dir(tmp_path / "data", {f"a-{i}": (noise(1.0), FS) for i in range(2)})
    options = ["--data_dir", str(data), "--output_dir", str(tmp_path / "dump"), "--nj", "2"]
    assert run(main, [*options, "--job", "1"]) == 0
    assert run(main, [*options, "--combine"]) == 2
    assert "the first is 'a-1'" in capsys.readouterr().err
    assert run(main, [*options, "--job", "2"]) == 0
    assert run(main, [*options, "--combine"]) == 0
    assert len(read_table(tmp_path / "dump" / "wav.scp")) == 2
    assert run(main, [*options, "--job", "3"]) == 2
    assert "the job must lie in 1 to nj" in capsys.readouterr().err
