"""Paired tests over speakers: their level, an independent implementation, seeds and messages."""

import itertools

import numpy as np
import pytest
from scipy import stats
from simulated_tables import Regime, simulate, true_measures

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.comparison import (
    compare_rows,
    compare_states,
    compare_totals,
    difference_scores,
    rounded,
    sign_flip_p,
)
from espnet_tse_ser.metrics.intervals import jackknife
from espnet_tse_ser.metrics.speaker_totals import MEASURES, measures_of, speaker_totals

LABELS = ["ang", "hap", "neu", "sad"]
ALIKE = Regime(accuracies=((0.55, 0.5, 0.7, 0.6),) * 2)
# equal WA, UA and macro-F1 in the long run, but one is good at what the other is bad at
UNLIKE = Regime(accuracies=((0.4, 0.5, 0.7, 0.8), (0.8, 0.7, 0.5, 0.4)), shares=(0.25,) * 4)
SEEDS = Regime(accuracies=ALIKE.accuracies, seeds=3)


@pytest.mark.parametrize("regime", [ALIKE, UNLIKE, SEEDS], ids=["alike", "unlike", "three seeds"])
def test_level_of_the_test(regime):
    truth = true_measures(regime)
    np.testing.assert_allclose(truth[0], truth[1])
    tables = simulate(regime, 1500, seed=2)
    p = [sign_flip_p(difference_scores(*t), 499, seed) for seed, t in enumerate(tables)]
    positives = np.mean(np.array(p) <= 0.05, axis=0)
    assert (0.04 <= positives).all() and (positives <= 0.06).all(), positives


def test_power_and_agreement_with_the_interval():
    regime = Regime(accuracies=((0.68, 0.63, 0.83, 0.73), ALIKE.accuracies[0]), si_sdri=(6.5, 5))
    agree, found = [], []
    for table in simulate(regime, 100, seed=2):
        compared = compare_totals(*table)
        for measure in MEASURES:
            low, high = compared[measure]["difference_ci"]
            agree.append((compared[measure]["p"] <= 0.05) == (low > 0 or high < 0))
        found.append([compared[measure]["p"] <= 0.05 for measure in MEASURES])
    assert np.mean(agree) > 0.95
    assert (np.mean(found, axis=0) > 0.8).all()


def test_sign_flips_equal_scipys_permutation_test():
    scores = np.random.default_rng(3).normal(0.4, 1, (8, 2))
    for column, p in zip(scores.T, sign_flip_p(scores), strict=True):
        expected = stats.permutation_test(
            (column,), np.sum, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(expected.pvalue)
    many = np.random.default_rng(4).normal(0.3, 1, 20)
    expected = stats.permutation_test(
        (many,), np.sum, permutation_type="samples", n_resamples=50000, random_state=0
    )
    assert sign_flip_p(many, 50000) == pytest.approx(expected.pvalue, abs=0.01)


def test_smallest_p():
    assert sign_flip_p(np.ones(5)) == 2 / 32
    assert sign_flip_p(np.ones(40), patterns=99) == 1 / 100
    assert sign_flip_p(np.zeros(5)) == 1
    assert np.isnan(sign_flip_p(np.ones((1, 4)))).all()
    assert np.isnan(sign_flip_p(np.array([np.nan, 1.0, 1.0])))


def test_scores_of_a_share_are_the_speakers_sums():
    """WA and SI-SDRi are ratios of sums: under the null hypothesis nothing else matters."""
    a, b = simulate(Regime(speakers=7), 1, seed=5)[0]
    scores = difference_scores(a, b)
    np.testing.assert_allclose(scores.sum(0), measures_of(a.sum(0)) - measures_of(b.sum(0)))
    n, correct = [], []
    for totals in (a, b):
        confusion = totals[:, 16:32].reshape(7, 4, 4)
        n.append(confusion.sum((1, 2)))
        correct.append(confusion.trace(axis1=1, axis2=2))
    expected = (correct[0] - correct[1]) / n[0].sum()
    _, influence = jackknife(
        np.stack([a, b], 1), lambda t: np.diff(measures_of(t)[:, ::-1], axis=1)
    )
    assert np.abs(influence.sum(0)).max() < 1e-12
    # the jackknife leaves out instead of differentiating: alike up to the speaker's share
    np.testing.assert_allclose(scores[:, 0], expected, rtol=0.15, atol=2e-3)


def rows_of(seed, accuracy, speakers=8, utterances=24, seeds="0", same_bonus=0.0):
    rng = np.random.default_rng(seed)
    rows = []
    for number, run in itertools.product(range(speakers * utterances), seeds):
        reference = LABELS[number % 4]
        state = ("same", "different")[number // 4 % 2]
        correct = rng.random() < accuracy + same_bonus * (state == "same")
        speaker = f"s{number // utterances}"
        rows.append(
            dict(
                id=f"{speaker}-{number:04}",
                seed=run,
                speaker=speaker,
                gender="f",
                fold="1",
                snr_db=0.0,
                overlap=1.0,
                num_interferers=1,
                interferer_emotions="none",
                gender_state=state,
                reference=reference,
                hypothesis=reference if correct else str(rng.choice(LABELS)),
                si_sdri=float(rng.normal(5, 2)),
                **dict.fromkeys(("si_sdr_mix", "si_sdr", "stoi_mix", "stoi"), float("nan")),
                wrong_speaker=0.0,
            )
        )
    return rows


def test_compare_rows_of_unlike_numbers_of_seeds():
    three, one = rows_of(1, 0.7, seeds="012"), rows_of(2, 0.4)
    compared = compare_rows(three, one, LABELS)
    assert (compared["n"], compared["speakers"], compared["seeds"]) == (192, 8, [3, 1])
    for c in compared["measures"].values():
        assert c["difference"] == pytest.approx(c["value"] - c["reference"], abs=2e-6)
        for key in ("value", "reference", "difference"):
            assert c[f"{key}_ci"][0] < c[key] < c[f"{key}_ci"][1]
    accuracy = np.mean([row["reference"] == row["hypothesis"] for row in three])
    assert compared["measures"]["wa"]["value"] == pytest.approx(accuracy, abs=1e-6)
    assert compared["measures"]["ua"]["p"] == pytest.approx(2 / 2**8, abs=1e-6)
    # the order of rows and copies of all seeds change nothing
    copies = [{**row, "seed": seed + row["seed"]} for row in three for seed in "ab"]
    again = compare_rows(copies[::-1], one[::-1], LABELS)
    assert again["seeds"] == [6, 1] and again["measures"] == compared["measures"]


def test_swapping_systems_changes_the_sign_alone():
    a, b = rows_of(1, 0.6), rows_of(2, 0.5)
    there, back = compare_rows(a, b, LABELS)["measures"], compare_rows(b, a, LABELS)["measures"]
    for measure in MEASURES:
        assert there[measure]["difference"] == -back[measure]["difference"]
        assert there[measure]["p"] == back[measure]["p"]


def test_wa_has_a_hypothesis_of_its_own():
    a, b = rows_of(1, 0.6), rows_of(2, 0.5)
    right = [{**row, "hypothesis_wa": row["reference"]} for row in a]
    same = [{**row, "hypothesis_wa": row["hypothesis"]} for row in b]
    compared = compare_rows(right, same, LABELS)["measures"]
    plain = compare_rows(a, b, LABELS)["measures"]
    assert compared["wa"]["value"] == 1 and compared["ua"] == plain["ua"]
    assert compared["macro_f1"] == plain["macro_f1"] and compared["wa"] != plain["wa"]


def test_without_extraction_there_is_no_si_sdri():
    a = rows_of(1, 0.6)
    b = [{**row, "si_sdri": float("nan")} for row in rows_of(2, 0.5)]
    for tables, lacking in (((a, b), "B"), ((b, a), "A")):
        compared = compare_rows(*tables, LABELS)
        assert list(compared["measures"]) == ["wa", "ua", "macro_f1"]
        assert compared["left_out"] == {"si_sdri": lacking}
    assert compare_rows(a, a, LABELS)["left_out"] == compare_rows(b, b, LABELS)["left_out"] == {}


def test_one_speaker_has_no_p():
    a, b = rows_of(1, 0.6, speakers=1), rows_of(2, 0.5, speakers=1)
    for c in compare_rows(a, b, LABELS)["measures"].values():
        assert c["p"] is c["difference_ci"] is c["value_ci"] is None


def test_states_of_one_system():
    rows = rows_of(3, 0.4, same_bonus=0.4)
    compared = compare_states(rows, LABELS)
    ua = compared["measures"]["ua"]
    assert ua["difference_ci"][1] < 0 and ua["p"] < 0.02 and compared["speakers"] == 8
    parts = [[r for r in rows if r["gender_state"] == s] for s in ("different", "same")]
    values = [measures_of(speaker_totals(part, LABELS).sum(0))[1] for part in parts]
    assert (ua["value"], ua["reference"]) == tuple(rounded(value) for value in values)
    # a speaker with one state only does not take part
    fewer = [r for r in rows if (r["speaker"], r["gender_state"]) != ("s3", "same")]
    assert compare_states(fewer, LABELS)["speakers"] == 7
    assert compare_states(parts[0], LABELS) is None


def test_level_of_the_states():
    """Of each speaker other utterances, with other shares of classes, in either state."""
    tables = simulate(Regime(accuracies=ALIKE.accuracies[:1], si_sdri=(5.0,)), 2400, seed=6)
    other = simulate(Regime(accuracies=ALIKE.accuracies[:1], si_sdri=(5.0,)), 2400, seed=7)
    p = [
        sign_flip_p(difference_scores(a[0], b[0]), 299, seed)
        for seed, (a, b) in enumerate(zip(tables, other, strict=True))
    ]
    positives = np.mean(np.array(p) <= 0.05, axis=0)
    assert (0.035 <= positives).all() and (positives <= 0.065).all(), positives


def test_what_cannot_be_compared():
    """The rule is tested in test_comparable.py."""
    a, b = rows_of(1, 0.6), rows_of(2, 0.5)
    with pytest.raises(
        UserError, match=r"B: lacks 2 utterance\(s\) \(s0-0000, s0-0001\) of the 192"
    ):
        compare_rows(a, b[2:], LABELS)
    with pytest.raises(UserError, match=r"x/ft: lacks 1 utterance\(s\) .* of the 192 of x/base"):
        compare_rows(a[1:], b, LABELS, ("x/ft", "x/base"))


def test_a_class_without_utterances_is_named():
    a, b = ([row for row in rows_of(seed, 0.6) if row["reference"] != "neu"] for seed in (1, 2))
    compared = compare_rows(a, b, LABELS)
    assert compared["classes_missing"] == ["neu"]
    assert compare_rows(rows_of(1, 0.6), rows_of(2, 0.5), LABELS)["classes_missing"] == []
    recalls = [
        np.mean([row["hypothesis"] == label for row in a if row["reference"] == label])
        for label in ("ang", "hap", "sad")
    ]
    assert compared["measures"]["ua"]["value"] == pytest.approx(np.mean(recalls), abs=1e-6)
