"""Where in a recording the target is present, frame by frame.

Two measures are of whole mixtures or of speech: `target_present` of a model with a calibration
(calibration.py), and the similarity of voices by a pretrained speaker encoder (voices.py). Here
they are of windows of 1.5 s, every 0.5 s; a frame has the mean of its windows.
"""

from typing import NamedTuple

import numpy as np

from espnet_tse_ser.inference.evidence import FEATURES
from espnet_tse_ser.progress import progress

WINDOW_SECONDS, HOP_SECONDS = 1.5, 0.5

_AT_A_TIME = 16  # windows
_SIMILAR = FEATURES.index("mixture_voice")


class Presence(NamedTuple):
    """What says that the target is present.

    Args:
        target_present: the probability of each frame ``(num_frames,)``, or None.
        similarity: cosine of the embeddings of mixture and enrollment ``(num_frames,)``; both are 0
            where no window is. window_similarity: of each window ``(num_windows,)``.
    """

    target_present: np.ndarray | None
    similarity: np.ndarray
    window_similarity: np.ndarray


def present_by_frame(model, enrollment, read, wanted, frame_size):
    """The probability that the target is present, and how similar the voices are to the target's.

    Args:
        model: `TSESER`; only of one with a calibration there is a probability.
        enrollment: ``(num_samples,)``.
        read: function of the first sample and the end -> mixture and what is extracted of it, at
            the level of the network, ``(num_samples,)`` float32 each.
        wanted: ``(num_frames,)`` bool; windows without a wanted frame are left out.
        frame_size: samples of a frame.

    Returns:
        `Presence`.
    """
    embedding = None if model.calibration is None else model.embeddings()([enrollment])

    def measure(mixtures, speech):
        enrollments = [enrollment] * len(mixtures)
        if embedding is None:
            return [model.voices.similar(mixtures, enrollments)]
        embeddings = embedding.expand(len(mixtures), -1)
        found = model.measure(mixtures, speech, embeddings, enrollments)
        return model.calibration.target_present(found), found[:, _SIMILAR]

    number = 1 if embedding is None else 2
    tracks, values = _by_frame(measure, number, read, wanted, frame_size, model.rate)
    return Presence(None if embedding is None else tracks[0], tracks[-1], values[-1])


def two_groups(values):
    """The threshold between two groups of values, by Otsu (IEEE Trans. SMC 9(1), 1979).

    Args:
        values: ``(N,)``.

    Returns:
        the threshold and the means of both groups; None of fewer than 20 values, or where the
        groups explain less than 0.77 of the variance. (Of 1.5 s of two speakers of different gender
        it was 0.78 to 0.85, of one speaker at most 0.73.)

    >>> two_groups(np.r_[np.full(50, 0.6), np.full(50, 0.8)])
    (0.7, 0.6, 0.8)
    """
    values = np.sort(np.asarray(values, np.float64))
    count = np.arange(1, len(values))
    if len(values) < 20 or values.std() < 1e-6:
        return None
    sums = np.cumsum(values)[:-1]
    low, high = sums / count, (values.sum() - sums) / (len(values) - count)
    explained = count * (len(values) - count) / len(values) ** 2 * (high - low) ** 2
    best = int(explained.argmax())
    if explained[best] < 0.77 * values.var():
        return None
    found = (values[best] + values[best + 1]) / 2, low[best], high[best]
    return tuple(round(float(value), 2) for value in found)


def _by_frame(measure, number, read, wanted, frame_size, rate):
    """As many values as ``measure`` gives: ``(number, num_frames)``, ``(number, num_windows)``."""
    rate = rate / frame_size
    size, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    last = max(len(wanted) - size, 0)
    starts = [*range(0, last, hop), last]
    starts = [start for start in starts if wanted[start : start + size].any()]
    total, count = np.zeros((number, len(wanted))), np.zeros(len(wanted))
    every = [np.zeros((number, 0))]
    for at in progress(range(0, len(starts), _AT_A_TIME), "voices"):
        chosen = starts[at : at + _AT_A_TIME]
        ends = [min(start + size, len(wanted)) for start in chosen]
        places = list(zip(chosen, ends, strict=True))
        pairs = [read(start * frame_size, end * frame_size) for start, end in places]
        values = np.array(measure(*map(list, zip(*pairs, strict=True))))
        every.append(values)
        for (start, end), value in zip(places, values.T, strict=True):
            total[:, start:end] += value[:, None]
            count[start:end] += 1
    return total / np.maximum(count, 1), np.concatenate(every, axis=1)
