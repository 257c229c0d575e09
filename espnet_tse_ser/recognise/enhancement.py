"""Enhancement by a mask, which is estimated from the spectrum and an encoder's features."""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.blstm import BLSTM
from espnet_tse_ser.training.precision import float32, widened

_WINDOW, _SHIFT = 400, 160  # samples of 16 kHz
_HALF, _BINS = _WINDOW // 2, _WINDOW // 2 + 1
_EPS = 1e-6  # of a magnitude; the loudest of a signal of root mean square 1 are above 100


class MaskHead(torch.nn.Module):
    """Estimates the magnitudes of clean speech; its phase is that of the noisy one.

    Of BSSE-SE (Hung, Fu, Tseng, Chiang, Tsao, Lin: "Boosting self-supervised embeddings for speech
    enhancement", Interspeech 2022, arXiv 2204.03339): log1p magnitudes of a Hamming window, beside
    them the features of the encoder, each for two frames; a linear layer, a BLSTM whose directions
    are summed, and a mask in (0, 1) of the log1p magnitudes.

    The signal has a root mean square of 1, and the estimate the level of the signal: neither level
    nor offset changes what is estimated. Frames are centred, and the signal is continued by zeros,
    so that an utterance gives the same alone and in a batch.

    Args:
        input_size: features of the encoder, a frame every 20 ms. hidden: units of each direction.
        layers: of the BLSTM.
    """

    def __init__(self, input_size, hidden=256, layers=2):
        super().__init__()
        self.register_buffer("window", torch.hamming_window(_WINDOW), persistent=False)
        self.project = torch.nn.Linear(_BINS + input_size, hidden)
        self.blstm = BLSTM(hidden, hidden, layers)
        self.mask = torch.nn.Linear(hidden, _BINS)

    def enhance(self, speech, lengths, feats, num_frames, adaptation=None):
        """Enhance.

        Args:
            speech: ``(B, T)``, 16 kHz; lengths: valid samples ``(B,)``.
            feats: of the encoder ``(B, F, D)``; num_frames: valid ones ``(B,)``.
            adaptation: factors of the hidden units ``(B, hidden)`` to a target, or None.

        Returns:
            ``(B, T)``, zero beyond ``lengths``, without offset.
        """
        with float32(speech):
            spectrum, level = self._transform(speech, lengths)
            noisy = spectrum.abs()
            estimate = torch.expm1(self._estimate(noisy, lengths, feats, num_frames, adaptation))
            masked = (spectrum * (estimate / (noisy + _EPS))).transpose(1, 2)
            enhanced = torch.istft(
                masked, _WINDOW, _SHIFT, window=self.window, center=True, length=speech.shape[1]
            )
            enhanced = enhanced * level.rms.to(enhanced.dtype)[:, None]
            return enhanced * frame_mask(lengths, speech.shape[1])

    def loss(self, speech, lengths, feats, num_frames, clean, adaptation=None):
        """Mean absolute error (scalar) of the log1p magnitudes, over valid frames and bins.

        Args:
            clean: the target alone ``(B, T)``, as it is in the speech; the rest is of `enhance`.
        """
        with float32(speech):
            spectrum, level = self._transform(speech, lengths)
            target, _ = self._transform(clean, lengths, level)
        estimate = self._estimate(spectrum.abs(), lengths, feats, num_frames, adaptation)
        error = (estimate - _compress(target.abs())).abs()
        valid = _count_frames(lengths)
        mask = frame_mask(valid, error.shape[1])[..., None]
        return (error * mask).sum() / (valid.sum() * _BINS)

    def _transform(self, speech, lengths, level=None):
        """Spectrum ``(B, M, _BINS)`` of all frames that have a sample of the signal, and its level.

        Frame m is centred at 160 m, as in the inverse transform, which drops the first half window.
        """
        speech, level = standardize(speech, lengths, rms=1.0, level=level)
        frames = _count_frames(speech.shape[1])
        after = (frames - 1) * _SHIFT + _HALF - speech.shape[1]
        padded = F.pad(speech, (_HALF, after))
        spectrum = torch.stft(
            padded, _WINDOW, _SHIFT, window=self.window, center=False, return_complex=True
        )
        return spectrum.transpose(1, 2), level

    def _estimate(self, magnitude, lengths, feats, num_frames, adaptation):
        """log1p magnitudes of clean speech."""
        noisy, valid = _compress(magnitude), _count_frames(lengths)
        # Two frames of 10 ms for one of the encoder, the last one for what is left.
        index = torch.arange(noisy.shape[1], device=feats.device) // 2
        index = torch.minimum(index[None], num_frames[:, None] - 1)
        feats = feats.gather(1, index[..., None].expand(-1, -1, feats.shape[2]))
        x = self.project(torch.cat([noisy, feats], 2))
        if adaptation is not None:
            x = x * adaptation[:, None]
        x = self.blstm(x, valid)
        return noisy * torch.sigmoid(widened(self.mask(sum(x.chunk(2, 2)))))


def _compress(magnitude):
    return torch.log1p(magnitude + _EPS)


def _count_frames(num_samples):
    """Frames with a sample of a signal: those centred less than half a window beyond its end."""
    return (num_samples + _HALF - 1) // _SHIFT + 1
