"""Measures of an extracted signal: SI-SDR, STOI and whether the right speaker was extracted."""

import warnings

import numpy as np

SI_SDR_LIMIT = 100.0  # dB; a silent estimate or an exact copy would otherwise be infinite


def si_sdr(reference, estimate, zero_mean=True):
    """Scale-invariant signal-to-distortion ratio in dB.

    Le Roux, Wisdom, Erdogan and Hershey, "SDR - half-baked or well done?", ICASSP 2019, eq. 4-5:
    ``10 log10(|a s|^2 / |a s - e|^2)`` with the scale ``a = <e, s> / |s|^2``. Like ESPnet's SI-SNR
    loss, the mean of both signals is removed first, which the definition presumes
    (``zero_mean=False`` leaves it in).

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
    if zero_mean:
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


def si_sdr_improvement(reference, estimate, mixture, zero_mean=True):
    """SI-SDRi in dB: `si_sdr` of the estimate minus that of the mixture; all ``(num_samples,)``."""
    return si_sdr(reference, estimate, zero_mean) - si_sdr(reference, mixture, zero_mean)


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
    return {name: "" if value != value else f"{value:.6f}" for name, value in scores.items()} | {
        "wrong_speaker": wrong
    }


def _pair(reference, estimate):
    reference = np.asarray(reference, np.float64)
    estimate = np.asarray(estimate, np.float64)
    if reference.ndim != 1 or reference.shape != estimate.shape or reference.size == 0:
        raise ValueError(
            f"reference and estimate need one common shape (num_samples,), got {reference.shape} "
            f"and {estimate.shape}"
        )
    return reference, estimate
