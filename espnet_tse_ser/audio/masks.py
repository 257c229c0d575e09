"""Masks of valid frames: what keeps a result independent of padding."""

import torch


def frame_mask(lengths, num_frames):
    """Make a mask of valid frames.

    Args:
        lengths: ``(B,)`` valid frames (or samples) of each item.
        num_frames: frames of the padded batch.

    Returns:
        ``(B, num_frames)`` bool, True where a frame is valid.

    >>> frame_mask(torch.tensor([1, 2]), 2).tolist()
    [[True, False], [True, True]]
    """
    frames = torch.arange(num_frames, device=lengths.device)
    return frames < lengths[:, None]
