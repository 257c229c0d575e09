"""The temporal shift of ShiftSER (Shen, Liu, Zhou, ICASSP 2023)."""

import torch
import torch.nn.functional as F


def check_shift(size, ndiv, bidirectional=False):
    """Raise `ValueError` unless one ``ndiv``-th of ``size`` channels is some, and not too many."""
    parts = 2 if bidirectional else 1
    if not parts <= ndiv <= size:
        raise ValueError(
            f"ndiv {ndiv} does not fit {size} channels; use a whole number from {parts} to {size}"
        )


def temporal_shift(x, ndiv, stride=1, bidirectional=False, mask=None):
    """Delay a part of the channels, so that neighbouring frames mix at no cost.

    The first ``D // ndiv`` channels are delayed by ``stride`` frames; with ``bidirectional`` the
    next ``D // ndiv`` channels are advanced by as much. Freed frames are filled with zeros.

    Args:
        x: ``(B, F, D)``.
        mask: valid frames ``(B, F)`` bool. With it, padded frames neither enter nor keep
            anything, so that an utterance is shifted as if it were alone.

    Returns:
        ``(B, F, D)``.

    Raises:
        ValueError: the parts are larger than the channels.

    >>> temporal_shift(torch.tensor([[[1, 2], [3, 4]]]), ndiv=2).tolist()
    [[[0, 2], [1, 4]]]
    """
    part = x.shape[-1] // ndiv
    parts = [part, part] if bidirectional else [part]
    if sum(parts) > x.shape[-1]:
        raise ValueError(f"ndiv {ndiv} is too small to shift {len(parts)} parts")
    if mask is not None:
        x = x * mask[..., None]
    stride = min(stride, x.shape[1])
    delayed, *advanced, rest = x.split([*parts, x.shape[-1] - sum(parts)], dim=-1)
    shifted = [F.pad(delayed[:, : x.shape[1] - stride], (0, 0, stride, 0))]
    shifted += [F.pad(a[:, stride:], (0, 0, 0, stride)) for a in advanced]
    x = torch.cat([*shifted, rest], dim=-1)
    return x if mask is None else x * mask[..., None]
