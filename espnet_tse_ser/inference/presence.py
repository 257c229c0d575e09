"""Where in a recording the target is present, by the calibration of the model.

`target_present` (calibration.py) is of a whole mixture. Here it is of windows of 1.5 s of a
recording and of what is extracted there, every 0.5 s; a frame has the mean of its windows.
"""

import numpy as np

from espnet_tse_ser.inference.evidence import evidence
from espnet_tse_ser.progress import progress

WINDOW_SECONDS, HOP_SECONDS = 1.5, 0.5

_AT_A_TIME = 16  # windows


def present_by_frame(model, enrollment, read, wanted, frame_size):
    """The probability that the target is present, frame by frame.

    Args:
        model: `TSESER` that extracts, with a calibration. enrollment: ``(num_samples,)``.
        read: function of the first sample and the end -> mixture and what is extracted of it, at
            the level of the network, ``(num_samples,)`` float32 each.
        wanted: ``(num_frames,)`` bool; windows without a wanted frame are left out.
        frame_size: samples of a frame.

    Returns:
        ``(num_frames,)``, 0 where no window is.
    """
    embedding = model.embeddings()([enrollment])
    rate = model.rate / frame_size
    size, hop = round(WINDOW_SECONDS * rate), round(HOP_SECONDS * rate)
    last = max(len(wanted) - size, 0)
    starts = [*range(0, last, hop), last]
    starts = [start for start in starts if wanted[start : start + size].any()]
    total, count = np.zeros(len(wanted)), np.zeros(len(wanted))
    for at in progress(range(0, len(starts), _AT_A_TIME), "target present"):
        chosen = starts[at : at + _AT_A_TIME]
        ends = [min(start + size, len(wanted)) for start in chosen]
        pairs = [
            read(start * frame_size, end * frame_size)
            for start, end in zip(chosen, ends, strict=True)
        ]
        measured = evidence(
            model.model.tse_model,
            *map(list, zip(*pairs, strict=True)),
            embedding.expand(len(pairs), -1),
            model.rate,
        )
        found = model.calibration.target_present(measured)
        for start, end, probability in zip(chosen, ends, found, strict=True):
            total[start:end] += probability
            count[start:end] += 1
    return total / np.maximum(count, 1)
