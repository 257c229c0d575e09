"""Where in a recording the target is present, frame by frame.

Two measures are of whole mixtures or of speech: `target_present` of a model with a calibration
(calibration.py), and the similarity of voices by a pretrained speaker encoder (voices.py). Here
they are of windows of 1.5 s, every 0.5 s; a frame has the mean of its windows.
"""

import numpy as np

from espnet_tse_ser.inference.evidence import FEATURES
from espnet_tse_ser.progress import progress

WINDOW_SECONDS, HOP_SECONDS = 1.5, 0.5

_AT_A_TIME = 16  # windows
_SIMILAR = FEATURES.index("mixture_voice")


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
        the probability ``(num_frames,)``, or None, and the cosine of the embeddings of mixture and
        enrollment ``(num_frames,)``; 0 where no window is.
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
    *present, similar = _by_frame(measure, number, read, wanted, frame_size, model.rate)
    return (present[0] if present else None), similar


def _by_frame(measure, number, read, wanted, frame_size, rate):
    """``(number, num_frames)``: as many values as ``measure`` gives of each window."""
    rate = rate / frame_size
    size, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    last = max(len(wanted) - size, 0)
    starts = [*range(0, last, hop), last]
    starts = [start for start in starts if wanted[start : start + size].any()]
    total, count = np.zeros((number, len(wanted))), np.zeros(len(wanted))
    for at in progress(range(0, len(starts), _AT_A_TIME), "target present"):
        chosen = starts[at : at + _AT_A_TIME]
        ends = [min(start + size, len(wanted)) for start in chosen]
        places = list(zip(chosen, ends, strict=True))
        pairs = [read(start * frame_size, end * frame_size) for start, end in places]
        values = np.array(measure(*map(list, zip(*pairs, strict=True))))
        for (start, end), value in zip(places, values.T, strict=True):
            total[:, start:end] += value[:, None]
            count[start:end] += 1
    return total / np.maximum(count, 1)
