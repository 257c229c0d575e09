"""What of a target's voice another signal keeps: prosody, timing, spectrum, emotion posteriors.

Frames are 25 ms long and centred at 0, 10, 20 ms, ...; those beyond the ends see zeros. No measure
depends on the gain of either signal. F0 comes from DIO (Morise, Kawahara and Katayose, AES 35th
Int. Conf., 2009) refined by StoneMask, both as in WORLD (Morise, Yokomori and Ozawa, IEICE Trans.
Inf. & Syst. E99-D(7), 2016), with WORLD's range of 71 to 800 Hz. WORLD's Harvest would be 35 times
slower and calls nearly every frame of a mixture voiced.
"""

from dataclasses import dataclass

import numpy as np

from espnet_tse_ser.metrics.signal import si_sdr

HOP = 0.01  # s
WINDOW = 0.025  # s
LEVEL_RANGE = 50.0  # dB below the loudest frame at which levels are cut off
MEL_RANGE = 60.0  # dB below the largest log-mel value
NUM_MELS = 40
PAUSE = (
    25.0  # dB below the loudest frame: the silence threshold of Praat's "To TextGrid (silences)"
)
MIN_VOICED = 10  # frames voiced in both signals that the F0 measures need: 0.1 s
GROSS = 0.2  # relative error of F0 from which on it is gross
TILT_BANDS = ((50.0, 1000.0), (1000.0, 5000.0))  # Hz, low and high
POSTERIOR_FLOOR = 1e-6  # the resolution of a table of hypotheses


@dataclass(frozen=True)
class Measure:
    """How to name and read one measure of a table."""

    title: str
    limits: tuple  # smallest and largest possible value
    higher_is_better: bool = True
    digits: int = 3  # decimals worth showing


MEASURES = {
    "f0_corr": Measure("F0 contour, correlation", (-1, 1)),
    "f0_rmse": Measure("F0 error, RMS, semitones", (0, np.inf), False, 2),
    "f0_gross": Measure("F0 error above 20 %, share of frames", (0, 1), False),
    "voicing": Measure("voicing agreement, share of frames", (0, 1)),
    "energy_corr": Measure("energy contour, correlation", (-1, 1)),
    "pauses": Measure("speech/pause agreement, share of frames", (0, 1)),
    "log_mel": Measure("log-mel spectral distance, dB", (0, np.inf), False, 2),
    "tilt": Measure("spectral tilt difference, dB", (0, np.inf), False, 2),
    "si_sdr": Measure("SI-SDR, dB", (-np.inf, np.inf), True, 2),
}
EMOTION_MEASURES = {
    "agreement": Measure("same decision as on clean speech, share", (0, 1)),
    "kl": Measure("KL(posteriors on clean speech, on this), nats", (0, np.inf), False),
    "emotion_similarity": Measure("emotion similarity: cosine with clean speech's", (-1, 1)),
}


@dataclass(frozen=True)
class Track:
    """The contours of one signal, T frames.

    ``f0`` ``(T,)`` in Hz, 0 where unvoiced; ``level`` ``(T,)`` in dB, at most `LEVEL_RANGE` below
    the loudest (-inf throughout for silence); ``power`` ``(T, num_bins)``, the spectrogram;
    ``samples`` ``(num_samples,)`` float64 and ``fs`` in Hz, which they come from.
    """

    f0: np.ndarray
    level: np.ndarray
    power: np.ndarray
    samples: np.ndarray
    fs: int

    @property
    def speech(self):
        """``(T,)`` bool: less than `PAUSE` below the loudest frame; none in silence."""
        return np.isfinite(self.level) & (self.level > self.level.max() - PAUSE)


def track(signal, fs=16000):
    """Measure the contours of a signal ``(num_samples,)`` of rate ``fs`` as a `Track`.

    Raises:
        ValueError: the signal is not ``(num_samples,)``, is shorter than a frame, or is not finite.
    """
    import pyworld

    signal = np.ascontiguousarray(signal, np.float64)
    hop, size = round(HOP * fs), round(WINDOW * fs)
    if signal.ndim != 1 or len(signal) < size or not np.isfinite(signal).all():
        raise ValueError(
            f"a finite signal (num_samples,) of at least {size} samples is needed, got shape "
            f"{signal.shape}"
        )
    frames = _frames(signal, hop, size)
    f0, times = pyworld.dio(signal, fs, frame_period=1000 * HOP)
    f0 = pyworld.stonemask(signal, f0, times, fs)[: len(frames)]
    with np.errstate(divide="ignore"):
        level = 10 * np.log10(np.mean(frames**2, axis=1))
    level = np.maximum(level, level.max() - LEVEL_RANGE)
    fft_size = 1 << (size - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = np.abs(np.fft.rfft(frames * hann, fft_size)) ** 2
    return Track(f0, level, power, signal, fs)


def acoustic_measures(target, other):
    """Compare a signal with the clean target in it.

    With the frames V that are voiced in both, and P that are speech in the target:

    * ``f0_corr``: Pearson's correlation of log F0 over V;
    * ``f0_rmse``: ``sqrt(mean((12 log2(F0' / F0))^2))`` over V, semitones;
    * ``f0_gross``: share of V where ``|F0' / F0 - 1| > 0.2`` (gross pitch errors: Rabiner, Cheng,
      Rosenberg and McGonegal, IEEE Trans. ASSP 24(5), 1976; an interferer's F0 is mostly one);
    * ``voicing``: share of all frames with the same voicing decision;
    * ``energy_corr``: Pearson's correlation of the levels (log RMS) of all frames;
    * ``pauses``: share of all frames that are speech in both or in neither (see `Track.speech`);
    * ``log_mel``: ``mean_P sqrt(mean_bands (d - mean(d))^2)`` of the difference d of the log-mel
      spectra in dB (log spectral distance: Gray and Markel, IEEE Trans. ASSP 24(5), 1976);
      mean(d), over P and bands, is the gain that fits them best in the least-squares sense;
    * ``tilt``: ``|a' - a|`` of the alpha ratio a, the energy in 50-1000 Hz over that in 1-5 kHz
      during P in dB (as in GeMAPS: Eyben et al., IEEE Trans. Affective Computing 7(2), 2016);
    * ``si_sdr``: for comparison, see `signal.si_sdr`.

    Args:
        target, other: their `Track`.

    Returns:
        dict with the keys of `MEASURES` and ``voiced``, the size of V. NaN where undefined: the
        measures of F0 with less than `MIN_VOICED` frames in V, a correlation with a constant
        contour, and energy_corr, log_mel and tilt of a silent ``other``.

    Raises:
        ValueError: the signals differ in length or rate, or the target is silent.
    """
    if target.fs != other.fs or target.samples.shape != other.samples.shape:
        raise ValueError(
            f"the target has {len(target.samples)} samples at {target.fs} Hz, the other signal "
            f"{len(other.samples)} at {other.fs} Hz"
        )
    if not target.speech.any():
        raise ValueError("nothing is to be kept of a silent target")
    both = (target.f0 > 0) & (other.f0 > 0)
    measures = {
        **_f0_measures(target.f0[both], other.f0[both]),
        "voicing": np.mean((target.f0 > 0) == (other.f0 > 0)),
        "energy_corr": _correlation(target.level, other.level),
        "pauses": np.mean(target.speech == other.speech),
        **dict.fromkeys(("log_mel", "tilt"), np.nan),
        "si_sdr": si_sdr(target.samples, other.samples),
    }
    if other.speech.any():
        speech = target.speech
        difference = _log_mel(other)[speech] - _log_mel(target)[speech]
        difference -= difference.mean()
        measures["log_mel"] = np.mean(np.sqrt(np.mean(difference**2, axis=1)))
        measures["tilt"] = abs(_alpha_ratio(other, speech) - _alpha_ratio(target, speech))
    return {name: float(measures[name]) for name in MEASURES} | {"voiced": int(both.sum())}


def kl_divergence(clean, other, floor=POSTERIOR_FLOOR):
    """Kullback-Leibler divergence KL(clean || other) of posteriors in nats.

    Args:
        clean, other: ``(..., K)`` probabilities. floor: smaller ones count as this (a table with
            6 decimals holds zeros), then both are normalised to a sum of 1.

    Returns:
        ``(...)``, from 0 to about ``-log(floor)``.

    >>> round(float(kl_divergence([0.5, 0.5], [0.25, 0.75])), 4)
    0.1438
    """
    clean, other = (np.maximum(np.asarray(p, np.float64), floor) for p in (clean, other))
    clean, other = (p / p.sum(-1, keepdims=True) for p in (clean, other))
    return np.sum(clean * np.log(clean / other), axis=-1)


def cosine(one, other):
    """Cosine of two embeddings ``(D,)``; 0 if one is nothing but zeros.

    >>> cosine([3.0, 4.0], [4.0, 3.0])
    0.96
    """
    one, other = (np.asarray(x, np.float64) for x in (one, other))
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-12))


def mel_filters(fs, fft_size, num_mels=NUM_MELS):
    """Triangular filters from 0 Hz to fs / 2, equally wide in HTK's mel: ``(num_mels, num_bins)``.

    Each has a peak of 1.
    """
    top = 2595 * np.log10(1 + fs / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(fft_size, 1 / fs)
    low, centre, high = (edges[i : i + num_mels, None] for i in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling))


def _frames(signal, hop, size):
    """Frames ``(num_samples // hop + 1, size)``, the first centred at the first sample."""
    count = len(signal) // hop + 1  # as many as WORLD has
    padded = np.zeros((count - 1) * hop + size)
    start = size // 2
    usable = min(len(signal), len(padded) - start)
    padded[start : start + usable] = signal[:usable]
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _f0_measures(target, other):
    if len(target) < MIN_VOICED:
        return dict.fromkeys(("f0_corr", "f0_rmse", "f0_gross"), np.nan)
    semitones = 12 * np.log2(other / target)
    return {
        "f0_corr": _correlation(np.log(target), np.log(other)),
        "f0_rmse": np.sqrt(np.mean(semitones**2)),
        "f0_gross": np.mean(np.abs(other / target - 1) > GROSS),
    }


def _correlation(first, second):
    """Pearson's correlation; NaN when one of the contours is constant, or -inf (silence)."""
    if not np.isfinite([first, second]).all() or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return np.corrcoef(first, second)[0, 1]


def _log_mel(contours):
    """Log-mel spectrum ``(T, NUM_MELS)`` in dB, cut off `MEL_RANGE` below its largest value."""
    fft_size = 2 * (contours.power.shape[1] - 1)
    mel = contours.power @ mel_filters(contours.fs, fft_size).T
    return 10 * np.log10(np.maximum(mel, mel.max() * 10 ** (-MEL_RANGE / 10)))


def _alpha_ratio(contours, chosen):
    """Energy of the low over that of the high band of `TILT_BANDS` in the chosen frames, dB."""
    spectrum = contours.power[chosen].sum(axis=0)
    bins = np.linspace(0, contours.fs / 2, len(spectrum))
    low, high = (spectrum[(bins >= a) & (bins < b)].sum() for a, b in TILT_BANDS)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * np.log10(low / high)
    return ratio if np.isfinite(ratio) else np.nan
