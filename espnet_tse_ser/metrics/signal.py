"""Measures of an extracted signal: distortion, what of the target is lost, whose speech it is."""

import warnings

import numpy as np

from espnet_tse_ser.errors import UserError

SSNR_LIMITS = (-10.0, 35.0)  # dB, of a segment: beyond, no difference is audible
PESQ_MODES = {8000: "nb", 16000: "wb"}  # by rate
ACTIVE = 40.0  # dB below its loudest frame, above which the target is active (as for STOI)
SI_SDR_LIMIT = 100.0  # dB; a silent estimate or an exact copy would otherwise be infinite


def si_sdr(reference, estimate):
    """Scale-invariant signal-to-distortion ratio in dB.

    Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019, eq. 4-5:
    ``10 log10(|a s|^2 / |a s - e|^2)`` with the scale ``a = <e, s> / |s|^2``. Like ESPnet's SI-SNR
    loss, the mean of both signals is removed first, which the definition presumes.

    Args:
        reference: clean signal s, ``(num_samples,)``, any scale.
        estimate: signal to be rated e, ``(num_samples,)``, any scale.

    Returns:
        dB, within +-`SI_SDR_LIMIT`: a silent or orthogonal estimate gets the lower limit, a
        scaled copy of the reference the upper one.

    Raises:
        ValueError: the shapes differ or are not ``(num_samples,)``, or the reference is silent.

    >>> round(si_sdr([1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 0.8, -0.8]), 2)
    19.08
    """
    reference, estimate = _pair(reference, estimate)
    reference = reference - reference.mean()
    estimate = estimate - estimate.mean()
    energy = reference @ reference
    if energy == 0.0:
        raise ValueError("SI-SDR is undefined for a silent reference")
    target = (estimate @ reference) / energy * reference
    signal = target @ target
    distortion = np.sum((target - estimate) ** 2)
    limit = 10 ** (SI_SDR_LIMIT / 10)
    if signal * limit <= distortion or signal == 0.0:
        return -SI_SDR_LIMIT
    if distortion * limit <= signal:
        return SI_SDR_LIMIT
    return float(10 * np.log10(signal / distortion))


def stoi(reference, estimate, fs=16000):
    """Short-time objective intelligibility (Taal et al. 2011, pystoi), about 0 to 1.

    Args:
        reference: clean signal, ``(num_samples,)``.
        estimate: signal to be rated, ``(num_samples,)``.
        fs: rate of both in Hz.

    Returns:
        STOI, or NaN when the reference has less than 30 active frames (0.4 s of speech), on
        which the measure is not defined.

    Raises:
        ValueError: as `si_sdr`.
    """
    from pystoi import stoi as pystoi

    reference, estimate = _pair(reference, estimate)
    if not reference.any():
        raise ValueError("STOI is undefined for a silent reference")
    if len(reference) < 0.4 * fs:
        return float("nan")
    with warnings.catch_warnings():
        # pystoi warns and returns 1e-5, which would pass for a score
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            return float(pystoi(reference, estimate, fs))
        except RuntimeWarning:
            return float("nan")


def ssnr(reference, estimate, fs=16000):
    """Segmental signal-to-noise ratio in dB (Loizou, "Speech Enhancement", 2013, section 11.1.1).

    The mean, over segments of 30 ms of which three quarters overlap, Hann windowed, of
    ``10 log10(|s|^2 / |s - e|^2)``, each within `SSNR_LIMITS`. The level of the estimate matters.

    Args:
        reference: clean signal s, ``(num_samples,)``.
        estimate: signal to be rated e, ``(num_samples,)``, of the reference's level.
        fs: rate of both in Hz.

    Returns:
        dB, or NaN when the signals are shorter than a segment.

    Raises:
        ValueError: as `si_sdr`.
    """
    reference, estimate = _pair(reference, estimate)
    if not reference.any():
        raise ValueError("SSNR is undefined for a silent reference")
    size = round(0.03 * fs)
    if len(reference) < size:
        return float("nan")
    window = np.hanning(size + 2)[1:-1]

    def energies(signal):
        segments = np.lib.stride_tricks.sliding_window_view(signal, size)[:: size // 4]
        return np.square(segments * window).sum(axis=1)

    signal, noise = energies(reference), energies(reference - estimate)
    low, high = (10 ** (limit / 10) for limit in SSNR_LIMITS)
    # A silent segment has as little signal as can be, whatever its noise.
    ratios = np.full(len(signal), low)
    np.divide(signal, noise, out=ratios, where=(signal > 0) & (noise > 0))
    ratios[(signal > 0) & (noise == 0)] = high
    return float(np.mean(10 * np.log10(ratios.clip(low, high))))


def pesq(reference, estimate, fs=16000):
    """Perceptual evaluation of speech quality, about 1 (bad) to 4.6, by the package ``pesq``.

    ITU-T P.862.2 (wide band) at 16 kHz, P.862 (narrow band) at 8 kHz.

    Args:
        reference: clean signal, ``(num_samples,)``.
        estimate: signal to be rated, ``(num_samples,)``.
        fs: rate of both in Hz.

    Returns:
        PESQ as MOS-LQO, or NaN where it finds too little speech, in either signal.

    Raises:
        UserError: the package is not installed, or ``fs`` is another rate.
        ValueError: as `si_sdr`.
    """
    try:
        import pesq as package
    except ImportError:
        raise UserError(
            "PESQ needs the package pesq: pip install pesq (it is compiled: a C compiler is needed)"
        ) from None
    if fs not in PESQ_MODES:
        raise UserError(f"PESQ is defined at 8000 and 16000 Hz, not at {fs}; leave it out")
    reference, estimate = _pair(reference, estimate)
    if not reference.any():
        raise ValueError("PESQ is undefined for a silent reference")
    if not estimate.any():
        return float("nan")
    try:
        return float(package.pesq(fs, reference, estimate, PESQ_MODES[fs]))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return float("nan")


def tsos(reference, estimate, fs=16000):
    """Target speech over-suppression: the share of active frames that lack much of the target.

    Eskimez et al., "Personalized speech enhancement: new models and comprehensive evaluation",
    ICASSP 2022: a frame does in which the sum over frequency of ``max(|S|^0.3 - |E|^0.3, 0)^2`` is
    more than 0.1 of that of ``|S|^0.6``; 25 ms Hamming windows each 10 ms. There all frames count,
    here those within `ACTIVE` of the loudest: silence cannot be suppressed.

    Args:
        reference: clean target s, ``(num_samples,)``.
        estimate: extracted signal e, ``(num_samples,)``, of the reference's level.
        fs: rate of both in Hz.

    Returns:
        share, 0 to 1, or NaN when the signals are shorter than a frame.

    Raises:
        ValueError: as `si_sdr`.
    """
    reference, estimate = _pair(reference, estimate)
    if not reference.any():
        raise ValueError("over-suppression is undefined for a silent reference")
    if len(reference) < _frame(fs)[0]:
        return float("nan")
    spectra = np.abs(_spectra(reference, fs)), np.abs(_spectra(estimate, fs))
    active = _active(spectra[0])
    target, found = (spectrum[active] ** 0.3 for spectrum in spectra)
    lost = np.square(np.maximum(target - found, 0)).sum(axis=1)
    return float(np.mean(lost > 0.1 * np.square(target).sum(axis=1)))


def pause_level(reference, estimate, mixture, fs=16000):
    """What is left of the mixture where the target pauses, in dB: 0 is all of it.

    The energy of the estimate against that of the mixture over all frames that are not active, as
    of `tsos`, in which something is in the mixture.

    Args:
        reference, estimate, mixture: ``(num_samples,)``, of one level; fs: rate in Hz.

    Returns:
        dB, within +-`SI_SDR_LIMIT`, or NaN when there is no such frame.

    Raises:
        ValueError: as `si_sdr`.
    """
    reference, estimate = _pair(reference, estimate)
    _, mixture = _pair(reference, mixture)
    if not reference.any():
        raise ValueError("pauses are undefined for a silent reference")
    if len(reference) < _frame(fs)[0]:
        return float("nan")
    pauses = ~_active(_spectra(reference, fs))
    left, before = (np.square(np.abs(_spectra(x, fs)[pauses])).sum() for x in (estimate, mixture))
    if before == 0:
        return float("nan")
    limit = 10 ** (SI_SDR_LIMIT / 10)
    return float(10 * np.log10(np.clip(left / before, 1 / limit, limit)))


def _frame(fs):
    return round(0.025 * fs), round(0.01 * fs)


def _spectra(signal, fs):
    """Of frames of 25 ms each 10 ms: ``(frames, bins)``."""
    size, hop = _frame(fs)
    frames = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop]
    return np.fft.rfft(frames * np.hamming(size))


def _active(spectra):
    energy = np.square(np.abs(spectra)).sum(axis=1)
    return energy > energy.max() * 10 ** (-ACTIVE / 10)


def is_wrong_speaker(estimate, target, interferers):
    """Whether the estimate is closer (in SI-SDR) to any of the interferers than to the target.

    Args:
        estimate: extracted signal, ``(num_samples,)``.
        target: clean target as it is in the mixture, ``(num_samples,)``.
        interferers: list of interferers as they are in the mixture, each ``(num_samples,)``.
    """
    closeness = si_sdr(target, estimate)
    return any(si_sdr(interferer, estimate) > closeness for interferer in interferers)


def signal_scores(target, estimate, mixture, interferers, fs, with_stoi=True):
    """All measures of one extracted signal, as the fields of a score table.

    Args:
        target, estimate, mixture: ``(num_samples,)``; interferers: list of the same shape, as
            they are in the mixture, empty without talkers, None if they are not known; fs: rate in
            Hz.
        with_stoi: False leaves STOI empty, which takes longer than all else.

    Returns:
        dict with ``si_sdr_mix``, ``si_sdr``, ``si_sdri`` (dB), ``stoi_mix``, ``stoi`` (strings of
        6 decimals; empty where there is too little speech for STOI; ``si_sdr_mix`` and ``si_sdri``
        where the mixture is the target) and ``wrong_speaker`` (0, 1; empty if there is no
        interferer, or none known).
    """
    before, after = si_sdr(target, mixture), si_sdr(target, estimate)
    if before == SI_SDR_LIMIT:
        before = np.nan
    scores = {
        "si_sdr_mix": before,
        "si_sdr": after,
        "si_sdri": after - before,
        "stoi_mix": stoi(target, mixture, fs) if with_stoi else np.nan,
        "stoi": stoi(target, estimate, fs) if with_stoi else np.nan,
    }
    wrong = int(is_wrong_speaker(estimate, target, interferers)) if interferers else ""
    return _fields(scores) | {"wrong_speaker": wrong}


def quality_scores(target, estimate, mixture, fs, with_pesq=False):
    """Further measures of one extracted signal, as fields of the table of a front-end.

    Args:
        target, estimate, mixture, fs: as of `signal_scores`. with_pesq: False leaves PESQ empty.

    Returns:
        dict with ``ssnr_mix``, ``ssnr`` (dB), ``pesq_mix``, ``pesq``, ``tsos`` (a share) and
        ``pause_level`` (dB), strings as there.
    """
    signals = {"_mix": mixture, "": estimate}
    scores = {f"ssnr{name}": ssnr(target, signal, fs) for name, signal in signals.items()}
    for name, signal in signals.items():
        scores[f"pesq{name}"] = pesq(target, signal, fs) if with_pesq else np.nan
    scores["tsos"] = tsos(target, estimate, fs)
    scores["pause_level"] = pause_level(target, estimate, mixture, fs)
    return _fields(scores)


def _fields(scores):
    return {name: "" if value != value else f"{value:.6f}" for name, value in scores.items()}


def _pair(reference, estimate):
    reference = np.asarray(reference, np.float64)
    estimate = np.asarray(estimate, np.float64)
    if reference.ndim != 1 or reference.shape != estimate.shape or reference.size == 0:
        raise ValueError(
            f"reference and estimate need one common shape (num_samples,), got {reference.shape} "
            f"and {estimate.shape}"
        )
    return reference, estimate
