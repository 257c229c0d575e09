"""Long recordings: equality with the whole, segments, files in blocks, constant memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from tiny_experiments import write_experiment

from espnet_tse_ser import errors
from espnet_tse_ser.audio.reading import read_audio, to_mono
from espnet_tse_ser.bin import infer
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference import recording
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recording import Recording, Segment, overall, recognize_recording
from espnet_tse_ser.metrics.signal import si_sdr
from espnet_tse_ser.models.build_joint import build_joint_model

RATE = 16000


def _noise(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(num_samples)


@pytest.fixture(scope="module")
def joint(joint_dir):
    return TSESER.from_pretrained(joint_dir)


@pytest.fixture
def files(tmp_path):
    """A stereo mixture of 3 s at 44.1 kHz and an enrollment at 16 kHz."""
    soundfile.write(tmp_path / "m.wav", _noise(2 * 132300).reshape(-1, 2), 44100)
    soundfile.write(tmp_path / "e.wav", _noise(4000, 1), RATE)
    return tmp_path


def _read(path):
    return to_mono(*read_audio(path), RATE)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_are_the_whole(tmp_path, monkeypatch, rate, channels):
    monkeypatch.setattr(recording, "_BLOCK_SECONDS", 1)
    path = tmp_path / "m.flac"
    soundfile.write(path, _noise(channels * (3 * rate + 77)).reshape(-1, channels), rate)
    samples, _ = read_audio(path)
    whole = to_mono(samples - samples[:rate].mean(), rate, RATE)  # without a step at its ends
    long = Recording(path, RATE)
    assert long.num_samples == len(whole)
    assert long.seconds == (3 * rate + 77) / rate
    blocks = list(long.blocks())
    assert len(blocks) > 3 and all(b.dtype == np.float32 for b in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), whole - whole.mean(), atol=1e-6)


def test_bad_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "_BLOCK_SECONDS", 1)
    path = tmp_path / "m.wav"
    with pytest.raises(UserError, match="m.wav: no such audio file"):
        Recording(path, RATE)
    soundfile.write(path, np.zeros(50000), RATE)
    with pytest.raises(UserError, match="m.wav: is silent"):
        Recording(path, RATE)
    bad = _noise(50000)
    bad[40007] = np.inf
    soundfile.write(path, bad, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="m.wav: sample 40007 is NaN or infinite"):
        Recording(path, RATE)
    channel = _noise(50000)
    soundfile.write(path, np.stack([channel, -channel], 1), RATE)
    with pytest.raises(UserError, match="m.wav: its 2 channels cancel each other"):
        Recording(path, RATE)
    soundfile.write(path, np.full(50000, 0.5), 8000)
    with pytest.raises(UserError, match="m.wav: is silent"):
        Recording(path, RATE)
    flac = tmp_path / "m.flac"
    soundfile.write(flac, channel, RATE)
    flac.write_bytes(flac.read_bytes()[:-1])
    with pytest.raises(UserError, match="m.flac: the file is cut short or damaged: .* of 50000 sa"):
        Recording(flac, RATE)
    soundfile.write(path, channel, RATE)
    path.write_bytes(path.read_bytes()[:60000])
    with pytest.raises(UserError, match="m.wav: the file is cut short"):
        Recording(path, RATE)


def test_a_header_without_a_length(tmp_path):
    """The length is that of what was decoded."""
    path = tmp_path / "m.flac"
    soundfile.write(path, _noise(50000), RATE)
    expected = _read(path)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO for the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    long = Recording(path, RATE)
    assert (long.num_samples, long.seconds) == (50000, 3.125)
    found = np.concatenate(list(long.blocks()))
    np.testing.assert_allclose(found, expected - expected.mean(), atol=1e-6)


def test_segments_that_are_all_silent(ser_dir, tmp_path):
    soundfile.write(tmp_path / "m.wav", np.repeat([0.1, 0.2, 0.3], RATE), RATE)
    with pytest.raises(UserError, match="m.wav: each of its segments is silent"):
        recognize_recording(
            TSESER.from_pretrained(ser_dir),
            Recording(tmp_path / "m.wav", RATE),
            None,
            None,
            window_seconds=1,
            segment_seconds=1,
        )


def test_one_window_is_the_whole(joint, files):
    """Extracted speech to the bit, as it would be written; emotion of one segment alike."""
    options = {"window_seconds": 60, "segment_seconds": 60}
    (segment,) = recognize_recording(
        joint,
        Recording(files / "m.wav", RATE),
        _read(files / "e.wav"),
        files / "long.wav",
        **options,
    )
    result = joint(_read(files / "m.wav"), _read(files / "e.wav"))
    assert segment.label == result.label and (segment.start, segment.end) == (0, 3)
    assert segment.probabilities == pytest.approx(result.probabilities, abs=1e-6)
    soundfile.write(files / "whole.wav", result.speech, RATE)
    long, whole = (soundfile.read(files / f"{n}.wav", dtype="int16")[0] for n in ("long", "whole"))
    assert len(long) == len(whole) and np.abs(long.astype(int) - whole).max() <= 1


def test_windows_are_near_the_whole(joint, files):
    options = {"window_seconds": 1.2, "segment_seconds": 0.8}
    enrollment = _read(files / "e.wav")
    long = Recording(files / "m.wav", RATE)
    segments = recognize_recording(joint, long, enrollment, files / "o.flac", **options)
    assert [(s.start, s.end) for s in segments] == [(0, 0.75), (0.75, 1.5), (1.5, 2.25), (2.25, 3)]
    written, rate = soundfile.read(files / "o.flac")
    result = joint(_read(files / "m.wav"), enrollment)
    assert rate == RATE and len(written) == len(result.speech) == 48000
    assert si_sdr(result.speech, written) > 25
    # Each emotion is that of its part of what was written, whose level does not matter.
    for segment in segments:
        part = written[int(segment.start * RATE) : int(segment.end * RATE)]
        row = joint.classify({"speech": part.astype(np.float32)})
        assert list(segment.probabilities.values()) == pytest.approx(row, abs=2e-3)
    # Without output the same.
    assert recognize_recording(joint, long, enrollment, None, **options) == segments


def test_a_joint_model_without_an_enrollment(
    tmp_path, files, enhancer_config, joint_config, capsys
):
    """A joint model with our enhancement: in a recording, and by windows of it."""
    config = joint_config | {"tse": enhancer_config}
    torch.manual_seed(3)
    exp = write_experiment(tmp_path / "exp", config, build_joint_model(config), "valid.ua")
    model = TSESER.from_pretrained(exp)
    assert model.inputs == ("mixture",)
    result = model(_read(files / "m.wav"))
    options = [f"--model_dir={exp}", f"--mixture={files}/m.wav", f"--output_wav={files}/o.wav"]
    assert errors.run(infer.main, options) == 0
    short = json.loads(capsys.readouterr().out)
    assert short["probabilities"] == pytest.approx(result.probabilities, abs=1e-4)
    options += ["--window_seconds=1.2", "--segment_seconds=1"]
    assert errors.run(infer.main, options) == 0
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 3
    assert si_sdr(result.speech, soundfile.read(files / "o.wav")[0]) > 25


def test_a_recogniser_alone(ser_dir, files):
    model = TSESER.from_pretrained(ser_dir)
    segments = recognize_recording(
        model,
        Recording(files / "m.wav", RATE),
        None,
        None,
        window_seconds=1,
        segment_seconds=1,
    )
    samples = _read(files / "m.wav")
    for segment, part in zip(segments, np.split(samples, 3), strict=True):
        assert segment.probabilities == pytest.approx(model(part).probabilities, abs=1e-6)


def test_silence_has_no_emotion(joint, tmp_path):
    samples = _noise(48000)
    samples[16000:32000] = 0
    soundfile.write(tmp_path / "m.wav", samples, RATE)
    segments = recognize_recording(
        joint,
        Recording(tmp_path / "m.wav", RATE),
        _noise(4000, 1),
        None,
        window_seconds=1.5,
        segment_seconds=1,
    )
    assert [s.label is None for s in segments] == [False, True, False]
    mean = overall(segments)
    for label in joint.labels:
        expected = (segments[0].probabilities[label] + segments[2].probabilities[label]) / 2
        assert mean[label] == pytest.approx(expected)
    assert overall([Segment(0, 1, {"a": 1.0})]) == {"a": 1.0}


def test_segments_that_are_asked_for_are_given_to_short_recordings_too(files, joint_dir, capsys):
    assert _infer(files, joint_dir, "--segment_seconds=1") == 0
    result = json.loads(capsys.readouterr().out)
    assert [(s["start"], s["end"]) for s in result["segments"]] == [(0, 1), (1, 2), (2, 3)]
    assert _infer(files, joint_dir, "--segment_seconds=3") == 0
    assert "segments" not in json.loads(capsys.readouterr().out)


def _infer(files, joint_dir, *more):
    options = [f"--model_dir={joint_dir}", f"--mixture={files}/m.wav"]
    return errors.run(infer.main, [*options, f"--enrollment={files}/e.wav", *more])


def test_the_command(files, joint_dir, capsys):
    assert _infer(files, joint_dir) == 0
    short = json.loads(capsys.readouterr().out)
    assert {"label", "probabilities", "sample_rate", "seconds"} < set(short)
    assert _infer(files, joint_dir, "--window_seconds=1.5", "--segment_seconds=1") == 0
    long = json.loads(capsys.readouterr().out)
    assert set(long) == set(short) | {"segments"}
    assert (long["sample_rate"], long["seconds"]) == (RATE, 3.0)
    assert [(s["start"], s["end"]) for s in long["segments"]] == [(0, 1), (1, 2), (2, 3)]
    for label, probability in long["probabilities"].items():
        mean = np.mean([s["probabilities"][label] for s in long["segments"]])
        assert probability == pytest.approx(mean, abs=2e-6)
    assert long["label"] == max(long["probabilities"], key=long["probabilities"].get)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--window_seconds=0.5", "--window_seconds 0.5: windows of this model must be 0."),
        ("--segment_seconds=0.1", "--segment_seconds must be 0.2 or more, got 0.1"),
        ("--device=tpu", "--device tpu: is none"),
    ],
)
def test_bad_options(files, joint_dir, capsys, option, message):
    more = [] if option.startswith("--window") else ["--window_seconds=2"]
    output = files / "out" / "o.wav"
    assert _infer(files, joint_dir, *more, option, f"--output_wav={output}") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
    assert not output.exists()


def test_a_full_disk_leaves_nothing(joint, files, monkeypatch):
    class Full(recording._Checked):
        def __init__(self, stream):
            super().__init__(stream)
            self._stream = self._Disk()

        class _Disk:
            def write(self, data):
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording, "_Checked", Full)
    with pytest.raises(OSError, match="No space left"):
        recognize_recording(
            joint,
            Recording(files / "m.wav", RATE),
            _read(files / "e.wav"),
            files / "o.flac",
            window_seconds=2,
            segment_seconds=2,
        )
    assert {path.name for path in files.iterdir()} == {"m.wav", "e.wav"}


def test_memory_does_not_grow_with_the_recording(tmp_path, joint_dir):
    """The peak of a process after a recording of half a minute, and after one of three minutes."""
    soundfile.write(tmp_path / "e.wav", _noise(8000, 1), RATE)
    code = (
        "import resource, sys\n"
        "from espnet_tse_ser.bin import infer\n"
        "for name in ('short', 'short', 'long'):\n"
        "    infer.main([*sys.argv[1:], f'--mixture={name}.flac', f'--output_wav={name}.wav'])\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, end=' peak\\n')\n"
    )
    for name, seconds in (("short", 30), ("long", 180)):
        soundfile.write(tmp_path / f"{name}.flac", np.tile(_noise(8000), seconds), 8000)
    command = [sys.executable, "-c", code, f"--model_dir={joint_dir}", "--enrollment=e.wav"]
    command += ["--window_seconds=6", "--num_threads=1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert soundfile.info(tmp_path / "long.wav").frames == 180 * RATE
    peaks = [line.split()[0] for line in result.stdout.splitlines() if line.endswith(" peak")]
    _, short, long = (int(kilobytes) / 1024 for kilobytes in peaks)
    assert long - short < 7, (short, long)  # MB; the samples alone would be 10 MB more
