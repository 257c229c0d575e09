"""Presence of the target by windows of a recording, as its calibration has it."""

import numpy as np
import pytest
import soundfile
import torch

from espnet_tse_ser.audio.reading import resample
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.calibration import Calibration
from espnet_tse_ser.inference.evidence import FEATURES, evidence
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.presence import (
    HOP_SECONDS,
    WINDOW_SECONDS,
    present_by_frame,
    two_groups,
)
from espnet_tse_ser.inference.recording import Recording
from espnet_tse_ser.inference.timeline import default_thresholds, find_parts
from espnet_tse_ser.inference.voices import Voices

RATE, FRAME = 16000, 320
HOW = {
    "window_seconds": 4,
    "segment_seconds": 2,
    "presence_db": -200,
    "floor_db": 200,
    "least_similarity": None,
}


def _noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def _calibrated(joint_dir, bias=0.0, **weights):
    model = TSESER.from_pretrained(joint_dir)
    found = dict.fromkeys(FEATURES, 0.0) | {"bias": bias} | weights
    model.calibration = Calibration("", 1.0, found, {})
    return model


@pytest.mark.parametrize("seconds", [0.5, 1.5, 5.1])
def test_a_frame_has_the_mean_of_its_windows(joint_dir, seconds):
    model, enrollment = _calibrated(joint_dir, level=1.0, voice=2.0), _noise(1, 7)
    pair = np.stack(
        [_noise(seconds, 1), _noise(seconds, 2) * np.linspace(0.1, 2, len(_noise(seconds)))]
    )
    pair = pair.astype(np.float32)
    num_frames = pair.shape[1] // FRAME
    found, similar, windows = present_by_frame(
        model,
        enrollment,
        lambda first, end: pair[:, first:end],
        np.ones(num_frames, bool),
        FRAME,
    )
    size, hop = int(WINDOW_SECONDS * 50), int(HOP_SECONDS * 50)
    starts = sorted({*range(0, max(num_frames - size, 0), hop), max(num_frames - size, 0)})
    embedding = model.embeddings()([enrollment])
    expected, voices = ([[] for _ in range(num_frames)] for _ in range(2))
    for start in starts:  # one by one
        window = pair[:, start * FRAME : min(start + size, num_frames) * FRAME]
        given = [window[0]], [window[1]], [enrollment], embedding, RATE
        measured = dict(
            zip(FEATURES, evidence(model.model.tse_model, model.voices, *given)[0], strict=True)
        )
        logit = measured["level"] + 2 * measured["voice"]
        for frame in range(start, min(start + size, num_frames)):
            expected[frame].append(1 / (1 + np.exp(-logit)))
            voices[frame].append(measured["mixture_voice"])
    assert len(windows) == len(starts)
    np.testing.assert_allclose(similar, [np.mean(each) for each in voices], atol=1e-5)
    np.testing.assert_allclose(found, [np.mean(each) for each in expected], atol=1e-5)
    assert seconds < 2 or np.ptp(found) > 0.01


def test_windows_in_which_nothing_is_wanted_are_left_out(joint_dir, monkeypatch):
    asked, model = [], _calibrated(joint_dir, bias=1.0)
    measure = model.measure

    def counted(mixtures, *others):
        asked.extend(mixtures)
        return measure(mixtures, *others)

    monkeypatch.setattr(model, "measure", counted)
    pair = np.stack([_noise(10), _noise(10, 1)])
    wanted = np.zeros(500, bool)
    wanted[300:310] = True
    found, similar, windows = present_by_frame(
        model, _noise(1), lambda a, b: pair[:, a:b], wanted, FRAME
    )
    assert similar[:200].max() == 0 == similar[400:].max() and similar[305] > 0
    assert len(windows) == len(asked)
    assert 2 <= len(asked) <= 4 and found[:200].max() == 0 == found[400:].max()
    np.testing.assert_allclose(found[300:310], 1 / (1 + np.exp(-1.0)), atol=1e-6)
    wanted[:] = False
    *tracks, windows = present_by_frame(model, _noise(1), lambda a, b: pair[:, a:b], wanted, FRAME)
    assert all(track.shape == (500,) and not track.any() for track in tracks) and not len(windows)


def test_a_timeline_has_what_is_probable(joint_dir, tmp_path):
    soundfile.write(tmp_path / "m.wav", _noise(6), RATE, subtype="FLOAT")

    def parts(model, least):
        recording = Recording(tmp_path / "m.wav", RATE)
        how = HOW | {"least_present": least}
        return find_parts(model, recording, _noise(1, 1), tmp_path, **how)[0]

    plain = parts(TSESER.from_pretrained(joint_dir), None)
    assert len(plain) == 3 and [p.target_present for p in plain] == [None] * 3
    likely = parts(_calibrated(joint_dir, bias=2.0), 0.5)
    assert [(p.start, p.end) for p in likely] == [(p.start, p.end) for p in plain]
    expected = pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-6)
    assert all(p.target_present == expected for p in likely)
    unlikely = _calibrated(joint_dir, bias=-1.0)
    assert parts(unlikely, 0.5) == [] and len(parts(unlikely, 0.2)) == 3 == len(
        parts(unlikely, None)
    )
    with pytest.raises(UserError, match="--least_present needs a model with a calibration"):
        parts(TSESER.from_pretrained(joint_dir), 0.5)


def test_two_groups():
    rng = np.random.default_rng(0)
    low, high = 0.6 + 0.05 * rng.standard_normal(40), 0.85 + 0.05 * rng.standard_normal(60)
    least, *means = two_groups(np.concatenate([low, high]))
    assert low.max() - 0.1 < least < high.min() + 0.1
    assert means == pytest.approx([low.mean(), high.mean()], abs=0.02)
    assert two_groups(high) is None and two_groups(rng.uniform(0.5, 0.9, 300)) is None
    assert two_groups(np.full(50, 0.7)) is None and two_groups([0.5, 0.9] * 9) is None


def test_default_thresholds(joint_dir, ser_dir):
    plain = default_thresholds(TSESER.from_pretrained(joint_dir))
    assert plain == {"presence_db": -10, "least_present": None, "least_similarity": 0.5}
    calibrated = default_thresholds(_calibrated(joint_dir))
    assert calibrated == {"presence_db": -30, "least_present": 0.5, "least_similarity": 0.5}
    assert default_thresholds(TSESER.from_pretrained(ser_dir))["least_similarity"] is None


def test_the_level_of_a_recording_does_not_count(joint_dir):
    model, pair = (
        _calibrated(joint_dir, level=1.0, explained=3.0),
        np.stack([_noise(3), _noise(3, 1)]),
    )
    wanted = np.ones(150, bool)
    found = [
        present_by_frame(
            model, _noise(1, 2), lambda a, b, gain=gain: gain * pair[:, a:b], wanted, FRAME
        )[0]
        for gain in (np.float32(1), np.float32(0.01))
    ]
    np.testing.assert_allclose(*found, atol=1e-4)
    assert torch.tensor(found[0]).std() > 0


def _voice(pitch, seconds, seed=0):
    """A rough voice: pulses through two resonances."""
    time = np.arange(round(seconds * RATE)) / RATE
    pulses = np.diff(np.floor(pitch * time + 0.05 * np.sin(9 * time)), prepend=0)
    response = np.arange(800) / RATE
    tract = np.exp(-300 * response) * (
        np.sin(2 * np.pi * 5 * pitch * response) + np.sin(2 * np.pi * 13 * pitch * response)
    )
    speech = np.convolve(pulses, tract)[: len(time)] * (1 + np.sin(2 * np.pi * 3 * time))
    noise = 1e-3 * np.random.default_rng(seed).standard_normal(len(time))
    return (0.05 * speech + noise).astype(np.float32)


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_voices_by_the_speaker_encoder(rate):
    voices = Voices(rate)
    low, high = _voice(100, 4, 1), _voice(230, 4, 1)
    one, same, other = (resample(x, RATE, rate) for x in (low, _voice(100, 3), high))
    found = voices.similar([one, other], [same, same])
    assert found[0] > found[1] + 0.1
    if rate == RATE:
        given = [torch.from_numpy(x - x.mean()) for x in (low, _voice(100, 3))]
        given = [(0.05 * x / x.std(unbiased=False))[None] for x in given]
        one, two = (voices.encoder.embed(x, torch.tensor([x.shape[1]]))[0] for x in given)
        assert found[0] == pytest.approx(float(one @ two), abs=1e-3)


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_a_timeline_leaves_out_other_voices(joint_dir, tmp_path, is_calibrated):
    mixture = np.concatenate([_voice(100, 4), _voice(230, 4)])
    soundfile.write(tmp_path / "m.wav", mixture, RATE, subtype="FLOAT")
    model = TSESER.from_pretrained(joint_dir)
    if is_calibrated:
        model = _calibrated(joint_dir, bias=1.0)

    def parts(least):
        recording = Recording(tmp_path / "m.wav", RATE)
        how = HOW | {"least_present": None, "least_similarity": least}
        return find_parts(model, recording, _voice(100, 3, 1), tmp_path, **how)[0]

    found = parts(0.6)
    assert found and all(p.end < 5 and p.similarity > 0.6 for p in found)
    assert sum(p.end - p.start for p in found) > 2.5
    assert parts(-1)[-1].end > 7.5 and parts(1) == []
    assert [(p.start, p.end) for p in parts(None)] == [(p.start, p.end) for p in parts(-1)]
