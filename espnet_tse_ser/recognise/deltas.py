"""Delta features: how features change over time."""

import torch
import torch.nn.functional as F
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.numbers import Number


class Deltas(AbsPreEncoder):
    """Append the regression coefficients of first and second order, as HTK and Kaldi define them.

    ``d_t = sum_n n (x_{t+n} - x_{t-n}) / (2 sum_n n^2)``, n from 1 to ``window``; the second order
    is that of the first. The first and the last valid frame go on beyond the ends.

    Args:
        input_size: features a frame. window: frames on each side.
    """

    def __init__(self, input_size, window: Number(1, 50, whole=True) = 2):
        super().__init__()
        self.input_size, self.window = input_size, window
        steps = torch.arange(-window, window + 1.0)
        self.register_buffer("weights", steps / steps.square().sum(), persistent=False)

    def output_size(self):
        """Number of features: static, first and second order."""
        return 3 * self.input_size

    def forward(self, feats, lengths):
        """Map ``(B, F, D)`` with valid frames ``(B,)`` to ``(B, F, 3 D)``, zero where padded.

        >>> ramp = torch.arange(6.0)[None, :, None]
        >>> Deltas(1)(ramp, torch.tensor([6]))[0][0, 2:4, :2].tolist()
        [[2.0, 1.0], [3.0, 1.0]]
        """
        first = self._slope(feats, lengths)
        found = torch.cat([feats, first, self._slope(first, lengths)], dim=-1)
        return found * frame_mask(lengths, feats.shape[1])[..., None], lengths

    def _slope(self, feats, lengths):
        frames = torch.arange(-self.window, feats.shape[1] + self.window, device=feats.device)
        frames = torch.minimum(frames.clamp(min=0), lengths[:, None] - 1)  # the ends go on
        spread = feats.gather(1, frames[..., None].expand(-1, -1, feats.shape[2]))
        channels = spread.transpose(1, 2).reshape(-1, 1, spread.shape[1])
        slopes = F.conv1d(channels, self.weights.to(feats)[None, None])
        return slopes.reshape(len(feats), feats.shape[2], -1).transpose(1, 2)
