"""Input of one length for all utterances, as ShiftSER and TRNet have it."""

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask


def fixed_samples(fixed_seconds, fs):
    """Number of samples in ``fixed_seconds`` at ``fs`` Hz; None of None."""
    return None if fixed_seconds is None else round(fixed_seconds * fs)


def fix_length(speech, lengths, num_samples, tile=False):
    """Cut the end of every utterance, or append zeros to it, which then count as speech.

    Args:
        speech: ``(B, T)``; lengths: valid samples ``(B,)``.
        num_samples: length to come to; None leaves all as it is.
        tile: repeat the utterance as often as needed, instead of zeros.

    Returns:
        ``(B, num_samples)``, ``lengths`` of ``num_samples`` each.

    >>> fix_length(torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]), torch.tensor([3, 1]), 2)
    (tensor([[1., 2.],
            [4., 0.]]), tensor([2, 2]))
    """
    if num_samples is None:
        return speech, lengths
    if tile:
        samples = torch.arange(num_samples, device=speech.device)
        return speech.gather(1, samples % lengths[:, None]), torch.full_like(lengths, num_samples)
    speech = speech * frame_mask(lengths, speech.shape[1])
    speech = F.pad(speech, (0, num_samples - speech.shape[1]))  # a negative padding cuts
    return speech, torch.full_like(lengths, num_samples)
