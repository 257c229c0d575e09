"""Pooling over the valid frames of an utterance."""

import torch

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.batch_norm import BatchNorm
from espnet_tse_ser.values.kinds import Flag
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT

_STEEPEST = 10.0  # logits of attention lie between this and its negative
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


class AttentiveStatsPooling(torch.nn.Module):
    """Weighted mean and standard deviation, by a softmax over the valid frames.

    Of Okabe, Koshinaka, Shinoda ("Attentive statistics pooling for deep speaker embedding",
    Interspeech 2018, arXiv 1803.10963), with one weight a frame. All frames weigh the same at
    first.

    Args:
        input_size: channels. size: units of the attention. dropout: of the pooled vector.
        standardize: bring each channel of the pooled vector to mean 0 and variance 1 over the
            batch; in evaluation, and in a batch of one, by running statistics.
    """

    def __init__(
        self,
        input_size,
        size: CHANNELS = 1024,
        dropout: DROPOUT = 0.0,
        standardize: Flag() = False,
    ):
        super().__init__()
        self.input_size = input_size
        self.hidden = torch.nn.Linear(input_size, size)
        self.vector = torch.nn.Linear(size, 1, bias=False)
        torch.nn.init.zeros_(self.vector.weight)
        self.norm = BatchNorm(2 * input_size, affine=False) if standardize else None
        self.dropout = torch.nn.Dropout(dropout)

    def output_size(self):
        """Channels of the pooled vector."""
        return 2 * self.input_size

    def forward(self, x, lengths):
        """Pool ``(B, F, D)`` with valid frames ``(B,)`` to ``(B, output_size)``."""
        padded = ~frame_mask(lengths, x.shape[1])[..., None]
        logits = self.vector(torch.tanh(self.hidden(x)))
        weights = logits.masked_fill(padded, -torch.inf).softmax(dim=1)
        mean = (weights * x).sum(dim=1)
        variance = (weights * (x - mean[:, None]).square()).sum(dim=1)
        pooled = torch.cat([mean, (variance + _EPS).sqrt()], dim=-1)
        return self.dropout(pooled if self.norm is None else self.norm(pooled))


class AttentionPooling(torch.nn.Module):
    """A mean of linear outputs, weighted for each channel by a softmax over the valid frames.

    Of PANNs (Kong et al., IEEE/ACM TASLP 2020), as TRNet (Chen & Zhang, arXiv 2404.12979) has it.

    Args:
        input_size: channels in. size: channels of the pooled vector.
    """

    def __init__(self, input_size, size: CHANNELS = 256):
        super().__init__()
        self.attention = torch.nn.Linear(input_size, size)
        self.values = torch.nn.Linear(input_size, size)

    def output_size(self):
        """Channels of the pooled vector."""
        return self.values.out_features

    def forward(self, x, lengths):
        """Pool ``(B, F, D)`` with valid frames ``(B,)`` to ``(B, output_size)``."""
        logits = self.attention(x).clamp(-_STEEPEST, _STEEPEST)
        padded = ~frame_mask(lengths, x.shape[1])[..., None]
        weights = logits.masked_fill(padded, -torch.inf).softmax(dim=1)
        return (weights * self.values(x)).sum(dim=1)
