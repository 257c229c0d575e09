"""Shiftformer: transformer blocks in which a temporal shift takes the place of self-attention.

Shen, Liu, Zhou, "Mingling or misalignment? Temporal shift for speech emotion recognition with
pre-trained representations", ICASSP 2023. The transformer it is compared with has relative
positions for queries and keys (Shaw et al., NAACL 2018; Huang et al., EMNLP Findings 2020,
method 4).
"""

import torch
import torch.nn.functional as F
from espnet2.asr.encoder.abs_encoder import AbsEncoder

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.shift import check_shift, temporal_shift
from espnet_tse_ser.values.kinds import Flag
from espnet_tse_ser.values.numbers import CHANNELS, DROPOUT, LAYERS, Number


class Shiftformer(AbsEncoder):
    """Post-norm blocks over time; padded frames never reach a valid one.

    Args:
        input_size: channels in and out.
        num_blocks: number of blocks.
        expansion: of the pointwise layers.
        shift: True mixes frames by a shift in both directions; False by self-attention.
        ndiv: one ``ndiv``-th of the channels is delayed and another one advanced, by one frame.
        num_heads, max_distance: of the self-attention, see `RelativeSelfAttention`.
        dropout: of the pointwise branch, and of the attention branch.

    Raises:
        ValueError: ``ndiv`` or ``num_heads`` does not fit the channels.
    """

    def __init__(
        self,
        input_size,
        num_blocks: LAYERS = 2,
        expansion: Number(1, 64, whole=True) = 4,
        shift: Flag() = True,
        ndiv: CHANNELS = 4,
        num_heads: CHANNELS = 12,
        max_distance: Number(1, 65536, whole=True) = 512,
        dropout: DROPOUT = 0.0,
    ):
        super().__init__()
        self._size = input_size
        if shift:
            check_shift(input_size, ndiv, bidirectional=True)
        self.blocks = torch.nn.ModuleList()
        for _ in range(num_blocks):
            attention = None
            if not shift:
                attention = RelativeSelfAttention(input_size, num_heads, max_distance)
            self.blocks.append(ShiftformerBlock(input_size, expansion, ndiv, attention, dropout))

    def output_size(self):
        """Number of channels."""
        return self._size

    def forward(self, xs_pad, ilens, prev_states=None):
        """Encode.

        Args:
            xs_pad: ``(B, F, input_size)``; ilens: valid frames ``(B,)``, at least 1.
            prev_states: unused, ESPnet's interface.

        Returns:
            ``(B, F, input_size)`` with zeros in padded frames, ``ilens``, None.

        >>> out, lengths, _ = Shiftformer(8)(torch.randn(2, 5, 8), torch.tensor([5, 2]))
        >>> tuple(out.shape), bool((out[1, 2:] == 0).all())
        ((2, 5, 8), True)
        """
        mask = frame_mask(ilens, xs_pad.shape[1])
        x = xs_pad * mask[..., None]
        for block in self.blocks:
            x = block(x, mask)
        return x, ilens, None


class ShiftformerBlock(torch.nn.Module):
    """``y = shift(x)``, or ``y = LN(x + attention(x))``; then ``LN(y + pointwise(y))``.

    There is neither a residual nor a norm around the shift.
    """

    def __init__(self, size, expansion=4, ndiv=4, attention=None, dropout=0.0):
        super().__init__()
        self.ndiv, self.attention = ndiv, attention
        self.attention_norm = None if attention is None else torch.nn.LayerNorm(size)
        self.expand = torch.nn.Linear(size, expansion * size)
        self.project = torch.nn.Linear(expansion * size, size)
        self.norm = torch.nn.LayerNorm(size)
        self.dropout = torch.nn.Dropout(dropout)

    def forward(self, x, mask):
        """Map ``(B, F, D)``, zero in padded frames, with ``mask`` ``(B, F)`` to the same shape."""
        if self.attention is None:
            x = temporal_shift(x, self.ndiv, bidirectional=True, mask=mask)
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, mask)))
        branch = self.dropout(self.project(F.gelu(self.expand(x))))
        return self.norm(x + branch) * mask[..., None]


class RelativeSelfAttention(torch.nn.Module):
    """Self-attention whose scores depend on how far apart two frames are; no output projection.

    With queries ``q``, keys ``k``, a learned vector ``r`` for each distance that all heads share,
    and ``d`` channels a head, frame i attends to frame j by

        (q_i . k_j + q_i . r_{i-j} + k_j . r_{i-j}) / sqrt(d)

    which is what BERT implementations call ``relative_key_query``. The paper's table of distances
    ends with its 7.5 s of input; here a distance of ``max_distance`` frames or more counts as
    ``max_distance - 1``, so that there is no longest utterance.

    Raises:
        ValueError: ``num_heads`` does not divide the channels.
    """

    def __init__(self, size, num_heads=12, max_distance=512):
        super().__init__()
        if size % num_heads:
            raise ValueError(f"num_heads {num_heads} does not divide the {size} channels")
        self.num_heads, self.max_distance = num_heads, max_distance
        self.query = torch.nn.Linear(size, size)
        self.key = torch.nn.Linear(size, size)
        self.value = torch.nn.Linear(size, size)
        # Row i - j + max_distance - 1; standard normal as in BERT implementations.
        self.distances = torch.nn.Parameter(torch.randn(2 * max_distance - 1, size // num_heads))

    def forward(self, x, mask):
        """Map ``(B, F, D)`` with valid frames ``mask`` ``(B, F)`` to the same shape.

        Padded frames are attended to by none; what comes out for them means nothing.
        """
        batch, num_frames, size = x.shape
        query, key, value = (
            layer(x).view(batch, num_frames, self.num_heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        positions = torch.arange(num_frames, device=x.device)
        limit = self.max_distance - 1
        distance = (positions[:, None] - positions).clamp(-limit, limit)
        relative = self.distances[distance + limit]
        scores = query @ key.transpose(2, 3)
        scores = scores + torch.einsum("bhid,ijd->bhij", query, relative)
        scores = scores + torch.einsum("bhjd,ijd->bhij", key, relative)
        scores = scores / (size // self.num_heads) ** 0.5
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        return (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, num_frames, size)
