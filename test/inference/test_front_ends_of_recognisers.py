"""A recogniser alone behind a front-end: arrays, files, recordings by windows."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from tiny_formatted import voice

from espnet_tse_ser import errors
from espnet_tse_ser.bin import infer
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.frontends.front_end import FrontEnd
from espnet_tse_ser.frontends.loading import load_front_end
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recording import Recording, recognize_recording


class Halved(FrontEnd):
    """A front-end from elsewhere: half of each sample, and of a second before; as a filter does."""

    needs_enrollment = False

    def enhance(self, mixtures, lengths, enrollments=None):
        before = mixtures.roll(self.rate // 2, dims=1)
        before[:, : self.rate // 2] = 0
        return 0.5 * mixtures + 0.5 * before


@pytest.fixture
def mixture(tmp_path):
    """Twelve seconds of a voice and noise, and its file."""
    rng = np.random.default_rng(0)
    samples = voice(rng, 120, 12 * 16000) + 0.02 * rng.standard_normal(12 * 16000)
    soundfile.write(tmp_path / "m.wav", samples, 16000, subtype="FLOAT")
    return soundfile.read(tmp_path / "m.wav", dtype="float32")[0], tmp_path / "m.wav"


def test_speech_is_what_the_front_end_makes(ser_dir, enhancer_dir, mixture):
    front_end = load_front_end(enhancer_dir)
    plain = TSESER.from_pretrained(ser_dir)
    model = TSESER.from_pretrained(ser_dir, front_end=front_end)
    samples = mixture[0][:16000]
    samples = samples - samples.mean()
    (denoised,) = extract(front_end, [samples])
    found, expected = model(samples), plain(denoised)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert found.probabilities != pytest.approx(plain(samples).probabilities, abs=1e-4)
    with pytest.raises(UserError, match="leave out the one that is given"):
        model(samples, speech=denoised)


def test_a_front_end_that_does_not_fit(ser_dir, joint_dir, enhancer_dir):
    front_end = load_front_end(enhancer_dir)
    with pytest.raises(UserError, match="a joint model has a front-end of its own"):
        TSESER.from_pretrained(joint_dir, front_end=front_end)
    with pytest.raises(UserError, match="front-end is for 8000 Hz, the recogniser for 16000 Hz"):
        TSESER.from_pretrained(ser_dir, front_end=Halved(8000))


def test_one_that_needs_an_enrollment(ser_dir, tse_dir, mixture):
    model = TSESER.from_pretrained(ser_dir, front_end=load_front_end(tse_dir))
    samples = mixture[0][:16000]
    with pytest.raises(UserError, match="needs an enrollment of it"):
        model(samples)
    assert model(samples, mixture[0][16000:32000]).label in model.labels


@pytest.mark.parametrize("own", [True, False])
def test_a_recording_by_windows(ser_dir, enhancer_dir, mixture, own):
    """As the whole of it, but for the edges of windows where a network's sight is not known."""
    samples, path = mixture
    front_end = load_front_end(enhancer_dir) if own else Halved(16000)
    model = TSESER.from_pretrained(ser_dir, front_end=front_end)
    how = {"segment_seconds": 4.0}
    whole = recognize_recording(model, Recording(path, 16000), None, None, window_seconds=20, **how)
    cut = recognize_recording(model, Recording(path, 16000), None, None, window_seconds=6, **how)
    assert [(s.start, s.end) for s in cut] == [(0, 4), (4, 8), (8, 12)]
    for one, other in zip(whole, cut, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02 if own else 1e-4)
    with pytest.raises(UserError, match="--window_seconds"):
        recognize_recording(model, Recording(path, 16000), None, None, window_seconds=0.05, **how)


def test_the_command(ser_dir, enhancer_dir, tse_dir, mixture, tmp_path, capsys, caplog):
    samples, path = mixture
    options = {"model_dir": ser_dir, "mixture": path, "front_end": enhancer_dir}
    command = [f"--{name}={value}" for name, value in options.items()]
    output = tmp_path / "out.wav"
    assert errors.run(infer.main, [*command, f"--output_wav={output}"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = TSESER.from_pretrained(ser_dir, front_end=load_front_end(enhancer_dir))
    assert found["probabilities"] == pytest.approx(model(samples).probabilities, abs=1e-5)
    (expected,) = extract(model.front_end, [samples - samples.mean()])
    written, _ = soundfile.read(output)
    np.testing.assert_allclose(written, expected, atol=1.1 / 32768)

    for more, message in (
        ([f"--front_end={tse_dir}"], f"{tse_dir} extracts the target and needs --enrollment"),
        ([f"--speech={path}"], "--front_end gives the speech: leave out --speech"),
    ):
        for seconds in (6, 60):
            assert errors.run(infer.main, [*command, *more, f"--window_seconds={seconds}"]) == 2
            assert message in capsys.readouterr().err

    # The remark on what a recogniser is trained on, unless it gets that.
    exp = shutil.copytree(ser_dir, tmp_path / "exp")
    (exp / "config.yaml").write_text((exp / "config.yaml").read_text() + "condition: denoised\n")
    for directory, further, warns in (
        (exp, [], True),
        (exp, command[2:], False),
        (ser_dir, [], False),
    ):
        caplog.clear()
        assert errors.run(infer.main, [f"--model_dir={directory}", command[1], *further]) == 0
        said = f"{exp} was trained on denoised speech, but gets the recording as it is; --front_e"
        assert [said in message for message in caplog.messages] == [True] * warns

    capsys.readouterr()
    assert errors.run(infer.main, [*command, "--window_seconds=6", f"--output_wav={output}"]) == 0
    assert len(json.loads(capsys.readouterr().out)["segments"]) == 3
    assert len(soundfile.read(output)[0]) == len(samples)
