"""results.json and RESULTS.md from per-utterance rows."""

import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics import report, results
from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS, SYSTEMS

LABELS = ["ang", "hap", "neu", "sad"]
ACCURACY = dict(
    clean_clean=0.8, clean_noisy=0.45, noisy_noisy=0.5, clean_denoised=0.55, base=0.65, ft=0.75
)


def make_scores(names=tuple(SYSTEMS), speakers=10, utterances=24, seed="0"):
    """Rows of each system: 5 folds of 2 speakers, both gender states."""
    scores = {}
    for name in names:
        rng = np.random.default_rng([int(seed), list(SYSTEMS).index(name)])
        rows = []
        for number in range(speakers * utterances):
            speaker = number // utterances
            reference = LABELS[number % 4]
            correct = rng.random() < ACCURACY[name]
            extracts = SYSTEMS[name].test in ("denoised", "joint")
            before, after = rng.normal(0, 3), rng.normal(8, 3)
            values = (before, after, after - before, 0.6, 0.8, float(rng.random() < 0.1))
            signal = dict.fromkeys(SIGNAL_COLUMNS, float("nan"))
            if extracts:
                signal = dict(zip(SIGNAL_COLUMNS, values, strict=True))
            rows.append(
                dict(
                    id=f"s{speaker:02}-{number:04}",
                    speaker=f"s{speaker:02}",
                    fold=str(speaker // 2 + 1),
                    seed=seed,
                    gender_state=("same", "different")[number // 4 % 2],
                    reference=reference,
                    hypothesis=reference if correct else str(rng.choice(LABELS)),
                    **signal,
                )
            )
        scores[name] = rows
    return scores


@pytest.fixture(scope="module")
def scores():
    return make_scores()


def test_summary_equals_scikit_learn_and_plain_means(scores):
    summary = results.summarise(scores, LABELS)
    assert [(r["system"], r["fold"]) for r in summary] == [
        (name, fold) for name in SYSTEMS for fold in ["1", "2", "3", "4", "5", "all"]
    ]
    for r in summary:
        rows = [row for row in scores[r["system"]] if r["fold"] in ("all", row["fold"])]
        references = [row["reference"] for row in rows]
        hypotheses = [row["hypothesis"] for row in rows]
        assert r["n"] == len(rows) == np.sum(r["confusion"])
        assert r["seeds"] == 1 and "ua_by_seed" not in r
        assert r["ua"] == pytest.approx(balanced_accuracy_score(references, hypotheses), abs=1e-6)
        expected = f1_score(references, hypotheses, average="macro")
        assert r["macro_f1"] == pytest.approx(expected, abs=1e-6)
        for measure in results.MEASURES:
            low, high = r[f"{measure}_ci"]
            assert 0 <= low <= r[measure] <= high <= 1
        assert sum(part["n"] for part in r["by_gender_state"].values()) == r["n"]
        if SYSTEMS[r["system"]].test in ("clean", "noisy"):
            assert r["si_sdr"] is r["si_sdri_ci"] is r["wrong_speaker_rate"] is None
        else:
            assert r["si_sdri"] == pytest.approx(
                np.mean([row["si_sdri"] for row in rows]), abs=1e-6
            )
            assert r["si_sdri"] == pytest.approx(r["si_sdr"] - r["si_sdr_mix"], abs=2e-6)


def test_summary_is_json_with_six_decimals(scores):
    summary = results.summarise(scores, LABELS)
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text) == summary
    assert all(len(f"{r['ua']!r}".partition(".")[2]) <= 6 for r in summary)
    assert text == json.dumps(results.summarise(make_scores(), LABELS))


def test_empty_values_do_not_count(scores):
    rows = [dict(row) for row in scores["base"]]
    rows[0]["stoi"] = float("nan")
    rows[1]["stoi"] = 0.3
    (pooled,) = [r for r in results.summarise({"base": rows}, LABELS) if r["fold"] == "all"]
    assert pooled["stoi"] == pytest.approx(
        (0.3 + 0.8 * (len(rows) - 2)) / (len(rows) - 1), abs=1e-6
    )


def test_one_speaker_has_no_interval(scores):
    rows = [row for row in scores["base"] if row["speaker"] == "s00"]
    pooled = results.summarise({"base": rows}, LABELS)[-1]
    assert pooled["ua_ci"] is pooled["si_sdri_ci"] is None and 0 < pooled["ua"] < 1
    header = {"date": "today"}
    assert "[" not in report.render(LABELS, [pooled], [], header).split("## Confusions")[0]


def test_comparisons(scores):
    pooled = {r["system"]: r for r in results.summarise(scores, LABELS) if r["fold"] == "all"}
    compared = {(c["system"], c["reference"]): c for c in results.compare(scores, LABELS)}
    assert list(compared) == list(results.DIFFERENCES)
    for (system, reference), c in compared.items():
        difference = pooled[system]["ua"] - pooled[reference]["ua"]
        assert c["difference"] == pytest.approx(difference, abs=2e-6)
        assert c["difference_ci"][0] < difference < c["difference_ci"][1]
    gap = compared["clean_clean", "noisy_noisy"]["difference"]
    for system in ("base", "ft"):
        c = compared[system, "noisy_noisy"]
        assert c["recovered"] == pytest.approx(c["difference"] / gap, abs=1e-5)
        assert c["recovered_ci"][0] < c["recovered"] < c["recovered_ci"][1]
    assert "recovered" not in compared["ft", "base"]


def test_no_gap_no_share(scores):
    swapped = {**scores, "clean_clean": scores["noisy_noisy"], "noisy_noisy": scores["clean_clean"]}
    compared = results.compare(swapped, LABELS)
    assert len(compared) == 4 and not any("recovered" in c for c in compared)


def test_paired_difference_of_equal_systems_is_zero(scores):
    equal = {"noisy_noisy": scores["base"], "base": scores["base"]}
    (comparison,) = results.compare(equal, LABELS)
    assert comparison["difference"] == 0 and comparison["difference_ci"] == [0, 0]


def test_systems_must_share_their_utterances(scores):
    broken = {"base": scores["base"], "ft": scores["ft"][1:]}
    message = r"base and ft are scored on different utterances .*s00-0000, seed 0\); run stage 13"
    for function in (results.summarise, results.compare):
        with pytest.raises(UserError, match=message):
            function(broken, LABELS)


@pytest.fixture(scope="module")
def three_seeds(scores):
    """The main seed 0 and, of other trainings on the same utterances, 1 and 2."""
    others = [make_scores(seed=seed) for seed in "12"]
    return {name: rows + [r for o in others for r in o[name]] for name, rows in scores.items()}


def test_seeds_are_pooled(three_seeds):
    for r in results.summarise(three_seeds, LABELS):
        rows = [row for row in three_seeds[r["system"]] if r["fold"] in ("all", row["fold"])]
        assert r["seeds"] == 3 and 3 * r["n"] == len(rows) == np.sum(r["confusion"])
        assert sum(part["n"] for part in r["by_gender_state"].values()) == r["n"]
        expected = {}
        for seed in "012":
            own = [row for row in rows if row["seed"] == seed]
            references, hypotheses = ([row[c] for row in own] for c in ("reference", "hypothesis"))
            expected[seed] = balanced_accuracy_score(references, hypotheses)
        assert r["ua_by_seed"] == pytest.approx(expected, abs=1e-6)
        # every seed has the same references
        assert r["ua"] == pytest.approx(np.mean([*expected.values()]), abs=1e-6)
        if r["si_sdri"] is not None:
            assert r["si_sdri"] == pytest.approx(np.mean([x["si_sdri"] for x in rows]), abs=1e-6)


def test_copies_of_a_seed_change_no_figure(scores):
    copies = {
        name: [{**row, "seed": seed} for row in rows for seed in "01"]
        for name, rows in scores.items()
    }
    assert results.compare(copies, LABELS) == results.compare(scores, LABELS)
    for r, expected in zip(
        results.summarise(copies, LABELS), results.summarise(scores, LABELS), strict=True
    ):
        assert r["ua_by_seed"] == {"0": expected["ua"], "1": expected["ua"]}
        for key in ("n", "wa", "ua_ci", "macro_f1_ci", "si_sdri", "si_sdri_ci"):
            assert r[key] == expected[key]


def test_systems_must_share_their_seeds(three_seeds):
    fewer = [row for row in three_seeds["ft"] if row["seed"] != "2"]
    with pytest.raises(UserError, match=r"240 in one of them only, e.g. s00-0000, seed 2"):
        results.compare({"base": three_seeds["base"], "ft": fewer}, LABELS)


def test_report_of_several_seeds(three_seeds):
    summary = results.summarise(three_seeds, LABELS)
    text = report.render(LABELS, summary, results.compare(three_seeds, LABELS), {"date": "d"})
    pooled = {r["system"]: r for r in summary if r["fold"] == "all"}
    deviation = 100 * np.std([*pooled["ft"]["ua_by_seed"].values()], ddof=1)
    assert "Folds 1, 2, 3, 4, 5 and seeds 0, 1, 2 pooled; % with" in text
    assert "over the seeds, percentage points: clean_clean" in text
    assert f", ft {deviation:.2f}.\n" in text and "with 3 seeds; row:" in text
    assert "| joint | joint | 240 | " in text


def test_environment_has_versions_only():
    versions = results.environment()
    assert set(versions) == {"python", "torch", "espnet", "numpy", "espnet_tse_ser"}
    assert versions["numpy"] == np.__version__


def test_report_holds_every_table(scores):
    summary = results.summarise(scores, LABELS)
    header = {"date": "2025-01-01", "git commit": None}
    compared = results.compare(scores, LABELS)
    text = report.render(LABELS, summary, compared, header, ["plots/a.png"])
    pooled = {r["system"]: r for r in summary if r["fold"] == "all"}
    ft = pooled["ft"]
    low, high = ft["ua_ci"]
    cell = f"{100 * ft['ua']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert "| SB+SC (TSE-SER-ft) | joint | joint | 240 | " in text and cell in text
    assert f"{ft['si_sdri']:.2f} [" in text
    for heading in (
        "Emotion recognition",
        "Differences in UA",
        "Extraction",
        "Folds",
        "Confusions",
    ):
        assert f"## {heading}\n" in text
    assert "| git commit | n/a |" in text and "![plots/a.png](plots/a.png)" in text
    assert (
        "Not scored yet" not in text
        and "seed" not in text
        and "nan" not in text
        and "None" not in text
    )
    for table in text.split("\n\n"):  # every line of a table has as many cells
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_report_of_two_systems_says_what_is_missing():
    scores = make_scores(("clean_clean", "noisy_noisy"))
    summary = results.summarise(scores, LABELS)
    text = report.render(LABELS, summary, results.compare(scores, LABELS), {"date": "d"})
    assert "Not scored yet: clean_noisy, clean_denoised, base, ft." in text
    assert "## Extraction" not in text
