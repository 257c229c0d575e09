"""A bidirectional LSTM over padded sequences, faster on a CPU than a packed one."""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from espnet_tse_ser.audio.masks import frame_mask

_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class BLSTM(torch.nn.LSTM):
    """`torch.nn.LSTM`, bidirectional and batch first, whose padded frames reach no valid one.

    On a GPU the sequences are packed. On a CPU torch computes packed ones step by step, so there
    each direction runs over the padded batch, the second over sequences that are reversed within
    their lengths: a training step of 32 x 250 frames takes a sixth of the time (bench/blstm.py).
    """

    def __init__(self, input_size, hidden_size, num_layers=1, dropout=0.0):
        dropout = dropout if num_layers > 1 else 0.0
        options = {"batch_first": True, "bidirectional": True, "dropout": dropout}
        super().__init__(input_size, hidden_size, num_layers, **options)

    def forward(self, x, lengths):
        """Map ``(B, F, input_size)`` with valid frames ``(B,)``, at least 1.

        Returns:
            ``(B, F, 2 * hidden_size)``, the forward direction first; zero in padded frames.
        """
        if x.device.type != "cpu":
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(super().forward(packed)[0], True, total_length=x.shape[1])[0]
        frames = torch.arange(x.shape[1])
        backwards = torch.where(frames < lengths[:, None], lengths[:, None] - 1 - frames, frames)
        for layer in range(self.num_layers):
            if layer > 0:
                x = F.dropout(x, self.dropout, self.training)
            reverse = self._run(_ordered(x, backwards), f"l{layer}_reverse")
            x = torch.cat([self._run(x, f"l{layer}"), _ordered(reverse, backwards)], 2)
        return x * frame_mask(lengths, x.shape[1])[..., None]

    def _run(self, x, suffix):
        """One direction of one layer."""
        weights = [getattr(self, f"{name}_{suffix}") for name in _PARAMETERS]
        start = x.new_zeros(1, len(x), self.hidden_size)
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, self.training, False, True)[0]


def _ordered(x, order):
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))
