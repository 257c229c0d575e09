"""Loudness, compared with pyloudnorm."""

import numpy as np
import pyloudnorm
import pytest

from espnet_tse_ser.audio.loudness import measure_loudness
from espnet_tse_ser.errors import UserError


def speech(rng, num_samples, fs):
    """Noise with pauses and loud bursts, so that both gates shut out some blocks."""
    envelope = 10 ** rng.uniform(-5, -0.5, num_samples // (fs // 5) + 1).repeat(fs // 5)
    envelope[: fs // 5] = 0.1  # never too quiet throughout
    return (envelope[:num_samples] * rng.standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("fs", [8000, 16000, 22050, 44100, 48000])
def test_it_is_that_of_pyloudnorm(fs):
    rng = np.random.default_rng(fs)
    for seconds in (0.4, 0.4499, 0.45, 0.4501, 0.5, 0.75, 1.0, *rng.uniform(0.4, 9, 8)):
        samples = speech(rng, int(np.ceil(seconds * fs)), fs)
        expected = pyloudnorm.Meter(fs).integrated_loudness(samples.astype(np.float64))
        assert measure_loudness(samples, fs) == pytest.approx(expected, abs=1e-9)


def test_a_full_scale_sine():
    time = np.arange(5 * 48000) / 48000
    assert measure_loudness(np.sin(2 * np.pi * 997 * time), 48000) == pytest.approx(-3.01, abs=0.05)


def test_no_loudness():
    with pytest.raises(UserError, match=r"0.399 s are too short to measure loudness"):
        measure_loudness(np.ones(6390), 16000)
    for samples in (np.zeros(16000), 1e-4 * np.random.default_rng(0).standard_normal(16000)):
        with pytest.raises(UserError, match="is too quiet, below -70 LUFS throughout"):
            measure_loudness(samples, 16000)
