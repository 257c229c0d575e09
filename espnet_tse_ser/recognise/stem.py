"""Convolutional stem: from mel bands to the encoder's channels and frame rate."""

import torch
from espnet2.asr.preencoder.abs_preencoder import AbsPreEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.kinds import Several
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, KERNEL, Number


class ConvStem(AbsPreEncoder):
    """Two masked convolutions over time, GELU after the first, layer norm after the second.

    Args:
        input_size: features a frame; output_size: channels.
        kernel_size: odd, of both convolutions; strides: of the first and the second one.
        dropout: after the layer norm.
    """

    def __init__(
        self,
        input_size,
        output_size: CHANNELS = 160,
        kernel_size: KERNEL = 5,
        strides: Several(Number(1, 64, whole=True), 2, 2) = (2, 1),
        dropout: DROPOUT = 0.0,
    ):
        super().__init__()
        self.strides = tuple(strides)
        padding = kernel_size // 2
        first, second = self.strides
        self.conv1 = torch.nn.Conv1d(input_size, output_size, kernel_size, first, padding)
        self.conv2 = torch.nn.Conv1d(output_size, output_size, kernel_size, second, padding)
        self.norm = torch.nn.LayerNorm(output_size)
        self.dropout = torch.nn.Dropout(dropout)

    def output_size(self):
        """Number of channels."""
        return self.conv2.out_channels

    def forward(self, feats, lengths):
        """Convolve.

        Args:
            feats: ``(B, F, input_size)``; lengths: valid frames ``(B,)``.

        Returns:
            ``(B, F', output_size)`` with zeros in padded frames, and the valid frames ``(B,)``:
            the lengths divided by each stride in turn, rounded up.
        """
        x = (feats * frame_mask(lengths, feats.shape[1])[..., None]).transpose(1, 2)
        x = torch.nn.functional.gelu(self.conv1(x))
        lengths = _strided(lengths, self.strides[0])
        x = self.conv2(x * frame_mask(lengths, x.shape[2])[:, None])
        lengths = _strided(lengths, self.strides[1])
        x = self.dropout(self.norm(x.transpose(1, 2)))
        return x * frame_mask(lengths, x.shape[1])[..., None], lengths


def _strided(lengths, stride):
    return torch.div(lengths - 1, stride, rounding_mode="floor") + 1
