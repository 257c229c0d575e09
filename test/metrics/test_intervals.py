"""Intervals over speakers: coverage, an independent implementation, invariances and limits."""

import numpy as np
import pytest
from scipy import stats
from simulated_tables import Regime, simulate, true_measures

from espnet_tse_ser.metrics.emotion import ua_of
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, jackknife, mean_of
from espnet_tse_ser.metrics.speaker_totals import confusions_of, intervals, measures_of

NEARLY_PERFECT = ((0.97, 0.96, 0.98, 0.97),)


def coverage(regime, tables, seed):
    """How often `intervals` holds WA, UA, macro-F1 and SI-SDRi of the first system ``(4,)``."""
    truth = true_measures(regime)[0]
    hits = np.zeros(4)
    for totals in simulate(regime, tables, seed)[:, 0]:
        low, high = intervals(totals)
        hits += (low <= truth) & (truth <= high)
    return hits / tables


@pytest.mark.parametrize(
    "regime, tables",
    [
        (Regime(), 1000),
        (Regime(speaker=0.25, speaker_class=0.2, speaker_system=0.1), 1000),
        (Regime(speakers=10, utterances=60), 1000),
        (Regime(speakers=5), 1000),
        (Regime(accuracies=NEARLY_PERFECT, si_sdri=(5.0,)), 1000),
    ],
    ids=["24 speakers", "unlike speakers", "10 speakers", "5 speakers", "UA 0.97"],
)
def test_coverage(regime, tables):
    # 1000 tables are good to 0.7 points; bench/intervals.py draws more of more regimes
    covered = coverage(regime, tables, seed=2)
    assert (0.93 <= covered).all() and (covered <= 0.97).all(), covered


def test_percentile_bootstrap_of_five_speakers_is_too_sure():
    regime = Regime(speakers=5, utterances=24)
    truth = true_measures(regime)[0]
    rng = np.random.default_rng(2)
    hits = np.zeros(4)
    drawn = simulate(regime, 400, seed=3)[:, 0]
    for totals in drawn:
        weights = rng.multinomial(5, np.full(5, 0.2), size=200)
        low, high = np.percentile(measures_of(weights @ totals), [2.5, 97.5], axis=0)
        hits += (low <= truth) & (truth <= high)
    assert (hits / len(drawn) < 0.89).all(), hits / len(drawn)


def test_utterances_as_clusters_would_be_too_sure():
    rng = np.random.default_rng(3)
    correct = rng.random((24, 40)) < rng.beta(2, 2, (24, 1))  # speakers differ much
    speakers = np.repeat(np.arange(24), 40)
    values = np.stack([correct.ravel(), np.ones(correct.size)], axis=-1)
    widths = [
        np.subtract(*cluster_interval(cluster_totals(values, clusters), mean_of)[::-1])
        for clusters in (speakers, np.arange(correct.size))
    ]
    assert widths[0] > 2 * widths[1]


def test_a_mean_gets_students_interval():
    values = np.random.default_rng(4).normal(size=40)
    totals = np.stack([values, np.ones(40)], axis=-1)
    expected = stats.t.interval(0.9, 39, values.mean(), stats.sem(values))
    np.testing.assert_allclose(cluster_interval(totals, mean_of, level=0.9), expected)


def test_jackknife_equals_leaving_out_one_by_one():
    totals = simulate(Regime(speakers=6), 1, seed=5)[0, 0]
    estimate, influence = jackknife(totals, measures_of)
    without = np.array([measures_of(np.delete(totals, s, axis=0).sum(0)) for s in range(6)])
    np.testing.assert_allclose(estimate, measures_of(totals.sum(0)))
    np.testing.assert_allclose(influence, 5 / 6 * (without.mean(0) - without), atol=1e-12)
    np.testing.assert_allclose(influence.sum(0), 0, atol=1e-12)


def test_share_of_independent_trials_gets_wilsons_interval():
    """With one trial a cluster there are no clusters; scipy's has the normal's quantile."""
    correct = np.arange(2000) < 1900
    low, high = cluster_interval(
        np.stack([correct, np.ones(2000)], axis=1), mean_of, trials=np.array(2000)
    )
    expected = stats.binomtest(1900, 2000).proportion_ci(method="wilson")
    np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=2e-5)


def test_perfect_answers_leave_room_for_mistakes():
    confusions = np.tile(10 * np.eye(4), (24, 1, 1))
    width = [cluster_interval(confusions, ua_of, trials=n)[0] for n in (960, 480)]
    # Student's quantile squared is 4.28; Wilson's lower bound of n out of n is n / (n + 4.28)
    np.testing.assert_allclose(width, [960 / 964.28, 480 / 484.28], atol=1e-5)
    np.testing.assert_array_equal(cluster_interval(confusions, ua_of), np.ones(2))
    low, high = cluster_interval(np.zeros((5, 2)) + [0, 10], mean_of, limits=(0, 1), trials=50)
    assert low == 0 and high == pytest.approx(7.709 / 57.709, abs=1e-4)


def test_more_speakers_and_lower_level_are_narrower():
    table = confusions_of(simulate(Regime(speakers=96), 1, seed=0)[0, 0])[:, 0]

    def width(table, **options):
        low, high = cluster_interval(table, ua_of, **options)
        return high - low

    assert width(table) < width(table[:24])
    assert width(table, level=0.8) < width(table)


def test_limits_one_speaker_and_undefined():
    table = simulate(Regime(speakers=2), 1, seed=0)[0, 0]
    low, high = intervals(table)
    assert (0 <= low[:3]).all() and (low <= high).all() and (high[:3] <= 1).all()
    assert np.isnan(cluster_interval(table[:1], measures_of)).all()
    assert np.isnan(intervals(table[:1])).all()
    # without the second cluster there is nothing to measure
    lone = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert np.isnan(cluster_interval(lone, mean_of)).all()
    assert np.isnan(cluster_interval(lone, mean_of, trials=1)).all()


def test_cluster_totals():
    totals = cluster_totals([[1, 1], [2, 1], [4, 1]], ["b", "a", "b"])
    np.testing.assert_array_equal(totals, [[2, 1], [5, 2]])
    totals = cluster_totals([[1, 1], [2, 1], [4, 1]], ["b", "a", "b"], ["c", "b", "a"])
    np.testing.assert_array_equal(totals, [[0, 0], [5, 2], [2, 1]])
