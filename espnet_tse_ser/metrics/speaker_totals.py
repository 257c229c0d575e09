"""What every speaker adds to the measures of a system: from rows to arrays and measures.

The totals of a speaker are one vector: the confusion matrix behind UA and macro-F1, the one behind
WA (the same but for the scheme best_test_epoch, see `tables`), and the sum and number of the
SI-SDRi. An utterance counts once, each of its seeds ``1 / seeds``. The measures are of the sum of
the totals: utterances of all folds and seeds together, no means of the folds' figures.
"""

import numpy as np

from espnet_tse_ser.metrics.emotion import macro_f1_of, ua_of, wa_of
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, mean_of

MEASURES = ("wa", "ua", "macro_f1", "si_sdri")  # the columns of what the functions here return
EMOTION = MEASURES[:3]
LIMITS = ([0, 0, 0, -np.inf], [1, 1, 1, np.inf])
DIFFERENCE_LIMITS = ([-1, -1, -1, -np.inf], [1, 1, 1, np.inf])


def speaker_totals(rows, labels, speakers=None, seeds=None):
    """Add up rows by speaker.

    Args:
        rows: see `tables.read_scores`; ``hypothesis_wa`` may be absent, ``si_sdri`` be NaN.
        labels: the K classes.
        speakers: the S speakers in the order wanted; those of ``rows``, sorted, when None.
        seeds: how many recognitions an utterance has; those of ``rows`` when None.

    Returns:
        ``(S, 2 K K + 2)`` float64.
    """
    index = {label: number for number, label in enumerate(labels)}
    count = len(labels)
    values = np.zeros((len(rows), 2, count, count))
    signal = np.zeros((len(rows), 2))
    for number, row in enumerate(rows):
        reference = index[row["reference"]]
        values[number, 0, reference, index[row["hypothesis"]]] = 1
        values[number, 1, reference, index[row.get("hypothesis_wa") or row["hypothesis"]]] = 1
        if row["si_sdri"] == row["si_sdri"]:
            signal[number] = row["si_sdri"], 1
    seeds = len({row["seed"] for row in rows}) if seeds is None else seeds
    values = np.concatenate([values.reshape(len(rows), 2 * count**2), signal], axis=1)
    return cluster_totals(values, [row["speaker"] for row in rows], speakers) / max(1, seeds)


def measures_of(totals):
    """WA, UA, macro-F1 and mean SI-SDRi ``(..., 4)`` of totals ``(..., 2 K K + 2)``."""
    confusions = confusions_of(totals)
    for_ua, for_wa = confusions[..., 0, :, :], confusions[..., 1, :, :]
    values = (wa_of(for_wa), ua_of(for_ua), macro_f1_of(for_ua), mean_of(totals[..., -2:]))
    return np.stack(values, axis=-1)


def confusions_of(totals):
    """The two confusion matrices ``(..., 2, K, K)`` in totals ``(..., 2 K K + 2)``."""
    totals = np.asarray(totals, np.float64)
    count = int(np.sqrt((totals.shape[-1] - 2) // 2))
    return totals[..., :-2].reshape(*totals.shape[:-1], 2, count, count)


def trials_of(totals):
    """How many trials are behind each measure at most ``(4,)``, NaN for SI-SDRi: no share.

    The mean of K class accuracies, each of ``n_k`` utterances, varies like a share of
    ``K^2 / sum(1 / n_k)`` utterances.
    """
    counts = confusions_of(totals).sum(0)[0].sum(1)
    counts = counts[counts > 0]
    of_ua = len(counts) ** 2 / (1 / counts).sum() if len(counts) else np.nan
    return np.array([counts.sum(), of_ua, of_ua, np.nan])


def missing_classes(totals, labels):
    """The classes of which there is no utterance: UA is the mean of the others' recalls."""
    counts = confusions_of(totals).sum(0)[0].sum(1)
    return [label for label, count in zip(labels, counts, strict=True) if not count]


def known_mean(rows, column):
    """The mean of a column that may be NaN for some utterances, and how many it is of.

    Returns:
        the mean (NaN where there is none) and the number of utterances that have a value.
    """
    known = [row for row in rows if row[column] == row[column]]
    mean = float(np.mean([row[column] for row in known])) if known else float("nan")
    return mean, len({row["id"] for row in known})


def weights_of(totals):
    """The share of each speaker in each measure ``(S, 4)``; a column adds up to 1 (or 0)."""
    counts = confusions_of(totals)[:, 0].sum(-1)  # (S, K)
    signal = np.asarray(totals)[:, -1]
    of_classes = _shares(counts)[:, counts.sum(0) > 0]
    of_ua = of_classes.mean(1) if of_classes.shape[1] else np.zeros(len(counts))
    return np.stack([_shares(counts.sum(1)), of_ua, of_ua, _shares(signal)], axis=1)


def intervals(totals):
    """95 % intervals of `measures_of`: lower and upper bounds, each ``(4,)``."""
    return cluster_interval(totals, measures_of, limits=LIMITS, trials=trials_of(totals))


def _shares(counts):
    return counts / np.maximum(counts.sum(0), np.finfo(float).tiny)
