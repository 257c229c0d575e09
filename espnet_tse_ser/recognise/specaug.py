"""SpecAugment within the length of every utterance."""

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.kinds import Flag
from espnet_tse_ser.values.numbers import SHARE, Number

_MASKS, _WIDTH = Number(0, 100, whole=True), Number(0, 65536, whole=True)


class SpecAugment(AbsSpecAug):
    """Mask spans of frames and of features with zeros (Park et al., Interspeech 2019).

    It comes after normalisation, where zero is the mean. Every utterance draws its own spans
    within its own length (ESPnet's class places them over the padded batch).

    Args:
        input_size: features.
        num_time_masks, time_width: spans of at most ``time_width`` frames.
        max_time_share: no span is longer than this share of its utterance.
        num_freq_masks, freq_width: spans of at most ``freq_width`` features.
        random_width: draw each width uniformly from 0 to the maximum, else take the maximum.
    """

    def __init__(
        self,
        input_size,
        num_time_masks: _MASKS = 2,
        time_width: _WIDTH = 20,
        max_time_share: SHARE = 0.2,
        num_freq_masks: _MASKS = 2,
        freq_width: _WIDTH = 16,
        random_width: Flag() = True,
    ):
        super().__init__()
        self.num_time_masks, self.time_width = num_time_masks, time_width
        self.max_time_share = max_time_share
        self.num_freq_masks, self.freq_width = num_freq_masks, min(freq_width, input_size)
        self.random_width = random_width

    def forward(self, feats, lengths):
        """Mask ``(B, F, D)``, a new tensor.

        Args:
            feats: features; lengths: valid frames ``(B,)``.

        Returns:
            the masked features and ``lengths``.
        """
        _, num_frames, num_features = feats.shape
        time_width = torch.minimum(
            torch.full_like(lengths, self.time_width), (lengths * self.max_time_share).long()
        )
        keep_time = self._draw(lengths, time_width, self.num_time_masks, num_frames)
        size = torch.full_like(lengths, num_features)
        freq_width = torch.full_like(lengths, self.freq_width)
        keep_freq = self._draw(size, freq_width, self.num_freq_masks, num_features)
        return feats * (keep_time[:, :, None] & keep_freq[:, None, :]), lengths

    def _draw(self, sizes, widths, num_masks, num_positions):
        """``(B, num_positions)`` bool, False within ``num_masks`` random spans of each row."""
        shape = (num_masks, len(sizes))
        if self.random_width:
            widths = (torch.rand(shape, device=sizes.device) * (widths + 1)).long()
        starts = (torch.rand(shape, device=sizes.device) * (sizes - widths + 1)).long()
        keep = torch.ones(len(sizes), num_positions, dtype=torch.bool, device=sizes.device)
        for start, stop in zip(starts, starts + widths, strict=True):
            keep &= frame_mask(start, num_positions) | ~frame_mask(stop, num_positions)
        return keep
