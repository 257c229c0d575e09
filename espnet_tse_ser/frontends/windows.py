"""Extraction of a long recording in constant memory, by windows that overlap.

A window is extracted as if it were a recording of its own. What the network says near the edges of
a window rests on samples that it does not see, so the outer `receptive_field` of it is thrown away,
and a window fades into the next over `FADE_SECONDS` within what both of them cover.

* With channel-wise layer norm (cLN) the windows then agree, and the result is that of the whole
  recording. That needs windows that start on the network's own grid of frames; off it, 7 to 14 dB
  of SI-SDR are left.
* Global layer norm (gLN) takes statistics over all that it sees. Those of windows differ, so the
  recording is run twice: to add up the statistics of each norm, and to use these in every window
  (`NormStatistics`). On minutes of LibriSpeech mixtures and the RAVDESS recipe's extractors the
  SI-SDR against the whole is then 49 to 59 dB with windows of 60 s, 40 to 56 dB with 20 s, 30 to 42
  dB with 4 s; with statistics of their own, 27 to 28, 22 to 30 and 17 to 24 dB.

The level of the network is left alone. It is arbitrary but steady (0.1 dB between windows of 60 s);
matching windows on their overlap adds up to tens of dB over a recording, and fitting each to its
mixture raises the interferer wherever the target is silent.
"""

import numpy as np

FADE_SECONDS = 0.25


def receptive_field(model):
    """Samples at each end of a window whose estimate would change if more were seen.

    Args:
        model: `ESPnetTSEModel`.

    Returns:
        a multiple of the encoder's stride.
    """
    encoder = model.encoder
    return (model.extractor.reach + -(-encoder.kernel_size // encoder.stride)) * encoder.stride


def overlap(model, rate):
    """Samples that a window shares with the next: both lose `receptive_field`, and they fade."""
    return 2 * receptive_field(model) + round(FADE_SECONDS * rate)


def plan(num_samples, window, overlap, stride=1):
    """Divide a recording into windows of equal length.

    Args:
        num_samples: of the recording; window: of a window at most (but for ``stride``);
        overlap: of a window and the next; stride: windows start at its multiples.

    Returns:
        list of ``(start, stop)``; one window if the recording is no longer than that.

    >>> plan(1000, 400, 100)
    [(0, 400), (300, 700), (600, 1000)]
    >>> plan(900, 400, 100, 32)
    [(0, 356), (256, 644), (544, 900)]

    Raises:
        ValueError: a window would be no longer than two overlaps, or ``overlap`` below 0.
    """
    if not 0 <= 2 * overlap < window:
        raise ValueError(f"a window of {window} samples is too short for overlaps of {overlap}")
    if num_samples <= window:
        return [(0, num_samples)]
    count = -(-(num_samples - overlap) // (window - overlap))
    hop = (num_samples - overlap) / count
    starts = [round(k * hop / stride) * stride for k in range(count)]
    stops = [start + overlap for start in starts[1:]] + [num_samples]
    return list(zip(starts, stops, strict=True))


def cut(blocks, windows):
    """Yield the samples of each window of a stream.

    Args:
        blocks: iterable of ``(num_samples,)`` arrays, one after another. windows: as `plan` makes.

    Raises:
        ValueError: the stream ends before the last window does.
    """
    blocks, held, first, have = iter(blocks), [], 0, 0
    for start, stop in windows:
        while have < stop:
            block = next(blocks, None)
            if block is None:
                raise ValueError(f"the stream ends at {have}, before sample {stop}")
            held.append(block)
            have += len(block)
        held, first = [np.concatenate(held)[start - first :].copy()], start
        yield held[0][: stop - start]


def join(windows, estimates, edge):
    """Join the estimates of windows to one signal.

    Args:
        windows: as `plan` makes. estimates: iterable of ``(stop - start,)`` float arrays, one for
            each window. edge: samples at both ends of an overlap that are left to the other window.

    Yields:
        arrays, one for each window, that make up the signal; each starts where the one before ends.

    >>> a, b = np.zeros(6), np.ones(6)
    >>> np.concatenate(list(join([(0, 6), (2, 8)], [a, b], edge=1)))
    array([0.        , 0.        , 0.        , 0.33333333, 0.66666667,
           1.        , 1.        , 1.        ])
    """
    tail, begin = None, 0  # what fades out into the next window, and where in that
    for number, (estimate, (start, stop)) in enumerate(zip(estimates, windows, strict=True)):
        estimate = np.array(estimate)
        if tail is not None:
            rise = np.arange(1, len(tail) + 1, dtype=estimate.dtype) / (len(tail) + 1)
            faded = estimate[begin : begin + len(tail)]
            # Of equal windows this is either to the bit.
            faded[:] = tail + rise * (faded - tail)
        if number + 1 == len(windows):
            yield estimate[begin:]
            return
        end, next_start = stop - start - edge, windows[number + 1][0]
        fade = end - (next_start + edge - start)
        yield estimate[begin : end - fade]
        tail, begin = estimate[end - fade : end], edge


def pieces(windows, edge):
    """``(start, stop)`` of what `join` yields, in samples of the recording."""
    cuts = [0, *(start + edge for start, _ in windows[1:]), windows[-1][1]]
    return list(zip(cuts, cuts[1:], strict=False))
