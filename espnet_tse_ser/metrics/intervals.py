"""Confidence intervals for measures of clustered data: the bootstrap resamples speakers.

Utterances of one speaker are not independent, so whole speakers are drawn with replacement
(Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). A percentile
interval of few speakers is too short (Hesterberg, The American Statistician 69, 2015: 82 % instead
of 95 % coverage for 5 speakers in our simulations). Here the bootstrap gives the standard error
alone, corrected by ``sqrt(S / (S - 1))`` for S speakers, and the interval is estimate +- Student's
t quantile (S - 1 degrees of freedom) times that error, which covers 94-96 % for 5, 10 and 24
speakers in simulations of WA, UA and macro-F1. It is symmetric but for a clipping to ``limits``.
"""

import numpy as np


def cluster_totals(values, clusters):
    """Sum values by cluster.

    Args:
        values: ``(N, ...)``, what one utterance adds to the totals.
        clusters: the cluster (speaker) of each, a sequence of N.

    Returns:
        ``(S, ...)`` float64, in the sorted order of the cluster names.
    """
    values = np.asarray(values, np.float64)
    names, index = np.unique(np.asarray(clusters, str), return_inverse=True)
    totals = np.zeros((len(names), *values.shape[1:]))
    np.add.at(totals, index, values)
    return totals


def cluster_interval(
    totals, statistic, level=0.95, limits=(-np.inf, np.inf), resamples=2000, seed=0
):
    """Confidence interval of ``statistic(totals.sum(0))`` over resampled clusters.

    Args:
        totals: ``(S, ...)``: for each of S clusters what it adds to the grand totals
            (its confusion matrix; its sum and count; see `cluster_totals`).
        statistic: function of grand totals ``(R, ...)``, R resamples at once, that returns
            ``(R,)`` or, for M measures, ``(R, M)``.
        level: nominal coverage.
        limits: smallest and largest possible value; the interval is clipped to them.
        resamples: number R of bootstrap samples.
        seed: of the resampling; equal seeds and S draw the same clusters.

    Returns:
        lower and upper bounds, each ``()`` or ``(M,)``. NaN for one cluster, which says nothing
        about others, and where the statistic is undefined (NaN) in any resample. A statistic
        that is the same in all resamples (nothing but correct answers) gets an interval of
        width 0.

    >>> totals = np.array([[9.0, 10], [7, 10], [8, 10], [6, 10]])  # correct and all, by speaker
    >>> low, high = cluster_interval(totals, lambda t: t[..., 0] / t[..., 1], limits=(0, 1))
    >>> bool(low < 0.75 < high)
    True
    """
    from scipy.special import stdtrit

    totals = np.asarray(totals, np.float64)
    size = len(totals)
    estimate = np.asarray(statistic(totals.sum(0)[None]))[0]
    if size < 2:
        return np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    weights = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
    resampled = (weights @ totals.reshape(size, -1)).reshape(resamples, *totals.shape[1:])
    error = np.std(statistic(resampled), axis=0, ddof=1) * np.sqrt(size / (size - 1))
    half = stdtrit(size - 1, (1 + level) / 2) * error
    return np.clip(estimate - half, *limits), np.clip(estimate + half, *limits)


def mean_of(totals):
    """The statistic of a mean: sums and counts ``(..., 2)`` -> means ``(...)``, NaN for count 0."""
    totals = np.asarray(totals, np.float64)
    out = np.full(totals.shape[:-1], np.nan)
    return np.divide(totals[..., 0], totals[..., 1], out=out, where=totals[..., 1] > 0)
