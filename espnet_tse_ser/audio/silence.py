"""Where the sound of a signal begins and ends."""

import numpy as np


def sound_span(signal, rate, threshold_db, margin):
    """Start and end in s of what is loud, with a margin on both sides.

    Args:
        signal: ``(num_samples,)``. rate: in Hz. threshold_db: level of a frame of 30 ms, against
            the loudest, above which it counts. margin: in s.

    Returns:
        two floats within the signal; its ends, where it is silent throughout.

    >>> sound_span(np.r_[np.zeros(16000), np.ones(8000), np.zeros(16000)], 16000, -35, 0.1)
    (0.89, 1.61)
    """
    hop = rate // 100
    num_frames = -(-len(signal) // hop)
    frames = np.pad(signal, (0, num_frames * hop - len(signal))).reshape(num_frames, hop)
    energy = (frames**2).mean(axis=1)
    # 30 ms average, so that a click of one frame does not set the reference level
    energy = np.convolve(energy, np.full(3, 1 / 3), mode="same")
    loud = np.flatnonzero(energy > energy.max() * 10 ** (threshold_db / 10))
    if not len(loud):
        return 0.0, len(signal) / rate
    start = max(loud[0] * hop / rate - margin, 0.0)
    return float(start), float(min((loud[-1] + 1) * hop / rate + margin, len(signal) / rate))
