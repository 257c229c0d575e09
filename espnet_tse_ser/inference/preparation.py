"""Signals of any rate and number of channels, as the models take them."""

import os

import numpy as np

from espnet_tse_ser.audio.amplitudes import check_amplitudes, check_not_silent, check_rate
from espnet_tse_ser.audio.levels import REFERENCE
from espnet_tse_ser.audio.reading import mix_down, resample
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES


def prepare(samples, rate, name, fs):
    """Mix down and resample one signal, without its offset.

    Args:
        samples: ``(num_samples,)`` or ``(num_samples, num_channels)`` float, full scale is 1.
        rate: in Hz. name: what an error calls the signal. fs: wanted, in Hz.

    Returns:
        ``(num_samples',)`` float32.

    Raises:
        UserError: the signal is empty, silent, too short or no array of this kind, has values that
            no recording has, or channels that cancel each other; the rate is none.
    """
    rate = check_rate(rate, name)
    samples = _as_signal(samples, name)
    check_amplitudes(samples, name)
    # Before the resampler, which goes on with zeros: an offset would be a step to them.
    samples = (samples - samples.mean(axis=0, dtype=np.float64)).astype(np.float32)
    mono = resample(mix_down(samples, name), rate, fs)
    if len(mono) < MIN_SAMPLES:
        raise UserError(
            f"{name}: is too short: {len(mono) / fs:.3f} s, at least {MIN_SAMPLES / fs:.3f} s are "
            "needed; record more"
        )
    check_not_silent(mono, name)
    return mono


def enroll(parts, fs):
    """One enrollment of several of a target: at one level, one after the other.

    Args:
        parts: list of the first arguments of `prepare`. fs: wanted, in Hz.

    Raises:
        UserError: as `prepare`.
    """
    signals = [prepare(*part, fs) for part in parts]
    if len(signals) == 1:
        return signals[0]
    levels = [np.sqrt(np.mean(np.square(s, dtype=np.float64))) for s in signals]
    scaled = [s * (REFERENCE / level) for s, level in zip(signals, levels, strict=True)]
    return np.concatenate(scaled).astype(np.float32)


def _as_signal(samples, name):
    """``samples`` as an array of floats ``(num_samples,)`` or ``(num_samples, num_channels)``."""
    if isinstance(samples, (str, os.PathLike)):
        raise UserError(f"{name}: give its samples, not a name; soundfile.read returns them")
    try:
        samples = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: is no array of samples ({error})") from None
    if samples.size == 0:
        raise UserError(f"{name}: holds no samples")
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise UserError(
            f"{name}: must be floats (num_samples,) or (num_samples, num_channels), got "
            f"{samples.dtype} {samples.shape}; integers are to be divided by the largest of their "
            "type"
        )
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise UserError(
            f"{name}: has {samples.shape[1]} channels of {samples.shape[0]} samples, as it is "
            "read: (num_samples, num_channels); transpose it"
        )
    return samples
