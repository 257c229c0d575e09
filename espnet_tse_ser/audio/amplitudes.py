"""What the samples of a usable signal are: finite, of a recording's size, and not silent."""

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.numbers import RATE

SILENCE_DBFS = -100.0  # a signal whose swing stays below this is taken for silence
# 80 dB over full scale: far more than mixing consoles and float recorders leave in a file, and less
# than what integers become that were written as floats without being scaled.
MOST = 1e4
CANCELLED = 0.01  # of the channels' swing: if their mean has less, they are in antiphase


def check_amplitudes(samples, name, start=0):
    """Check a block of a signal.

    Args:
        samples: ``(num_samples,)`` or ``(num_samples, num_channels)`` float; full scale is 1.
        name: what an error calls the signal. start: number of the first sample.

    Raises:
        UserError: a value is NaN, infinite, or beyond what any recording has.
    """
    # Both are NaN if one sample is.
    if -MOST <= samples.min(initial=0.0) and samples.max(initial=0.0) <= MOST:
        return
    with np.errstate(invalid="ignore"):
        unusable = ~(np.abs(samples) <= MOST)
    first = int(np.argwhere(unusable)[0][0])
    value = samples[unusable][0]
    if np.isfinite(value):
        raise UserError(
            f"{name}: sample {start + first} is {value:g}, which no recording has (full scale is "
            "1); divide integers by the largest of their type, or leave the signal out"
        )
    raise UserError(
        f"{name}: sample {start + first} is NaN or infinite; repair the signal or leave it out"
    )


def check_rate(rate, name):
    """``rate`` as an int, if it is a sampling rate in Hz; else a `UserError`.

    >>> check_rate("16000", "a.wav")
    16000
    """
    try:
        return RATE(rate.item() if isinstance(rate, np.generic) else rate)
    except ValueError as error:
        raise UserError(f"{name}: sampling rate in Hz: {error}") from None


class Extremes:
    """The lowest and the highest value of a signal that comes in blocks."""

    def __init__(self, samples=()):
        self.low, self.high = np.inf, -np.inf
        self.add(np.asarray(samples, np.float32))

    def add(self, samples):
        """Take in a block ``(num_samples,)``."""
        self.low = min(self.low, float(samples.min(initial=np.inf)))
        self.high = max(self.high, float(samples.max(initial=-np.inf)))

    @property
    def swing(self):
        """Half of what lies between them: the amplitude, whatever the offset."""
        return max(self.high - self.low, 0.0) / 2

    @property
    def is_silent(self):
        """Whether this is silence, a constant included."""
        return self.swing < 10 ** (SILENCE_DBFS / 20)


class TooQuiet(UserError):
    """There is nothing to be heard in a signal."""


def check_not_silent(signal, name):
    """Raise `TooQuiet` if a signal ``(num_samples,)``, or its `Extremes`, are silent."""
    extremes = signal if isinstance(signal, Extremes) else Extremes(signal)
    if extremes.is_silent:
        raise TooQuiet(
            f"{name}: is silent (its amplitude is {extremes.swing:.1e}); record or fetch it "
            "again, or leave it out"
        )


def check_not_cancelled(mono, channels, name):
    """Raise `UserError` if the mean of channels is much less than they are.

    Args:
        mono: `Extremes` of the mean. channels: those of each channel. name: for errors.
    """
    swing = max(channel.swing for channel in channels)
    if mono.swing < CANCELLED * swing and not all(channel.is_silent for channel in channels):
        raise UserError(
            f"{name}: its {len(channels)} channels cancel each other when they are mixed down "
            f"(amplitude {mono.swing:.1e}, {swing:.1e} in a channel): they are in antiphase; give "
            "one channel, e.g. by `sox IN OUT remix 1`"
        )
