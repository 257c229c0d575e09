"""What speaks for the target being in a mixture: measures of extraction, whatever the levels."""

import numpy as np
import torch

from espnet_tse_ser.frontends.extraction import device_of, pad_signals
from espnet_tse_ser.inference.frames import suppression

FEATURES = (
    *("level", "explained", "similarity", "mixture_similarity", "over_suppressed"),
    *("voice", "mixture_voice"),  # of `Voices`
)

_LEAST = 1e-12  # energy of a sample: -120 dBFS
_MOST = 60.0  # dB


def evidence(model, voices, mixtures, estimates, enrollments, embeddings, rate):
    """Measure what was extracted.

    Args:
        model: `ESPnetTSEModel` with enrollments. voices: `Voices`.
        mixtures: list of ``(num_samples,)`` arrays. estimates: what the model gives of them, at the
            level that it gives, of the same form. enrollments: of the same form.
        embeddings: the model's of the enrollments, ``(B, D)``. rate: in Hz.

    Returns:
        ``(B, len(FEATURES))`` float64: the energy of the estimate against that of the mixture in
        dB, the cosines of estimate and mixture and, of embeddings, of estimate and enrollment and
        of mixture and enrollment, the share `over_suppressed`, and the same two cosines of
        embeddings by the voices. Independent of the level of the mixture.
    """
    similar = [
        similarity(embed(model, signals), embeddings).tolist() for signals in (estimates, mixtures)
    ]
    rows = []
    for mixture, estimate, *similarities in zip(mixtures, estimates, *similar, strict=True):
        mixture, estimate = (np.asarray(x, np.float32) for x in (mixture, estimate))
        suppressed = suppression(mixture, estimate, rate, model.sets_level) or 0.0
        mixture, estimate = mixture.astype(np.float64), estimate.astype(np.float64)
        energies = [max(np.square(x).mean(), _LEAST) for x in (mixture, estimate)]
        product = np.mean(mixture * estimate)
        level = np.clip(10 * np.log10(energies[1] / energies[0]), -_MOST, _MOST)
        explained = product / np.sqrt(np.prod(energies))
        rows.append([level, explained, *similarities, suppressed])
    of_voices = [voices.similar(signals, enrollments) for signals in (estimates, mixtures)]
    return np.concatenate([np.array(rows, np.float64), np.array(of_voices).T], axis=1)


@torch.no_grad()
def embed(model, signals):
    """Embeddings ``(B, D)`` by an `ESPnetTSEModel` or `SpeakerEncoder`, as of enrollments.

    Args:
        signals: list of ``(num_samples,)`` arrays.
    """
    return model.embed(*pad_signals(signals, device_of(model)))


def similarity(embeddings, others):
    """The cosines of embeddings, ``(B,)``."""
    return torch.cosine_similarity(embeddings.flatten(1), others.flatten(1), dim=1)
