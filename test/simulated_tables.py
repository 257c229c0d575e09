"""Score tables of simulated speakers, whose true measures are known, for tests and bench.

An utterance is recognised when a normal variable, made of effects of the speaker, of the speaker
and class, of the speaker and system, of the utterance (shared by all systems) and of chance,
exceeds a threshold. The variances add up to 1, so that the expected accuracy of class k is the one
asked for whatever the effects are, and the expected confusion matrix is known without simulating.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from espnet_tse_ser.metrics.emotion import macro_f1_of, ua_of, wa_of


@dataclass(frozen=True)
class Regime:
    """What is simulated; ``accuracies`` holds the K class accuracies of each system."""

    accuracies: tuple = ((0.55, 0.5, 0.7, 0.6), (0.5, 0.6, 0.55, 0.7))
    speakers: int = 24
    utterances: int = 36  # mean of a speaker
    shares: tuple = (0.22, 0.22, 0.34, 0.22)  # of the classes
    speaker: float = 0.10  # variances on the latent scale
    speaker_class: float = 0.10
    speaker_system: float = 0.05
    utterance: float = 0.30
    si_sdri: tuple = (5.0, 5.0)  # true means in dB, by system
    seeds: int = 1

    @property
    def classes(self):
        return len(self.shares)


def expected_confusions(regime):
    """Expected confusion matrices ``(systems, K, K)``, as shares of all utterances."""
    accuracies = np.array(regime.accuracies)
    hits = accuracies[..., None] * np.eye(regime.classes)
    misses = (1 - accuracies)[..., None] * (1 - np.eye(regime.classes)) / (regime.classes - 1)
    return np.array(regime.shares)[:, None] * (hits + misses)


def true_measures(regime):
    """WA, UA, macro-F1 and SI-SDRi ``(systems, 4)`` that the systems have in the long run."""
    confusions = expected_confusions(regime)
    values = (wa_of(confusions), ua_of(confusions), macro_f1_of(confusions), regime.si_sdri)
    return np.stack(values, axis=-1)


def simulate(regime, tables, seed):
    """Draw tables.

    Returns:
        totals ``(tables, systems, S, 2 K K + 2)``, see `speaker_totals.speaker_totals`.
    """
    rng = np.random.default_rng(seed)
    systems, classes = np.shape(regime.accuracies)
    cells = tables * regime.speakers  # a speaker of a table
    sizes = np.maximum(4, rng.gamma(4, regime.utterances / 4, cells)).astype(int)
    owner = np.repeat(np.arange(cells), sizes)
    count = len(owner)
    shares = rng.dirichlet(30 * np.array(regime.shares), cells)  # of the classes, by speaker
    references = (rng.random(count)[:, None] > shares.cumsum(1)[owner][:, :-1]).sum(1)

    hardness = rng.normal(size=count)
    latent = np.sqrt(regime.speaker) * rng.normal(size=cells)[owner]
    latent += np.sqrt(regime.speaker_class) * rng.normal(size=(cells, classes))[owner, references]
    latent += np.sqrt(regime.utterance) * hardness
    chance = 1 - regime.speaker - regime.speaker_class - regime.speaker_system - regime.utterance
    speaker_db = rng.normal(size=cells)[owner]

    totals = []
    for accuracies, mean_db in zip(regime.accuracies, regime.si_sdri, strict=True):
        decibels = mean_db + speaker_db + rng.normal(size=cells)[owner]
        decibels += hardness + 2 * rng.standard_t(5, count)
        of_system = latent + np.sqrt(regime.speaker_system) * rng.normal(size=cells)[owner]
        confusions = np.zeros((cells, classes * classes))
        for _ in range(regime.seeds):
            noisy = of_system + np.sqrt(chance) * rng.normal(size=count)
            step = rng.integers(1, classes, count)  # a mistake is any other class
            step[noisy < ndtri(accuracies)[references]] = 0
            hypotheses = (references + step) % classes
            index = (owner * classes + references) * classes + hypotheses
            confusions += np.bincount(index, minlength=confusions.size).reshape(confusions.shape)
        confusions /= regime.seeds
        signal = np.stack([np.bincount(owner, decibels, cells), sizes], axis=1)
        totals.append(np.concatenate([confusions, confusions, signal], axis=1))
    return np.stack(totals, axis=1).reshape(tables, regime.speakers, systems, -1).swapaxes(1, 2)
