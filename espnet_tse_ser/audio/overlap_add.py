"""Overlapping frames added up to signals."""

import torch.nn.functional as F


def overlap_add(frames, stride):
    """Add up frames ``(B, K, L)``, K a multiple of ``stride``: ``(B, (L - 1) stride + K)``.

    >>> import torch
    >>> overlap_add(torch.tensor([[[1.0, 3.0], [2.0, 4.0]]]), 1).tolist()
    [[1.0, 5.0, 4.0]]
    """
    batch_size, size, num_frames = frames.shape
    overlap = size // stride
    # A frame is as many hops long as frames share a sample: hop h of frame t is hop t + h.
    hops = frames.reshape(batch_size, overlap, stride, num_frames).unbind(1)
    summed = sum(F.pad(hop, (h, overlap - 1 - h)) for h, hop in enumerate(hops))
    return summed.transpose(1, 2).reshape(batch_size, -1)
