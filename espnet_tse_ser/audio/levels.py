"""Offset and level of signals: taken out of what enters a network, because they carry no emotion.

Microphones and converters add a constant, recording and mixing set the level at random, and an
extractor trained on SI-SNR has an arbitrary gain.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from espnet_tse_ser.audio.masks import frame_mask

REFERENCE = 0.05  # RMS, -26 dBFS: the median of mixtures of sources of -33 to -25 LUFS
LEAST = 1e-8  # RMS, -160 dBFS: below the noise of 24 bits; what is fainter is not amplified more


class Level(NamedTuple):
    """``mean`` of signals, and ``rms`` of them without it, ``(B,)`` double each."""

    mean: torch.Tensor
    rms: torch.Tensor


def standardize(speech, lengths, rms=REFERENCE, level=None):
    """Take offset and level out of a batch.

    Args:
        speech: ``(B, T)``; lengths: valid samples ``(B,)``, at least 1.
        rms: of the result; None leaves it as it is and takes out the offset alone.
        level: `Level` of the recordings that these are pieces of; None: their own.

    Returns:
        ``(B, T)``, zero beyond ``lengths``, and the `Level` that was taken out.

    >>> standardize(torch.tensor([[1.0, 5.0, 9.0]]), torch.tensor([2]), rms=0.1)[0]
    tensor([[-0.1000,  0.1000,  0.0000]])
    """
    if speech.device.type != "cpu":
        return _standardize(speech, lengths, rms, level, frame_mask(lengths, speech.shape[1]))
    # One by one: a few passes over what is in the processor's cache, and no mask.
    rows, levels = [], []
    for index, (row, length) in enumerate(zip(speech.split(1), lengths.tolist(), strict=True)):
        one = None if level is None else Level(*(v[index : index + 1] for v in level))
        row, one = _standardize(row[:, :length], length, rms, one)
        rows.append(F.pad(row, (0, speech.shape[1] - row.shape[1])))
        levels.append(one)
    return torch.cat(rows), Level(*map(torch.cat, zip(*levels, strict=True)))


def restore(signals, level):
    """Scale ``(B, T)`` from `REFERENCE` back to ``level``; the offset stays out."""
    return signals * (level.rms / REFERENCE).to(signals.dtype)[:, None]


def _standardize(speech, lengths, rms, level, valid=None):
    # In double, so that of a faint signal all is left that a large offset has not rounded away.
    samples = _valid(speech, valid).double()
    mean = samples.sum(dim=1) / lengths if level is None else level.mean
    samples = _valid(samples - mean[:, None], valid)
    if level is None:
        power = samples.square().sum(dim=1) / lengths
        level = Level(mean, power.clamp(min=LEAST**2).sqrt())
    if rms is not None:
        samples = samples * (rms / level.rms)[:, None]
    return samples.to(speech.dtype), level


def _valid(samples, valid):
    return samples if valid is None else torch.where(valid, samples, 0.0)
