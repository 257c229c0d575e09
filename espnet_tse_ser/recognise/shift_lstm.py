"""ShiftLSTM: a bidirectional LSTM over temporally shifted features.

Shen, Liu, Zhou, "Mingling or misalignment? Temporal shift for speech emotion recognition with
pre-trained representations", ICASSP 2023.
"""

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.blstm import BLSTM
from espnet_tse_ser.recognise.shift import check_shift, temporal_shift
from espnet_tse_ser.values.kinds import Flag, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, LAYERS


class ShiftLSTM(AbsEncoder):
    """Shift, BiLSTM, layer norm; padded frames never reach a valid one.

    The shift is in place: the LSTM sees the delayed channels only, there is no residual.

    Args:
        input_size: channels in.
        hidden_size: of each direction; None is ``input_size``, as in the paper.
        num_layers: of the LSTM.
        shift: False leaves the shift out: a plain BiLSTM.
        ndiv: one ``ndiv``-th of the channels is delayed by one frame.
        dropout: of the LSTM's output, and between its layers.

    Raises:
        ValueError: ``ndiv`` does not fit the channels.
    """

    def __init__(
        self,
        input_size,
        hidden_size: Maybe(CHANNELS) = None,
        num_layers: LAYERS = 1,
        shift: Flag() = True,
        ndiv: CHANNELS = 4,
        dropout: DROPOUT = 0.0,
    ):
        super().__init__()
        if shift:
            check_shift(input_size, ndiv)
        self.ndiv = ndiv if shift else None
        hidden_size = input_size if hidden_size is None else hidden_size
        self.lstm = BLSTM(input_size, hidden_size, num_layers, dropout)
        for name, parameter in self.lstm.named_parameters():
            # ESPnet's exclude_weight_decay finds biases by names that end so: bias_ih_l0 does not.
            parameter._no_weight_decay = name.startswith("bias")
        self.dropout = torch.nn.Dropout(dropout)
        self.norm = torch.nn.LayerNorm(2 * hidden_size)

    def output_size(self):
        """Number of channels, both directions."""
        return self.norm.normalized_shape[0]

    def forward(self, xs_pad, ilens, prev_states=None):
        """Encode.

        Args:
            xs_pad: ``(B, F, input_size)``; ilens: valid frames ``(B,)``, at least 1.
            prev_states: unused, ESPnet's interface.

        Returns:
            ``(B, F, 2 * hidden_size)`` with zeros in padded frames, ``ilens``, None.

        >>> out, lengths, _ = ShiftLSTM(4, 3)(torch.randn(2, 5, 4), torch.tensor([5, 2]))
        >>> tuple(out.shape), bool((out[1, 2:] == 0).all())
        ((2, 5, 6), True)
        """
        mask = frame_mask(ilens, xs_pad.shape[1])
        x = xs_pad if self.ndiv is None else temporal_shift(xs_pad, self.ndiv, mask=mask)
        x = self.lstm(x, ilens)
        return self.norm(self.dropout(x)) * mask[..., None], ilens, None
