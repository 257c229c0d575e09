"""Is one system better than another? Paired tests over speakers.

Two systems recognise the same utterances. What is tested is a difference of measures; its unit is
the speaker, since utterances of one speaker are not independent. Each speaker adds a score to the
difference; if there is none, a score might as well have the other sign. So the difference is
compared with those after flipping the signs of some speakers' scores, all ways of doing so or many
at random (Phipson and Smyth, SAGMB 9, 2010: p = (1 + k) / (1 + n)). The scores are influences
under the null hypothesis (Kline and Santos, Journal of Econometric Methods 1, 2012), which is
exact for a mean and keeps the nominal level for UA and macro-F1: ``bench/intervals.py``.
"""

import itertools

import numpy as np

from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.intervals import (
    cluster_interval,
    cluster_totals,
    jackknife,
    mean_of,
)
from espnet_tse_ser.metrics.speaker_totals import (
    DIFFERENCE_LIMITS,
    MEASURES,
    intervals,
    measures_of,
    missing_classes,
    speaker_totals,
    weights_of,
)

EXACT_SPEAKERS = 13  # 2^12 patterns of signs; beyond, `PATTERNS` are drawn
PATTERNS = 9999

_DIGITS = 6


def sign_flip_p(scores, patterns=PATTERNS, seed=0):
    """p-value of a sum of independent scores, each symmetric around 0 under the null hypothesis.

    Args:
        scores: ``(S,)`` or ``(S, M)``, of S speakers, for M measures.
        patterns: how many patterns of signs to draw where `EXACT_SPEAKERS` is exceeded.
        seed: of the drawing; equal seeds and S draw the same patterns.

    Returns:
        two-sided p ``()`` or ``(M,)``, at least ``2 / 2^S``; NaN for fewer than 2 speakers and
        where a score is NaN.

    >>> float(sign_flip_p(np.array([1.0, 2.0, 0.5, 3.0])))  # 2 of 16 patterns are as extreme
    0.125
    """
    scores = np.asarray(scores, np.float64)
    size = len(scores)
    if size < 2:
        return np.full(scores.shape[1:], np.nan)
    if size <= EXACT_SPEAKERS:
        # all patterns and their mirror images are alike: the first sign is fixed
        signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=size - 1)])
    else:
        signs = np.random.default_rng(seed).choice((1, -1), (patterns, size))
        signs = np.concatenate([np.ones((1, size)), signs])
    flipped = np.abs(signs @ scores)
    observed = np.abs(scores.sum(0))
    tolerance = 1e-9 * np.abs(scores).sum(0)  # of rounding, where sums tie
    p = (flipped >= observed - tolerance).mean(0)
    return np.where(np.isnan(observed), np.nan, p)


def difference_scores(totals, reference):
    """Scores of speakers for the differences of `MEASURES` between two systems (or states).

    Args:
        totals, reference: ``(S, 2 K K + 2)`` of the same speakers, see `speaker_totals`.

    Returns:
        ``(S, 4)``; their sum is the difference. NaN where a measure is undefined.
    """
    pairs = np.stack([totals, reference], axis=1)
    difference, influence = jackknife(pairs, _difference)
    # The influences have the difference taken out, in proportion to the speaker's share.
    share = (weights_of(totals) + weights_of(reference)) / 2
    return influence + difference * share


def compare_totals(totals, reference):
    """Differences of two systems (or states) on the same speakers.

    Args:
        totals, reference: as in `difference_scores`.

    Returns:
        measure -> dict with value, value_ci, reference, reference_ci, difference, difference_ci,
        p, for the `MEASURES` that both have; intervals ``[low, high]`` are 95 %; None where
        undefined (fewer than two speakers). Rounded to 6 decimals.
    """
    pairs = np.stack([totals, reference], axis=1)
    values = measures_of(pairs.sum(0))
    bounds = [intervals(totals), intervals(reference)]
    bounds.append(cluster_interval(pairs, _difference, limits=DIFFERENCE_LIMITS))
    p = sign_flip_p(difference_scores(totals, reference))
    compared = {}
    for number, measure in enumerate(MEASURES):
        own, other = values[:, number]
        if np.isnan(own) or np.isnan(other):
            continue
        cis = [interval((low[number], high[number])) for low, high in bounds]
        compared[measure] = {
            "value": rounded(own),
            "value_ci": cis[0],
            "reference": rounded(other),
            "reference_ci": cis[1],
            "difference": rounded(own - other),
            "difference_ci": cis[2],
            "p": rounded(p[number]),
        }
    return compared


def compare_rows(rows, reference, labels, names=("A", "B")):
    """Compare two systems on the same utterances, possibly with other seeds or mixtures.

    An utterance counts once in each system, the mean over the system's seeds.

    Args:
        rows, reference: of the two systems, see `tables.read_scores`.
        labels: the classes. names: of the two, for messages.

    Returns:
        dict with n (utterances), speakers, seeds (of the two), classes_missing (without
        utterances; UA is the mean of the others), measures (`compare_totals`) and left_out
        (a measure that only one has -> the name of the other).

    Raises:
        UserError: they cannot be compared, see `comparable.check_comparable`.
    """
    check_comparable(zip(names, (rows, reference), strict=True))
    speakers = sorted({row["speaker"] for row in rows})
    totals = [speaker_totals(part, labels, speakers) for part in (rows, reference)]
    known = ~np.isnan([measures_of(part.sum(0)) for part in totals])  # (2, 4)
    return {
        "n": len({row["id"] for row in rows}),
        "speakers": len(speakers),
        "seeds": [len({row["seed"] for row in part}) for part in (rows, reference)],
        "classes_missing": missing_classes(totals[0], labels),
        "measures": compare_totals(*totals),
        "left_out": {
            measure: names[list(pair).index(False)]
            for measure, pair in zip(MEASURES, known.T, strict=True)
            if any(pair) and not all(pair)
        },
    }


def compare_states(rows, labels, states=("different", "same")):
    """The first gender state minus the second within one system, on the speakers with both.

    The utterances of the states are not the same, the speakers are: each has totals of its own
    for both states.

    Returns:
        dict with n (of both states), speakers and measures (`compare_totals`), or None where
        no speaker has both states.
    """
    parts = [[row for row in rows if row["gender_state"] == state] for state in states]
    both = sorted(set.intersection(*({row["speaker"] for row in part} for part in parts)))
    if not both:
        return None
    parts = [[row for row in part if row["speaker"] in both] for part in parts]
    totals = [speaker_totals(part, labels, both) for part in parts]
    return {
        "n": [len({row["id"] for row in part}) for part in parts],
        "speakers": len(both),
        "measures": compare_totals(*totals),
    }


def mean_over(values, clusters, limits=(-np.inf, np.inf)):
    """The mean of values and its 95 % interval over their clusters (speakers), both rounded.

    Args:
        values: N numbers, at least one. clusters: of each. limits: of a value.

    Returns:
        the mean, and ``[low, high]``, None with a single cluster.
    """
    totals = cluster_totals([[value, 1] for value in values], clusters)
    bounds = cluster_interval(totals, mean_of, limits=limits)
    return rounded(mean_of(totals.sum(0))), interval(bounds)


def interval(bounds):
    """``[low, high]`` rounded, or None where one is undefined."""
    low, high = (rounded(bound) for bound in bounds)
    return None if low is None or high is None else [low, high]


def rounded(value):
    """A float of 6 decimals, None for NaN and infinity, which JSON does not have."""
    # "+ 0.0" turns -0.0 into 0.0
    return round(float(value), _DIGITS) + 0.0 if np.isfinite(value) else None


def _difference(pairs):
    """Differences of the measures ``(R, 4)`` of pairs of totals ``(R, 2, 2 K K + 2)``."""
    values = measures_of(pairs)
    return values[..., 0, :] - values[..., 1, :]


def recovered_share(totals, lower, upper):
    """Which share of the gap in UA between two systems a third one recovers.

    ``(UA(system) - UA(lower)) / (UA(upper) - UA(lower))``; leaving a speaker out changes all three.

    Args:
        totals, lower, upper: ``(S, 2 K K + 2)`` of the same speakers, see `speaker_totals`.

    Returns:
        the share and its 95 % interval ``[low, high]`` (None for fewer than two speakers), or
        ``(None, None)`` where there is no positive gap.
    """
    triples = np.stack([totals, lower, upper], axis=1)

    def share(triples):
        own, low, high = np.moveaxis(measures_of(triples)[..., MEASURES.index("ua")], -1, 0)
        return np.divide(own - low, high - low, out=np.full_like(own, np.nan), where=high > low)

    value = share(triples.sum(0)[None])[0]
    if np.isnan(value):
        return None, None
    return rounded(value), interval(cluster_interval(triples, share))
