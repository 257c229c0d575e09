"""Confidence intervals for measures of clustered data: speakers are left out, not utterances.

Utterances of one speaker are not independent. So the standard error is the jackknife's over
speakers, each left out once (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, eq.
11.5), and the interval is estimate +- Student's t quantile of S - 1 degrees of freedom times that
error, for S speakers. With few clusters this covers better than the bootstrap (MacKinnon, Nielsen
and Webb, Journal of Econometrics 232, 2023, section 3: "CV3"), and it needs no random numbers.

Near 0 and 1 a symmetric interval covers too little, and none at all where every answer is correct.
A share gets the interval of Wilson (1927) with Student's quantile and the effective number of
trials ``p (1 - p) / error^2``, at most the true one (Korn and Graubard, Survey Methodology 24,
1998). ``bench/intervals.py`` measures how often they cover, and how the bootstrap does.
"""

import numpy as np


def cluster_totals(values, clusters, names=None):
    """Sum values by cluster.

    Args:
        values: ``(N, ...)``, what one utterance adds to the totals.
        clusters: the cluster (speaker) of each, a sequence of N.
        names: of the S clusters, in the order wanted; those of ``clusters``, sorted, when None.

    Returns:
        ``(S, ...)`` float64; zeros for a name without values.
    """
    values = np.asarray(values, np.float64)
    names = sorted(set(clusters)) if names is None else names
    position = {name: number for number, name in enumerate(names)}
    totals = np.zeros((len(names), *values.shape[1:]))
    np.add.at(totals, [position[cluster] for cluster in clusters], values)
    return totals


def jackknife(totals, statistic):
    """The statistic of all clusters and what each of them adds to it.

    Args:
        totals: ``(S, ...)``: for each of S clusters what it adds to the grand totals
            (its confusion matrix; its sum and count; see `cluster_totals`).
        statistic: function of grand totals ``(R, ...)``, R sets of them at once, that returns
            ``(R,)`` or, for M measures, ``(R, M)``.

    Returns:
        the estimate ``()`` or ``(M,)``, and the influence of each cluster ``(S,)`` or ``(S, M)``:
        ``(S - 1) / S`` times the mean of the estimates without one cluster minus that without
        this one. The influences add up to 0; NaN where leaving a cluster out leaves nothing to
        measure.
    """
    totals = np.asarray(totals, np.float64)
    size = len(totals)
    whole = totals.sum(0)
    estimate = np.asarray(statistic(whole[None]))[0]
    without = np.asarray(statistic(whole - totals))
    return estimate, (size - 1) / size * (without.mean(0) - without)


def cluster_interval(totals, statistic, level=0.95, limits=(-np.inf, np.inf), trials=None):
    """Confidence interval of ``statistic(totals.sum(0))`` for other clusters of the same kind.

    Args:
        totals, statistic: as in `jackknife`.
        level: nominal coverage.
        limits: smallest and largest possible value, each ``()`` or ``(M,)``; the interval is
            clipped to them.
        trials: ``()`` or ``(M,)``, for shares (0 to 1): how many independent trials are behind
            each at most; gives Wilson's interval. NaN, or None for all: not a share.

    Returns:
        lower and upper bounds, each ``()`` or ``(M,)``. NaN for one cluster, which says nothing
        about others, and where the statistic is undefined (NaN) without one of the clusters.
        What is the same without any cluster gets an interval of width 0, unless it is a share.

    >>> totals = np.array([[9.0, 10], [7, 10], [8, 10], [6, 10]])  # correct and all, by speaker
    >>> low, high = cluster_interval(totals, mean_of, trials=40)
    >>> bool(low < 0.75 < high)
    True
    """
    from scipy.special import stdtrit

    totals = np.asarray(totals, np.float64)
    size = len(totals)
    if size < 2:
        estimate = np.asarray(statistic(totals.sum(0)[None]))[0]
        return np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    estimate, influence = jackknife(totals, statistic)
    error = np.sqrt(size / (size - 1) * (influence**2).sum(0))
    quantile = stdtrit(size - 1, (1 + level) / 2)
    centre, half = estimate, quantile * error
    if trials is not None:
        shares = _wilson(estimate, error, np.asarray(trials, np.float64), quantile)
        is_share = ~np.isnan(trials)
        centre, half = (
            np.where(is_share, *pair) for pair in zip(shares, (centre, half), strict=True)
        )
    return np.clip(centre - half, *limits), np.clip(centre + half, *limits)


def mean_of(totals):
    """The statistic of a mean: sums and counts ``(..., 2)`` -> means ``(...)``, NaN for count 0."""
    totals = np.asarray(totals, np.float64)
    out = np.full(totals.shape[:-1], np.nan)
    return np.divide(totals[..., 0], totals[..., 1], out=out, where=totals[..., 1] > 0)


def _wilson(share, error, trials, quantile):
    """Centre and half width of Wilson's interval; error NaN gives NaN."""
    share = np.clip(share, 0.0, 1.0)  # rounding
    variance = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.minimum(variance / error**2, trials)
        # nothing but correct (or wrong) answers, or no difference between clusters
        effective = np.where((variance == 0) | (error == 0), trials + 0 * error, effective)
        squared = quantile**2
        centre = (share + squared / (2 * effective)) / (1 + squared / effective)
        half = quantile * np.sqrt(variance / effective + squared / (4 * effective**2))
        return centre, half / (1 + squared / effective)
