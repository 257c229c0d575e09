"""Refinement of what a front-end gives, by how much it differs from its input.

Chen & Zhang, "TRNet: Two-level refinement network leveraging speech enhancement for noise robust
speech emotion recognition", Applied Acoustics 2024 (arXiv 2404.12979). In the names of the paper: a
score ``S`` of how clean the input is blends the features of both (low level) and moves the
embedding (high level).
"""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.values.kinds import Choice
from espnet_tse_ser.values.numbers import CHANNELS, Number

PER = ("utterance", "frame", "band")
_EPS = 1e-8


class Compensation(torch.nn.Module):
    """Blend features of the mixture and of the denoised speech by a score of their similarity.

    ``r_f`` is the cosine, over time, of band f in both. ``S = hardtanh(w . r + b)`` in [0, 1]
    becomes 1 where the mixture is clean, and ``X' = S X_noisy + (1 - S) X_denoised``. The weights
    begin where the score has a gradient, w = 0, b = 0.5, and a score that has come to an end of its
    range keeps the gradient that leads back (`clip`). What is learned of ``b`` is its sum with
    ``w``, the score of a mixture like its denoised speech: ``S = hardtanh(w . (r - 1) + b')``, the
    same scores. All r are near 1: with ``b`` itself each step of w moves the scores of all mixtures
    alike, and what tells them apart comes too late (on RAVDESS, after 30 epochs, not at all).

    Args:
        bands: features a frame.
        per: one score for each "utterance" (the paper), "frame", or frame and "band": then the
            cosine is over the frames of a window, and per band ``S_f = hardtanh(w_f r_f + b_f)``.
        window: frames of it, odd.
        centred: take its mean over time out of each band before the cosine, which is then their
            correlation; without, the cosine depends on the offset of the features.
        offset: added to the features before the cosine; 20.8 is that of energies of 16-bit
            integers against those of samples in [-1, 1].

    Raises:
        ValueError: ``offset`` with ``centred``, on which it has no effect.
    """

    def __init__(
        self,
        bands,
        per: Choice(*PER) = "utterance",
        window: Number(1, 9999, whole=True, odd=True) = 31,
        centred: Choice(False, True) = False,
        offset: Number(-100, 100) = 0.0,
    ):
        super().__init__()
        if centred and offset:
            raise ValueError("offset has no effect on what is centred; leave it out")
        self.per, self.window, self.centred, self.offset = per, window, centred, offset
        self.weight = torch.nn.Parameter(torch.zeros(bands))
        self.bias = torch.nn.Parameter(torch.full((bands if per == "band" else 1,), 0.5))

    def forward(self, noisy, denoised, lengths):
        """Blend.

        Args:
            noisy, denoised: ``(B, F, bands)``; lengths: valid frames ``(B,)``.

        Returns:
            features ``(B, F, bands)``, zero in padded frames, and the mean score of each utterance
            over its valid frames ``(B,)``.
        """
        mask = frame_mask(lengths, noisy.shape[1])[..., None].to(noisy)
        weighted = self.weight * (self._similarity(noisy, denoised, mask) - 1)
        if self.per != "band":
            weighted = weighted.sum(dim=-1, keepdim=True)
        score = clip(weighted + self.bias)  # (B, F or 1, bands or 1)
        blended = (score * noisy + (1 - score) * denoised) * mask
        if self.per == "utterance":
            return blended, score[:, 0, 0]
        return blended, (score.mean(dim=-1) * mask[..., 0]).sum(dim=1) / lengths

    def _similarity(self, noisy, denoised, mask):
        """``(B, 1, bands)``, or ``(B, F, bands)`` of the windows."""
        one, other = (noisy + self.offset) * mask, (denoised + self.offset) * mask
        count = self._total(mask).clamp(min=1)
        products = [self._total(a * b) for a, b in ((one, other), (one, one), (other, other))]
        if self.centred:
            means = [self._total(x) / count for x in (one, other)]
            pairs = ((0, 1), (0, 0), (1, 1))
            products = [
                product - count * means[i] * means[j]
                for product, (i, j) in zip(products, pairs, strict=True)
            ]
        product, *energies = products
        lengths = [energy.clamp(min=_EPS).sqrt() for energy in energies]
        return product / (lengths[0] * lengths[1])

    def _total(self, x):
        """Sum over time, of all frames or of the window around each."""
        if self.per == "utterance":
            return x.sum(dim=1, keepdim=True)
        kernel = x.new_ones(1, 1, self.window)
        channels = x.transpose(1, 2).reshape(-1, 1, x.shape[1])
        total = F.conv1d(channels, kernel, padding=self.window // 2)
        return total.reshape(len(x), x.shape[2], -1).transpose(1, 2)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        # A descent moves against the gradient.
        leads_out = ((x < 0) & (gradient > 0)) | ((x > 1) & (gradient < 0))
        return gradient.masked_fill(leads_out, 0.0)


def clip(x):
    """Hardtanh between 0 and 1, whose gradient beyond the ends is 0 only where it leads out.

    Torch's has none there: a score that is 0 for all utterances after the first epochs stays 0.
    """
    return _Clip.apply(x)


class Bridge(torch.nn.Module):
    """Move embeddings by a score: ``e' = f(S) e + h(S)``, f and h linear (a FiLM layer).

    It begins near the identity, so that what was learned before it is there from the start.

    Args:
        size: of the embeddings.
    """

    def __init__(self, size: CHANNELS):
        super().__init__()
        self.scale, self.shift = torch.nn.Linear(1, size), torch.nn.Linear(1, size)
        for layer, bias in ((self.scale, 1.0), (self.shift, 0.0)):
            torch.nn.init.normal_(layer.weight, std=0.01)
            torch.nn.init.constant_(layer.bias, bias)

    def forward(self, embedding, score):
        """Embeddings ``(B, D)`` and scores ``(B,)`` to ``(B, D)``."""
        return self.scale(score[:, None]) * embedding + self.shift(score[:, None])
