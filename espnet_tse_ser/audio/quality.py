"""What of a recording no model can make good: too little sound, clipping, a telephone's band.

Measures of the file as it was recorded (resampling hides clipping), without a reference, whatever
its level and its offset; and remarks on those that are out of the ordinary.
"""

import numpy as np

FRAME_SECONDS = 0.02
ACTIVE_DB = 30.0  # below the loud frames (99th percentile) are pauses, breath and room
BAND_DB = 60.0  # below the peak of the mean spectrum is what codecs and resamplers leave of a band
LEAST_PEAK = 0.01  # -40 dBFS: of what is fainter, a few steps of 16 bits are the peak

LEAST_SECONDS = {"enrollment": 1.0, "mixture": 0.5}  # of sound
LEAST_SHARE = 0.25  # of a recording that has sound
MOST_CLIPPED = 0.002  # of its samples
LEAST_BAND = 0.6  # of the model's band: telephones have 3.4 of 8 kHz

_FFT_SECONDS = 0.032
_BLOCK_SECONDS = 10
_BINS = 2**16  # of values: the upper half of a float32, 0.4 to 0.8 % of either sign


class Quality:
    """Measures of a recording that comes in blocks, of which frames that are not whole are left.

    Args:
        rate: in Hz, of the file.
    """

    def __init__(self, rate):
        self.rate, self.num_samples = rate, 0
        self._levels, self._counts, self._power = [], 0, 0.0
        self._frame, self._fft = (max(round(s * rate), 2) for s in (FRAME_SECONDS, _FFT_SECONDS))

    def add(self, block):
        """Take in ``(num_samples, num_channels)`` float; full scale is 1."""
        block = np.asarray(block, np.float32)
        self.num_samples += len(block)
        bins = np.ascontiguousarray(block.T).view(np.uint32) >> 16
        self._counts = self._counts + np.stack([np.bincount(b, minlength=_BINS) for b in bins])
        mono = block.mean(axis=1, dtype=np.float32)
        self._levels.append(10 * np.log10(_cut(mono, self._frame).var(axis=1) + 1e-20))
        parts = _cut(mono, self._fft)
        window = np.hanning(self._fft).astype(np.float32)
        spectra = np.fft.rfft((parts - parts.mean(axis=1, keepdims=True)) * window)
        self._power = self._power + np.square(np.abs(spectra)).sum(axis=0)

    @property
    def seconds(self):
        """The length."""
        return self.num_samples / self.rate

    @property
    def active_seconds(self):
        """How much of it is no more than `ACTIVE_DB` below what is loud in it."""
        levels = np.concatenate(self._levels)
        if not len(levels):
            return self.seconds
        active = levels > max(np.percentile(levels, 99) - ACTIVE_DB, -100)
        return self.seconds * float(active.mean())

    @property
    def clipped(self):
        """The share of samples within a percent or so of the extremes, of the worst channel.

        Of speech it is 1e-4 or less; where a channel was clipped, its extremes are frequent.
        """
        shares = []
        for counts in self._counts:
            near = 0
            for side in (counts[: _BINS // 2], counts[_BINS // 2 :]):
                top = int(np.flatnonzero(side).max(initial=0))
                value = np.array([top << 16], np.uint32).view(np.float32)[0]
                near += side[max(top - 1, 0) : top + 1].sum() if value >= LEAST_PEAK else 0
            shares.append(float(near / counts.sum()))
        return max(shares)

    @property
    def bandwidth(self):
        """The highest frequency in Hz that is no more than `BAND_DB` below the strongest."""
        power = np.atleast_1d(self._power)
        found = np.flatnonzero(power > power.max() * 10 ** (-BAND_DB / 10))
        return float(found.max(initial=0) * self.rate / self._fft)


def measure(samples, rate):
    """`Quality` of ``(num_samples,)`` or ``(num_samples, num_channels)`` float at ``rate`` Hz.

    >>> noise = np.random.default_rng(0).standard_normal(16000) / 10
    >>> quality = measure(noise, 8000)
    >>> quality.seconds, round(quality.active_seconds, 1), quality.clipped < 1e-3
    (2.0, 2.0, True)
    >>> quality.bandwidth > 3900
    True
    """
    samples = np.asarray(samples).reshape(len(samples), -1)
    quality, size = Quality(rate), _BLOCK_SECONDS * rate
    for start in range(0, len(samples), size):
        quality.add(samples[start : start + size])
    return quality


def remarks(quality, kind, name, rate):
    """What is out of the ordinary, a sentence each.

    Args:
        kind: "mixture" or "enrollment". name: of the file. rate: of the model in Hz.
    """
    active, seconds, found = quality.active_seconds, quality.seconds, []
    if active < LEAST_SECONDS[kind]:
        found.append(f"short: {active:.2f} s of sound, {LEAST_SECONDS[kind]:g} s are needed")
    if active < LEAST_SHARE * seconds:
        found.append(f"mostly silent: {active:.2f} of {seconds:.2f} s have sound")
    if quality.clipped > MOST_CLIPPED:
        found.append(f"clipped: {100 * quality.clipped:.1f} % of the samples are at the limit")
    if quality.bandwidth < LEAST_BAND * rate / 2:
        band = f"{quality.bandwidth / 1000:.1f} kHz, the model is for {rate / 2000:g} kHz"
        found.append(f"narrow-band: nothing above {band}")
    return [f"{kind} {text} ({name})" for text in found]


def remarks_on(signals, kind, rate):
    """`remarks` on signals: list of samples, their rate and the name."""
    return [
        text
        for samples, own_rate, name in signals
        for text in remarks(measure(samples, own_rate), kind, name, rate)
    ]


def _cut(samples, size):
    """Whole frames ``(num_frames, size)`` of ``(num_samples,)``."""
    return samples[: len(samples) // size * size].reshape(-1, size)
