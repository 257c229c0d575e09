"""How well probabilities are calibrated and how well a score ranks.

Of utterances: what each adds to totals (`intervals.cluster_totals`), and the statistic of these.
"""

import numpy as np

BINS = 10  # of equal width


def reliability(confidences, correct):
    """What utterances add to the totals of `ece`: ``(N, BINS, 3)``.

    Args:
        confidences: probability of what was recognised, ``(N,)``. correct: whether it is right.
    """
    confidences, place = _binned(confidences)
    parts = np.zeros((len(confidences), BINS, 3))
    added = np.stack([np.ones(len(confidences)), confidences, correct], axis=1)
    parts[np.arange(len(confidences)), place] = added
    return parts


def ece(totals):
    """Expected calibration error: how far confidence is from accuracy (Guo et al., ICML 2017).

    Args:
        totals: ``(..., BINS, 3)``: in each bin of confidence the number of utterances, the sum of
            their confidences, and how many are correct.

    Returns:
        ``(...)``, 0 to 1; NaN of nothing.

    >>> float(ece(reliability([0.75, 0.75, 0.95, 0.95], [1, 0, 1, 1]).sum(0)).round(3))
    0.15
    """
    count, confidence, correct = np.moveaxis(np.asarray(totals, np.float64), -1, 0)
    return _ratio(np.abs(confidence - correct).sum(-1), count.sum(-1))


def chance_ece(confidences):
    """What `ece` is on average where confidences are right: it never is below 0, in no bin.

    Args:
        confidences: ``(N,)``. The number of correct ones in a bin is taken for normal.

    >>> round(chance_ece([0.75] * 100), 3)
    0.035
    """
    confidences, place = _binned(confidences)
    variances = np.bincount(place, confidences * (1 - confidences))
    return float(np.sqrt(2 / np.pi * variances).sum() / len(confidences))


def ranks(scores, positive):
    """What utterances add to the totals of `auc`: ``(N, 2, K)`` for K different scores.

    Args:
        scores: ``(N,)``. positive: whether each is one that should have a high score.
    """
    values, place = np.unique(np.asarray(scores, np.float64), return_inverse=True)
    parts = np.zeros((len(place), 2, len(values)))
    parts[np.arange(len(place)), np.asarray(positive, int), place] = 1
    return parts


def auc(totals):
    """Area under the ROC curve: how often a positive has the higher score; a tie is half.

    Args:
        totals: ``(..., 2, K)``: negatives and positives of each score, in order.

    Returns:
        ``(...)``, 0 to 1; NaN without one of them.

    >>> float(auc(ranks([0.1, 0.4, 0.4, 0.9], [0, 1, 0, 1]).sum(0)))
    0.875
    """
    negative, positive = np.moveaxis(np.asarray(totals, np.float64), -2, 0)
    below = np.cumsum(negative, axis=-1) - negative / 2
    return _ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def _binned(confidences):
    confidences = np.asarray(confidences, np.float64)
    return confidences, np.minimum((confidences * BINS).astype(int), BINS - 1)


def _ratio(above, below):
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
