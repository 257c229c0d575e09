"""Voices compared by a pretrained speaker encoder, whatever the front-end knows of speakers."""

import numpy as np

from espnet_tse_ser.audio.reading import resample
from espnet_tse_ser.frontends.extraction import Embeddings
from espnet_tse_ser.inference.evidence import embed, similarity
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
from espnet_tse_ser.models.speaker_encoder import RATE, SpeakerEncoder


class Voices:
    """Compares the voices of signals and of enrollments, by the `SpeakerEncoder`.

    Args:
        rate: of the signals in Hz; the encoder gets them at its own. device: where to compute.
    """

    def __init__(self, rate, device="cpu"):
        self.encoder = SpeakerEncoder()
        self.encoder.load_pretrained()
        self.encoder.to(device)
        self._rate, self._embeddings = rate, Embeddings(self.encoder, RATE)

    def embed(self, signals):
        """The embeddings of a list of ``(num_samples,)`` arrays, ``(B, D)`` float32."""
        return embed(self.encoder, self._resampled(signals)).cpu().numpy()

    def similar(self, signals, enrollments):
        """The cosines of the embeddings of signals and of enrollments, a list.

        Args:
            signals, enrollments: lists of ``(num_samples,)`` arrays.
        """
        found = similarity(
            embed(self.encoder, self._resampled(signals)),
            self._embeddings(self._resampled(enrollments)),
        )
        return found.tolist()

    def _resampled(self, signals):
        """At the encoder's rate, and long enough for it; what is there several times, once."""
        found = {}
        for signal in signals:
            if id(signal) not in found:
                mono = resample(np.asarray(signal, np.float32), self._rate, RATE)
                found[id(signal)] = np.pad(mono, (0, max(MIN_SAMPLES - len(mono), 0)))
        return [found[id(signal)] for signal in signals]
