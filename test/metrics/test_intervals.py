"""The speaker bootstrap: coverage, invariances and limits."""

import time

import numpy as np
import pytest

from espnet_tse_ser.metrics.emotion import macro_f1_of, ua_of, wa_of
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, mean_of


def measures(confusions):
    return np.stack([wa_of(confusions), ua_of(confusions), macro_f1_of(confusions)], axis=-1)


def draw_confusions(rng, tables, speakers, utterances=32):
    """Confusions ``(tables, speakers, 4, 4)``: accuracies vary with class, speaker and both."""
    logits = np.array([0.5, 0.0, 0.8, 1.2])
    logits = logits + rng.normal(0, 0.5, (tables, speakers, 1))
    logits = logits + rng.normal(0, 0.6, (tables, speakers, 4))
    counts = rng.multinomial(utterances, [0.2, 0.2, 0.4, 0.2], size=(tables, speakers))
    correct = rng.binomial(counts, 1 / (1 + np.exp(-logits)))
    confusions = np.zeros((tables, speakers, 4, 4))
    for label in range(4):
        confusions[..., label, label] = correct[..., label]
        confusions[..., label, (label + 1) % 4] = (counts - correct)[..., label]
    return confusions


@pytest.mark.parametrize("speakers", [5, 24])
def test_coverage_of_emotion_measures(speakers):
    rng = np.random.default_rng(1)
    truth = measures(draw_confusions(rng, 20000, speakers).sum((0, 1)))
    tables = draw_confusions(rng, 1000, speakers)
    hits = np.zeros(3)
    for seed, table in enumerate(tables):
        low, high = cluster_interval(table, measures, limits=(0, 1), resamples=500, seed=seed)
        hits += (low <= truth) & (truth <= high)
    coverage = hits / len(tables)
    assert (0.93 <= coverage).all() and (coverage <= 0.97).all(), coverage


def test_coverage_of_a_mean():
    rng = np.random.default_rng(2)
    tables, speakers, utterances = 1000, 24, 20
    values = 5 + rng.normal(0, 2, (tables, speakers, 1))
    values = values + rng.normal(0, 3, (tables, speakers, utterances))
    totals = np.stack([values.sum(-1), np.full((tables, speakers), utterances)], axis=-1)
    hits = 0
    for seed, table in enumerate(totals):
        low, high = cluster_interval(table, mean_of, resamples=500, seed=seed)
        hits += low <= 5 <= high
    assert 0.93 <= hits / tables <= 0.97


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


def test_standard_error_agrees_with_theory():
    values = np.random.default_rng(4).normal(size=40)
    totals = np.stack([values, np.ones(40)], axis=-1)
    low, high = cluster_interval(totals, mean_of, resamples=20000)
    # the t interval of a mean of 40 independent values, t(39, 0.975) = 2.0227
    half = 2.0227 * values.std(ddof=1) / np.sqrt(40)
    assert low == pytest.approx(values.mean() - half, abs=0.02 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.02 * half)


def test_same_seed_same_interval_and_order_of_magnitude_of_seeds():
    table = draw_confusions(np.random.default_rng(0), 1, 24)[0]
    first, again, other = (cluster_interval(table, measures, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first, other, atol=0.01)


def test_more_speakers_and_lower_level_are_narrower():
    table = draw_confusions(np.random.default_rng(0), 1, 96)[0]

    def width(table, **options):
        low, high = cluster_interval(table, ua_of, **options)
        return high - low

    assert width(table) < width(table[:24])
    assert width(table, level=0.8) < width(table)


def test_limits_one_speaker_undefined_and_perfect():
    table = draw_confusions(np.random.default_rng(0), 1, 2)[0]
    low, high = cluster_interval(table, measures, limits=(0, 1))
    assert (0 <= low).all() and (low <= high).all() and (high <= 1).all()
    assert np.isnan(cluster_interval(table[:1], measures)).all()
    assert np.isnan(cluster_interval(np.array([[0.0, 0.0], [1.0, 1.0]]), mean_of)).all()
    perfect = np.tile(np.eye(4), (5, 1, 1))
    np.testing.assert_array_equal(cluster_interval(perfect, measures), np.ones((2, 3)))


def test_two_thousand_resamples_are_quick():
    table = draw_confusions(np.random.default_rng(0), 1, 24)[0]
    cluster_interval(table, measures)
    start = time.process_time()
    cluster_interval(table, measures, resamples=2000)
    assert time.process_time() - start < 0.5


def test_cluster_totals():
    totals = cluster_totals([[1, 1], [2, 1], [4, 1]], ["b", "a", "b"])
    np.testing.assert_array_equal(totals, [[2, 1], [5, 2]])
