"""Voices compared by a pretrained speaker encoder, whatever the front-end knows of speakers."""

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import Embeddings
from espnet_tse_ser.inference.evidence import embed, similarity
from espnet_tse_ser.models.speaker_encoder import RATE, SpeakerEncoder


class Voices:
    """Compares the voices of signals and of enrollments.

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
        self.encoder = SpeakerEncoder()
        self.encoder.load_installed()
        self.encoder.to(device)
        self._embeddings = Embeddings(self.encoder, rate)

    def similar(self, signals, enrollments):
        """The cosines of the embeddings of signals and of enrollments, a list.

        Args:
            signals, enrollments: lists of ``(num_samples,)`` arrays.
        """
        found = similarity(embed(self.encoder, signals), self._embeddings(enrollments))
        return found.tolist()

    def evidence(self, mixtures, estimates, enrollments):
        """What voices say of the target being there, ``(B, 2)``: `VOICE_FEATURES`.

        Args:
            mixtures, estimates: of `evidence.evidence`. enrollments: ``(num_samples,)`` of each.
        """
        pair = [self.similar(signals, enrollments) for signals in (estimates, mixtures)]
        return np.array(pair, np.float64).T
