"""Masking of SSL features as in ShiftSER."""

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.numbers import SHARE, Number

_MASKS, _WIDTH = Number(0, 100, whole=True), Number(1, 65536, whole=True)


class SSLSpecAugment(AbsSpecAug):
    """Replace spans of frames by a learned vector, then set spans of channels to zero.

    Each utterance draws its own spans within its own length L: with u uniform on [0, 1),

        max(floor(prob * L / width + u), min_masks)

    spans of ``width``, but no more than floor(L / width); their starts are drawn without
    replacement, so they may overlap. For channels L is ``input_size``. These are the rules of
    HuggingFace's wav2vec 2.0 (``_compute_mask_indices``), on which ShiftSER builds; there one u
    serves a whole batch, and L is that of the padded batch, where no mask of frames is given.

    In 7.5 s (374 frames of 768 channels) the defaults mask 2 spans of frames and 1 of channels.

    Args:
        input_size: channels.
        time_prob, time_width, min_time_masks: spans of frames, ``time_width`` frames each.
        channel_prob, channel_width, min_channel_masks: spans of channels.
    """

    def __init__(
        self,
        input_size,
        time_prob: SHARE = 0.08,
        time_width: _WIDTH = 15,
        min_time_masks: _MASKS = 2,
        channel_prob: SHARE = 0.05,
        channel_width: _WIDTH = 64,
        min_channel_masks: _MASKS = 1,
    ):
        super().__init__()
        self.time = time_prob, time_width, min_time_masks
        self.channel = channel_prob, channel_width, min_channel_masks
        self.mask_vector = torch.nn.Parameter(torch.rand(input_size))
        self.mask_vector._no_weight_decay = True  # as all that is one-dimensional in ShiftSER

    def forward(self, feats, lengths):
        """Mask ``(B, F, input_size)``, a new tensor.

        Args:
            feats: features; lengths: valid frames ``(B,)``.

        Returns:
            the masked features and ``lengths``; no span of frames reaches into the padding.
        """
        _, num_frames, num_channels = feats.shape
        frames = draw_spans(lengths, num_frames, *self.time)
        channels = draw_spans(torch.full_like(lengths, num_channels), num_channels, *self.channel)
        # The vector has a gradient, if only zero, in every step: DDP would miss it.
        feats = torch.where(frames[..., None], self.mask_vector.to(feats.dtype), feats)
        return feats * ~channels[:, None], lengths


def draw_spans(lengths, num_positions, prob, width, min_masks, generator=None):
    """Draw random spans (see `SSLSpecAugment`).

    Args:
        lengths: ``(B,)``; num_positions: at least each of them.
        generator: of random numbers on the device; None: torch's own.

    Returns:
        ``(B, num_positions)`` bool, True within a span; all False beyond the length.
    """
    of = {"device": lengths.device, "generator": generator}
    wanted = (prob * lengths / width + torch.rand(len(lengths), **of)).long()
    most = torch.div(lengths, width, rounding_mode="floor")
    number = torch.minimum(wanted.clamp(min=min_masks), most)
    # The positions at which a span still fits, in random order; those beyond come last.
    order = torch.rand(len(lengths), num_positions, **of)
    order = order.masked_fill(~frame_mask(lengths - width + 1, num_positions), 2.0)
    starts = order.argsort(1).argsort(1) < number[:, None]
    # A position is within a span if one started at it or up to width - 1 before it.
    begun = starts.cumsum(1)
    ended = torch.nn.functional.pad(begun, (width, 0))[:, :num_positions]
    return begun > ended
