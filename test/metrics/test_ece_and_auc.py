"""Expected calibration error and AUC: by hand, with ties, by clusters."""

import numpy as np
import pytest

from espnet_tse_ser.metrics.calibration import auc, chance_ece, ece, ranks, reliability
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals


def _ece(confidences, correct):
    total = 0.0
    for low in np.arange(10) / 10:
        inside = (confidences >= low) & ((confidences < low + 0.1) | (low == 0.9))
        if inside.any():
            total += abs(correct[inside].mean() - confidences[inside].mean()) * inside.sum()
    return total / len(correct)


def test_ece():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.25, 1, 500)
    correct = rng.random(500) < confidences**2
    assert float(ece(reliability(confidences, correct).sum(0))) == pytest.approx(
        _ece(confidences, correct)
    )
    assert float(ece(reliability([1.0, 1.0], [1, 1]).sum(0))) == 0
    assert float(ece(reliability([1.0, 1.0], [0, 0]).sum(0))) == 1
    assert np.isnan(ece(np.zeros((10, 3))))
    # The part of it that is by chance: the mean of it where confidences are right.
    drawn = [float(ece(reliability(confidences, rng.random(500) < confidences).sum(0)))
             for _ in range(200)]  # fmt: skip
    assert chance_ece(confidences) == pytest.approx(np.mean(drawn), rel=0.05)
    # What is as correct as it is confident has nearly none.
    calibrated = rng.random(20000) < (many := rng.uniform(0, 1, 20000))
    assert float(ece(reliability(many, calibrated).sum(0))) < 0.015


def test_auc():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 12, 300) / 7
    positive = rng.random(300) < scores / 2
    pairs = scores[positive][:, None] - scores[~positive]
    expected = (pairs > 0).mean() + (pairs == 0).mean() / 2
    assert 0.5 < float(auc(ranks(scores, positive).sum(0))) == pytest.approx(expected)
    assert float(auc(ranks([1, 2, 3], [0, 0, 1]).sum(0))) == 1
    assert float(auc(ranks([1, 2, 3], [1, 0, 0]).sum(0))) == 0
    assert np.isnan(auc(ranks([1, 2], [1, 1]).sum(0)))


def test_over_speakers():
    rng = np.random.default_rng(2)
    speakers = [f"s{n % 8}" for n in range(400)]
    positive = rng.random(400) < 0.5
    scores = rng.normal(positive * 1.5)
    totals = cluster_totals(ranks(scores, positive), speakers)
    low, high = cluster_interval(totals, auc, limits=(0, 1))
    whole = auc(totals.sum(0))
    assert 0.7 < low < whole < high < 1
    first = np.array(speakers) != "s0"  # the statistic without a speaker is that of the others
    without = auc(totals[1:].sum(0))
    assert without == pytest.approx(float(auc(ranks(scores[first], positive[first]).sum(0))))
