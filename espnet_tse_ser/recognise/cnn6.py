"""CNN6: a small convolutional network over time and frequency.

Of PANNs (Kong et al., IEEE/ACM TASLP 2020), as TRNet (Chen & Zhang, arXiv 2404.12979) has it.
"""

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.abs_encoder import AbsEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.training.precision import float32, widened
from espnet_tse_ser.values.kinds import Several
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, KERNEL, Number


class CNN6(AbsEncoder):
    """Blocks of convolution, batch norm, ReLU, 2 x 2 max pooling and dropout; mean over frequency.

    Padded frames are zero before each convolution and count in no statistics of a batch norm: an
    utterance gives the same alone and in a padded batch (in evaluation; in training the statistics
    are those of all valid frames of the batch).

    Args:
        input_size: bands, or bands times ``planes``.
        planes: into which the features of a frame are divided, e.g. 3 with deltas.
        channels: of the blocks. kernel_size: odd. dropout: after each block.

    Raises:
        ValueError: the features cannot be divided, or have too few bands for the pooling.
    """

    def __init__(
        self,
        input_size,
        planes: Number(1, 16, whole=True) = 1,
        channels: Several(CHANNELS, 1, 8) = (64, 128, 256, 512),
        kernel_size: KERNEL = 5,
        dropout: DROPOUT = 0.2,
    ):
        super().__init__()
        bands, rest = divmod(input_size, planes)
        if rest or bands < 2 ** len(channels):
            raise ValueError(
                f"{input_size} features cannot be {planes} plane(s) of at least "
                f"{2 ** len(channels)} bands, which {len(channels)} blocks need"
            )
        self.planes, self.dropout = planes, dropout
        self.norm = MaskedBatchNorm(bands)
        pairs = list(zip([planes, *channels[:-1]], channels, strict=True))
        self.convs = torch.nn.ModuleList(
            torch.nn.Conv2d(*pair, kernel_size, padding=kernel_size // 2, bias=False)
            for pair in pairs
        )
        self.norms = torch.nn.ModuleList(MaskedBatchNorm(channel) for channel in channels)

    def output_size(self):
        """Channels of the last block."""
        return self.convs[-1].out_channels

    def forward(self, feats, lengths):
        """Encode.

        Args:
            feats: ``(B, F, input_size)``; lengths: valid frames ``(B,)``.

        Returns:
            ``(B, F', output_size)`` with zeros in padded frames, the valid frames ``(B,)`` (halved
            by each block, rounded down, at least 1), and None.
        """
        x = feats.reshape(*feats.shape[:2], self.planes, -1).transpose(1, 2)  # (B, planes, F, D)
        # A frame of zeros at least, where there are fewer than the pooling takes.
        x = F.pad(x, (0, 0, 0, max(0, 2 ** len(self.convs) - x.shape[2])))
        mask = _mask(lengths, x)
        x = self.norm(x.transpose(1, 3), mask.transpose(1, 3)).transpose(1, 3) * mask
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x), mask)
            # After ReLU nothing is below the zeros beyond the last frame of an odd number.
            x = F.max_pool2d(F.relu(x) * mask, 2)
            lengths = torch.div(lengths, 2, rounding_mode="floor").clamp(min=1)
            mask = _mask(lengths, x)
            x = F.dropout(x, self.dropout, self.training) * mask
        return x.mean(dim=3).transpose(1, 2), lengths, None


class MaskedBatchNorm(torch.nn.BatchNorm2d):
    """Batch norm whose statistics are those of the valid frames."""

    def forward(self, x, mask):
        """Normalise ``(B, C, F, D)``; mask ``(B, 1, F, 1)``, or what is broadcast to x."""
        if not self.training:
            return super().forward(x)
        with float32(x):
            return self._of_batch(widened(x), mask)

    def _of_batch(self, x, mask):
        count = mask.expand(len(x), 1, *x.shape[2:]).sum(dtype=torch.float)
        mean = (x * mask).sum(dim=(0, 2, 3), keepdim=True) / count
        centred = x - mean
        variance = (centred.square() * mask).sum(dim=(0, 2, 3), keepdim=True) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.flatten().to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.flatten().to(self.running_var), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight[:, None, None] * (variance + self.eps).rsqrt()
        return centred * scale + self.bias[:, None, None]


def _mask(lengths, x):
    """``(B, 1, F, 1)`` of x ``(B, C, F, D)``."""
    return frame_mask(lengths, x.shape[2])[:, None, :, None].to(x)
