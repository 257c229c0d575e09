"""Voices compared by a pretrained speaker encoder, whatever the front-end knows of speakers."""

import hashlib

import numpy as np
import torch

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import pad_signals
from espnet_tse_ser.models.speaker_encoder import RATE, SpeakerEncoder

VOICE_FEATURES = ("voice", "mixture_voice")


class Voices:
    """Embeds voices; that of an enrollment once, however many mixtures it serves.

    Args:
        rate: of the signals in Hz. device: where to compute.

    Raises:
        UserError: as `SpeakerEncoder.load_installed`, or it is for another rate.
    """

    def __init__(self, rate, device="cpu"):
        if rate != RATE:
            raise UserError(
                f"--speaker_encoder is for {RATE} Hz, the model for {rate} Hz; leave it out"
            )
        self.encoder, self.device, self._known = SpeakerEncoder(), device, {}
        self.encoder.load_installed()
        self.encoder.to(device).eval()

    @torch.no_grad()
    def embed(self, signals):
        """Embed a list of ``(num_samples,)`` arrays: ``(B, 256)`` of length 1."""
        speech, lengths = pad_signals(signals, self.device)
        return self.encoder(standardize(speech, lengths)[0], lengths).cpu().numpy()

    def enrolled(self, enrollments):
        """`embed` enrollments, each of them once."""
        arrays = [np.ascontiguousarray(e, np.float32) for e in enrollments]
        keys = [hashlib.sha256(array).digest() for array in arrays]
        new = {k: a for k, a in zip(keys, arrays, strict=True) if k not in self._known}
        if new:
            self._known |= zip(new, self.embed(list(new.values())), strict=True)
        return np.stack([self._known[key] for key in keys])

    def similar(self, signals, enrollments):
        """The cosines of the voices in signals and of enrollments, ``(B,)``."""
        return (self.embed(signals) * self.enrolled(enrollments)).sum(1)

    def evidence(self, mixtures, estimates, enrollments):
        """What voices say of the target being there, ``(B, 2)``: `VOICE_FEATURES`.

        Args:
            mixtures, estimates: of `evidence.evidence`. enrollments: ``(num_samples,)`` of each.
        """
        pair = [self.similar(signals, enrollments) for signals in (estimates, mixtures)]
        return np.stack(pair, axis=1).astype(np.float64)
