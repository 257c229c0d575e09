"""Measures of recordings, and that each remark comes when it should and not otherwise."""

import numpy as np
import pytest
import scipy.signal

from espnet_tse_ser.audio.quality import Quality, measure, remarks, remarks_on

RATE = 16000


def _speech(seconds, rate=RATE, seed=0):
    """Noise with the spectrum's fall and the syllables of speech, peaks at 0.5, ``(n, 1)``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    noise = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(len(time)))
    speech = noise * (0.2 + np.abs(np.sin(2 * np.pi * 2 * time)))
    return (0.5 * speech / np.abs(speech).max())[:, None].astype(np.float32)


def _remarks(samples, kind="enrollment", rate=RATE):
    found = remarks(measure(samples, rate), kind, "x.wav", RATE)
    assert all(text.startswith(f"{kind} ") and text.endswith(" (x.wav)") for text in found)
    return [text.removeprefix(f"{kind} ").partition(":")[0] for text in found]


@pytest.mark.parametrize("kind", ["enrollment", "mixture"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_speech_needs_no_remark(kind, rate):
    for seconds in (2, 5):
        assert _remarks(_speech(seconds, rate), kind, rate) == []
        assert _remarks(np.repeat(_speech(seconds, rate), 2, axis=1) + 0.3, kind, rate) == []


def test_short():
    assert _remarks(_speech(0.8)) == ["short"] and _remarks(_speech(1.2)) == []
    assert _remarks(_speech(0.4), "mixture") == ["short"]
    assert _remarks(_speech(0.8), "mixture") == []
    text = remarks(measure(_speech(0.8), RATE), "enrollment", "x.wav", RATE)[0]
    assert text == "enrollment short: 0.80 s of sound, 1 s are needed (x.wav)"


def test_mostly_silent():
    faint = 1e-4 * np.random.default_rng(1).standard_normal((8 * RATE, 1))
    spoken = np.concatenate([_speech(1.5), faint[: 3 * RATE]])
    assert _remarks(spoken) == []
    assert _remarks(np.concatenate([_speech(1.5), faint])) == ["mostly silent"]
    spoken = np.concatenate([faint[:RATE], _speech(0.3), faint])
    assert _remarks(spoken) == ["short", "mostly silent"]
    assert measure(spoken, RATE).active_seconds == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("channels", [1, 2])
def test_clipped(channels):
    """At any level, in any channel, at one side or both."""
    speech = np.repeat(_speech(3), channels, axis=1)
    for gain in (1.0, 0.1):
        worst = speech.copy()
        worst[:, -1] = np.clip(3 * worst[:, -1], -0.5, 0.5)
        assert _remarks(gain * worst) == ["clipped"]
        worst[:, -1] = np.minimum(3 * speech[:, -1], 0.5)
        assert _remarks(gain * worst) == ["clipped"]
    assert _remarks(1e-3 * speech.round(1)) == []  # of what is so faint the steps are coarse
    assert measure(speech, RATE).clipped < 1e-3


def test_narrow_band():
    speech = _speech(3, 8000)[:, 0]
    telephone = scipy.signal.resample_poly(speech, 2, 1, window=("kaiser", 9.0))[:, None]
    assert _remarks(telephone) == ["narrow-band"]
    assert _remarks(speech[:, None], rate=8000) == ["narrow-band"]
    assert measure(telephone, RATE).bandwidth == pytest.approx(4000, rel=0.2)
    assert remarks(measure(speech[:, None], 8000), "mixture", "x.wav", 8000) == []  # of the model


def test_blocks_are_the_whole():
    speech = _speech(25)
    quality = Quality(RATE)
    for start in range(0, len(speech), 7 * RATE):
        quality.add(speech[start : start + 7 * RATE])
    whole = measure(speech, RATE)
    assert (quality.seconds, quality.clipped) == (whole.seconds, whole.clipped)
    assert quality.active_seconds == pytest.approx(whole.active_seconds, abs=0.05)
    assert quality.bandwidth == whole.bandwidth


def test_several_signals_are_named():
    found = remarks_on([(_speech(0.4), RATE, "a"), (_speech(2), RATE, "b")], "enrollment", RATE)
    assert found == ["enrollment short: 0.40 s of sound, 1 s are needed (a)"]


def test_less_than_a_frame():
    assert "short" in _remarks(np.full((3, 1), 0.1))
