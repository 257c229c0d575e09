"""Timelines: presence by a rule, parts, their emotions, stretches of files, constant memory."""

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.frames import Frames
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recording import Recording
from espnet_tse_ser.inference.timeline import find_parts, presence, read_stretch, stretches

RATE = 16000
OPTIONS = {
    "window_seconds": 6,
    "segment_seconds": 2,
    "presence_db": -10,
    "floor_db": 30,
    "least_present": None,
    "least_similarity": None,
}


def _noise(seconds, gain=0.1, seed=0):
    return gain * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


class Known:
    """A front-end that knows the target: what is above 4 kHz is not its, halved and delayed."""

    needs_enrollment, sets_level, rate, device = False, False, RATE, "cpu"

    def enhance(self, mixtures, lengths, enrollments=None):
        import torch

        spectra = torch.fft.rfft(mixtures)
        spectra[:, spectra.shape[1] // 2 :] = 0
        return 0.5 * torch.fft.irfft(spectra, mixtures.shape[1])


def _low(signal):
    """Without what is above 4 kHz."""
    spectrum = np.fft.rfft(signal)
    spectrum[len(spectrum) // 2 :] = 0
    return np.fft.irfft(spectrum, len(signal))


def _high(signal):
    return signal - _low(signal)


@pytest.fixture
def dialogue(tmp_path):
    """20 s: the target from 3 to 6.5 s and from 12 to 15 s, the other from 5 to 14 s."""
    target, other = _low(_noise(20)), _high(_noise(20, seed=1))
    time = np.arange(20 * RATE) / RATE
    target[~(((3 <= time) & (time < 6.5)) | ((12 <= time) & (time < 15)))] = 0
    other[(time < 5) | (time >= 14)] = 0
    soundfile.write(tmp_path / "d.wav", target + other, RATE)
    return tmp_path / "d.wav"


def test_who_speaks_when(dialogue, ser_dir, tmp_path):
    model = TSESER.from_pretrained(ser_dir, front_end=Known())
    parts, frames, _ = find_parts(model, Recording(dialogue, RATE), None, tmp_path, **OPTIONS)
    assert list(tmp_path.iterdir()) == [dialogue]
    found = np.zeros(len(frames.energies), bool)
    for part in parts:
        assert part.end - part.start <= 2 and part.similarity is None
        assert -10 <= part.presence_db < 1
        found[round(part.start * 50) : round(part.end * 50)] = True
    time = (np.arange(len(found)) + 0.5) / 50
    truth = ((3 <= time) & (time < 6.5)) | ((12 <= time) & (time < 15))
    assert (found & truth).sum() / truth.sum() > 0.95  # recall
    assert (found & truth).sum() / found.sum() > 0.9  # precision
    # The emotion is that of what is extracted there.
    samples = soundfile.read(dialogue, dtype="float32")[0]
    speech = _low(samples - samples.mean())
    part = parts[0]
    row = model.classify({"speech": speech[int(part.start * RATE) : int(part.end * RATE)]})
    assert list(part.probabilities.values()) == pytest.approx(row, abs=0.02)


def test_a_target_that_is_never_there(dialogue, ser_dir, tmp_path):
    model = TSESER.from_pretrained(ser_dir, front_end=Known())
    how = OPTIONS | {"presence_db": 100}
    assert find_parts(model, Recording(dialogue, RATE), None, tmp_path, **how)[0] == []
    with pytest.raises(UserError, match="--least_similarity: the model takes no enrollment"):
        find_parts(
            model, Recording(dialogue, RATE), None, tmp_path, **how | {"least_similarity": 0}
        )


def test_what_has_no_timeline(dialogue, ser_dir, tmp_path):
    recording = Recording(dialogue, RATE)
    with pytest.raises(UserError, match="a timeline is of what a target says"):
        find_parts(TSESER.from_pretrained(ser_dir), recording, None, tmp_path, **OPTIONS)
    model = TSESER.from_pretrained(ser_dir, front_end=Known())
    with pytest.raises(UserError, match="--segment_seconds must be 0.3 or more"):
        find_parts(model, recording, None, tmp_path, **OPTIONS | {"segment_seconds": 0.2})


def test_frames_do_not_depend_on_the_pieces():
    pair = np.stack([_noise(3), _noise(3, 0.02, 1)]).astype(np.float32)
    whole, pieces = Frames(16000), Frames(16000)
    whole.add(*pair)
    for piece in np.array_split(pair, 7, axis=1):
        pieces.add(*piece)
    assert whole.finish() == pytest.approx(pieces.finish(), rel=1e-5)
    np.testing.assert_allclose(whole.energies, pieces.energies, rtol=1e-4)
    assert whole.energies.shape == (150, 2) and whole.peaks.shape == (150, 2)
    assert whole.energies[:, 0].mean() == pytest.approx(0.01, rel=0.05)


def test_presence_is_of_energy_and_not_of_the_level():
    energies = np.array([[1.0, 0.5]] * 100 + [[1.0, 1e-3]] * 100 + [[1e-9, 1e-9]] * 100)
    for gain in (1, 100):
        against_mixture, against_loud = presence(gain * energies, 50)
        middles = against_mixture[[50, 150, 250]].round()
        assert middles.tolist() == [-3, -30, 0]
        assert against_loud[250] < -80 and against_loud[50] == pytest.approx(0, abs=0.1)


def test_stretches():
    def of(text, rate=10):
        return stretches(np.array([c == "x" for c in text]), rate)

    assert of("") == [] and of("....") == [] and of("xx") == []
    assert of("xxxx") == [(0, 4)] and of("xx..xx") == [(0, 6)]
    assert of("xxx...xxx.") == [(0, 3), (6, 9)]


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_stretch_of_a_file(tmp_path, rate):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (25 * rate, 2))
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    for start, end in ((0, 1), (9.5, 10.25), (8, 22), (24, 25)):
        found, found_rate = read_stretch(tmp_path / "a.wav", start, end)
        assert found_rate == rate
        expected = samples[round(start * rate) : round(end * rate)]
        np.testing.assert_allclose(found, expected, atol=1e-7)
    with pytest.raises(UserError, match="a.wav: ends at 25.00 s, before 25.5 s"):
        read_stretch(tmp_path / "a.wav", 24, 25.5)
