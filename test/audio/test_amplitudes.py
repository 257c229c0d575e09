"""What the samples of a usable signal are."""

import re

import numpy as np
import pytest

from espnet_tse_ser.audio.amplitudes import (
    MOST,
    Extremes,
    check_amplitudes,
    check_not_silent,
    check_rate,
)
from espnet_tse_ser.audio.reading import mix_down
from espnet_tse_ser.errors import UserError

NOISE = 0.1 * np.random.default_rng(0).standard_normal((1000, 2)).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1e17, -1e17, 1e30, 1.01 * MOST, -2147483648, 32767])
def test_what_no_recording_has(value, dtype):
    samples = NOISE.astype(dtype)
    samples[7, 1] = value
    for block in (samples, samples[:, 1]):
        with pytest.raises(
            UserError, match=re.escape(f"a.wav: sample 107 is {dtype(value):g}, which no")
        ):
            check_amplitudes(block, "a.wav", 100)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 999])
def test_not_finite(value, place):
    samples = NOISE.copy()
    samples[place, 0] = value
    for block in (samples, samples[:, 0]):
        with pytest.raises(UserError, match=f"a.wav: sample {place} is NaN or infinite"):
            check_amplitudes(block, "a.wav")


def test_over_full_scale_is_usable():
    check_amplitudes(NOISE * 1000, "a")
    check_amplitudes(np.array([-MOST, MOST]), "a")
    check_amplitudes(np.zeros(0), "a")


@pytest.mark.parametrize("offset", [0, 0.1, -0.5, 1000])
@pytest.mark.parametrize("db, usable", [(0, True), (-60, True), (-79, True), (-101, False)])
def test_silence_whatever_the_offset(offset, db, usable):
    sine = np.sin(0.1 * np.arange(2000)) * 10 ** (db / 20) + offset
    if offset < 1000 or db > -90:
        if usable:
            check_not_silent(sine, "a")
        else:
            with pytest.raises(UserError, match="^a: is silent .*; record or fetch it again, or"):
                check_not_silent(sine, "a")


def test_extremes_of_blocks():
    extremes = Extremes()
    assert extremes.is_silent and extremes.swing == 0
    for start in range(0, 1000, 100):
        extremes.add(NOISE[start : start + 100, 0] + 3)
    assert extremes.swing == pytest.approx(np.ptp(NOISE[:, 0]) / 2, rel=1e-5)


@pytest.mark.parametrize("gains", [(1, -1), (1, -0.99), (1, -0.5, -0.5), (1, -1, 1, -1)])
@pytest.mark.parametrize("offset", [0, 0.3])
def test_channels_that_cancel(gains, offset):
    samples = NOISE[:, :1] * np.array(gains) + offset
    with pytest.raises(UserError, match=f"a.wav: its {len(gains)} channels cancel each other"):
        mix_down(samples, "a.wav")


@pytest.mark.parametrize("gains", [(1, 0), (1, 1), (1, -0.9), (0, 0), (0, 0, 1)])
def test_channels_that_do_not_cancel(gains):
    samples = (NOISE[:, :1] * np.array(gains)).astype(np.float32)
    np.testing.assert_allclose(mix_down(samples, "a"), samples.mean(1), atol=1e-8)
    check = np.stack([NOISE[:, 0], NOISE[:, 1]], 1)  # two microphones
    assert mix_down(check, "a").shape == (1000,)


@pytest.mark.parametrize(
    "rate", [16000, 16000.0, "16000", "16e3", np.int16(16000), np.int64(16000), np.float32(16000)]
)
def test_rates(rate):
    assert check_rate(rate, "a") == 16000 and isinstance(check_rate(rate, "a"), int)


@pytest.mark.parametrize(
    "rate",
    [0, -16000, 1, 999, 655351, 1e12, 2**31, 1e308, np.nan, np.inf, -np.inf, True, np.True_]
    + ["", "fast", "nan", None, 16000.5, [16000], (16000,), np.array([1, 2]), 16000j, object()],
)
def test_what_is_no_rate(rate):
    with pytest.raises(UserError, match="a.wav: sampling rate in Hz: expected a whole number"):
        check_rate(rate, "a.wav")
