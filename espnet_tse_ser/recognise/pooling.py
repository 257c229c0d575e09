"""Pooling over the valid frames of an utterance."""

import torch

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.kinds import Flag

_EPS = 1e-6  # keeps the gradient of the square root finite for a constant channel


class StatsPooling(torch.nn.Module):
    """Mean, and optionally standard deviation, over valid frames.

    Args:
        input_size: channels; std: append the standard deviation to the mean.
    """

    def __init__(self, input_size, std: Flag() = False):
        super().__init__()
        self.input_size, self.std = input_size, std

    def output_size(self):
        """Channels of the pooled vector."""
        return self.input_size * (2 if self.std else 1)

    def forward(self, x, lengths):
        """Pool ``(B, F, D)`` with valid frames ``(B,)`` to ``(B, output_size)``.

        >>> pool = StatsPooling(1)
        >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
        [[2.0]]
        """
        mask = frame_mask(lengths, x.shape[1])[..., None]
        count = lengths[:, None].to(x)
        mean = (x * mask).sum(dim=1) / count
        if not self.std:
            return mean
        variance = ((x - mean[:, None]) * mask).square().sum(dim=1) / count
        return torch.cat([mean, (variance + _EPS).sqrt()], dim=-1)
