"""ShiftCNN: ConvNeXt blocks over time, with a temporal shift in the last one.

Shen, Liu, Zhou, "Mingling or misalignment? Temporal shift for speech emotion recognition with
pre-trained representations", ICASSP 2023; the block is ConvNeXt's (Liu et al., CVPR 2022) in one
dimension.
"""

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.abs_encoder import AbsEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.shift import check_shift, temporal_shift
from espnet_tse_ser.values.kinds import Flag
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, KERNEL, LAYERS, Number


class ShiftCNN(AbsEncoder):
    """ConvNeXt-1D blocks and a final layer norm; padded frames never reach a valid one.

    Args:
        input_size: channels in and out.
        num_blocks: the last block has the shift.
        kernel_size: of the depthwise convolution, odd; expansion: of the pointwise layers.
        shift: False leaves the shift out.
        ndiv: one ``ndiv``-th of the channels is shifted.
        dropout: of the convolution branch.
        drop_path: probability of skipping the convolution branch of an utterance in training.

    Raises:
        ValueError: ``ndiv`` does not fit the channels.
    """

    def __init__(
        self,
        input_size,
        num_blocks: LAYERS = 2,
        kernel_size: KERNEL = 7,
        expansion: Number(1, 64, whole=True) = 4,
        shift: Flag() = True,
        ndiv: CHANNELS = 16,
        dropout: DROPOUT = 0.0,
        drop_path: DROPOUT = 0.0,
    ):
        super().__init__()
        if shift:
            check_shift(input_size, ndiv)
        self._size = input_size
        self.blocks = torch.nn.ModuleList(
            ConvNeXtBlock(
                input_size,
                kernel_size,
                expansion,
                ndiv if shift and number == num_blocks else None,
                dropout,
                drop_path,
            )
            for number in range(1, num_blocks + 1)
        )
        self.norm = torch.nn.LayerNorm(input_size)

    def output_size(self):
        """Number of channels."""
        return self._size

    def forward(self, xs_pad, ilens, prev_states=None):
        """Encode.

        Args:
            xs_pad: ``(B, F, input_size)``; ilens: valid frames ``(B,)``.
            prev_states: unused, ESPnet's interface.

        Returns:
            ``(B, F, input_size)`` with zeros in padded frames, ``ilens``, None.
        """
        mask = frame_mask(ilens, xs_pad.shape[1])
        x = xs_pad * mask[..., None]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x) * mask[..., None], ilens, None


class ConvNeXtBlock(torch.nn.Module):
    """``residual(x) + pointwise(LN(depthwise(x)))``, the residual being shifted with ``ndiv``."""

    def __init__(self, size, kernel_size=7, expansion=4, ndiv=None, dropout=0.0, drop_path=0.0):
        super().__init__()
        self.ndiv, self.drop_path = ndiv, drop_path
        self.depthwise = torch.nn.Conv1d(
            size, size, kernel_size, padding=kernel_size // 2, groups=size
        )
        self.norm = torch.nn.LayerNorm(size, eps=1e-6)
        self.expand = torch.nn.Linear(size, expansion * size)
        self.project = torch.nn.Linear(expansion * size, size)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x, mask):
        """Map ``(B, F, D)``, zero in padded frames, with ``mask`` ``(B, F)`` to the same shape."""
        branch = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        branch = self.dropout(self.project(F.gelu(self.expand(branch)))) * mask[..., None]
        if self.training and self.drop_path > 0:
            keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
            branch = branch * keep / (1 - self.drop_path)
        residual = x if self.ndiv is None else temporal_shift(x, self.ndiv, mask=mask)
        return residual + branch
