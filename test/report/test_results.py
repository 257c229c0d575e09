"""results.json and RESULTS.md from per-utterance rows."""

import json

import numpy as np
import pytest
from declared import ROWS, SYSTEMS
from metrics_rows import LABELS, make_scores, rows_of
from sklearn.metrics import balanced_accuracy_score, f1_score

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics import breakdown
from espnet_tse_ser.report import results
from espnet_tse_ser.report import results_report as report
from espnet_tse_ser.report.stamp import Stamp

DIFFERENCES = (
    *(("clean_clean", "noisy_noisy"), ("clean_noisy", "noisy_noisy"), ("base", "clean_denoised")),
    *(("base", "noisy_noisy"), ("ft", "noisy_noisy"), ("ft", "base")),  # also within gender states
)
POOLED = "pooled (figures of all utterances together, no means over folds)"


@pytest.fixture(scope="module")
def scores():
    return make_scores()


def test_summary_equals_scikit_learn_and_plain_means(scores):
    summary = results.summarise(scores, LABELS, rows_of(scores))
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
        for measure in results.EMOTION:
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
    summary = results.summarise(scores, LABELS, rows_of(scores))
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text) == summary
    assert all(len(f"{r['ua']!r}".partition(".")[2]) <= 6 for r in summary)
    assert text == json.dumps(results.summarise(make_scores(), LABELS, ROWS))


def test_empty_values_do_not_count(scores):
    rows = [dict(row) for row in scores["base"]]
    rows[0]["stoi"] = float("nan")
    rows[1]["stoi"] = 0.3
    (pooled,) = [r for r in results.summarise({"base": rows}, LABELS, ROWS) if r["fold"] == "all"]
    assert pooled["stoi"] == pytest.approx(
        (0.3 + 0.8 * (len(rows) - 2)) / (len(rows) - 1), abs=1e-6
    )


def test_one_speaker_has_no_interval(scores):
    one = {name: [row for row in rows if row["speaker"] == "s00"] for name, rows in scores.items()}
    pooled = [r for r in results.summarise(one, LABELS, rows_of(one)) if r["system"] == "base"][-1]
    assert pooled["ua_ci"] is pooled["si_sdri_ci"] is None and 0 < pooled["ua"] < 1
    text = report.render(make_figures(one), {"date": "today"})
    assert "[" not in text.split("## The papers' figures")[0]
    assert "\n%, without 95 % intervals: one speaker says nothing about others.\n" in text
    assert "without 95 % intervals and p: one speaker says nothing about others. p is" in text
    assert "p n/a" in text and "nan" not in text and "None" not in text


def test_a_class_without_utterances_is_said(scores):
    fewer = {
        name: [r for r in rows if r["reference"] != "sad" or r["fold"] == "1"]
        for name, rows in scores.items()
    }
    summary = {
        (r["system"], r["fold"]): r for r in results.summarise(fewer, LABELS, rows_of(fewer))
    }
    assert summary["ft", "all"]["classes_missing"] == summary["ft", "1"]["classes_missing"] == []
    assert summary["ft", "2"]["classes_missing"] == ["sad"]
    confusion = np.array(summary["ft", "2"]["confusion"])[:3]
    recalls = confusion.diagonal() / confusion.sum(1)
    assert summary["ft", "2"]["ua"] == pytest.approx(recalls.mean(), abs=1e-6)
    folds = report.render(make_figures(fewer), {}).split("## Folds")[1].split("## Confusions")[0]
    lines = {line.split(" | ")[0]: line for line in folds.splitlines() if " | UA | " in line}
    assert lines["| ft"].count("*") == 4 and "| ft | WA |" in folds
    assert "without the classes of which there is no utterance" in folds
    none = report.render(make_figures(scores), {})
    assert "without the classes" not in none


def test_means_of_fewer_utterances_say_so(scores):
    rows = [
        r | ({"stoi": np.nan} if n < 20 else {}) | ({"wrong_speaker": np.nan} if n < 40 else {})
        for n, r in enumerate(scores["ft"])
    ]
    text = report.render(make_figures({"ft": rows}), {})
    line = next(line for line in text.splitlines() if line.startswith("| fine-tuned (ft) | all |"))
    cells = line.split(" | ")
    assert "(" not in cells[6] and cells[7].endswith(" (220)") and " (200) |" in line
    assert "| ft | 200 of 240 |" in text
    assert "Brackets say of how many of the n" in text


def test_comparisons(scores):
    pooled = {
        r["system"]: r
        for r in results.summarise(scores, LABELS, rows_of(scores))
        if r["fold"] == "all"
    }
    compared = {
        (c["system"], c["reference"], c["gender_state"]): c
        for c in results.compare(scores, LABELS, rows_of(scores))
    }
    assert list(compared) == [(*pair, "all") for pair in DIFFERENCES] + [
        (*pair, state) for state in ("same", "different") for pair in DIFFERENCES[3:]
    ]
    for (system, reference, state), c in compared.items():
        own, other = (
            pooled[name] if state == "all" else pooled[name]["by_gender_state"][state]
            for name in (system, reference)
        )
        assert c["n"] == own["n"] and c["speakers"] == own["speakers"] == 10
        for measure in ("ua", "wa", "macro_f1"):
            found = c["measures"][measure]
            difference = own[measure] - other[measure]
            assert found["difference"] == pytest.approx(difference, abs=2e-6)
            assert found["difference_ci"][0] < difference < found["difference_ci"][1]
            assert found["value_ci"] == own[f"{measure}_ci"]
            assert 2 / 2**10 - 1e-6 <= found["p"] <= 1
        assert ("si_sdri" in c["measures"]) == ("noisy_noisy" not in (system, reference))
    assert compared["ft", "noisy_noisy", "all"]["measures"]["ua"]["p"] < 0.05
    for state in ("all", "same", "different"):
        for system in ("base", "ft"):
            c = compared[system, "noisy_noisy", state]
            upper, lower = (
                pooled[name] if state == "all" else pooled[name]["by_gender_state"][state]
                for name in ("clean_clean", "noisy_noisy")
            )
            expected = c["measures"]["ua"]["difference"] / (upper["ua"] - lower["ua"])
            assert c["recovered"] == pytest.approx(expected, abs=1e-5)
            assert c["recovered_ci"][0] < c["recovered"] < c["recovered_ci"][1]
        assert "recovered" not in compared["ft", "base", state]


def test_state_differences(scores):
    pooled = {
        r["system"]: r
        for r in results.summarise(scores, LABELS, rows_of(scores))
        if r["fold"] == "all"
    }
    compared = results.compare_states(scores, LABELS)
    assert [c["system"] for c in compared] == list(SYSTEMS)
    for c in compared:
        states = pooled[c["system"]]["by_gender_state"]
        expected = states["different"]["ua"] - states["same"]["ua"]
        assert c["measures"]["ua"]["difference"] == pytest.approx(expected, abs=2e-6)
        assert c["n"] == [states["different"]["n"], states["same"]["n"]]


def test_no_gap_no_share(scores):
    swapped = {**scores, "clean_clean": scores["noisy_noisy"], "noisy_noisy": scores["clean_clean"]}
    compared = results.compare(swapped, LABELS, rows_of(swapped))
    assert len(compared) == 12 and not any("recovered" in c for c in compared)


def test_paired_difference_of_equal_systems_is_zero(scores):
    equal = {"noisy_noisy": scores["base"], "base": scores["base"]}
    for comparison in results.compare(equal, LABELS, rows_of(equal)):
        for measure in comparison["measures"].values():
            assert measure["difference"] == 0 and measure["difference_ci"] == [0, 0]
            assert measure["p"] == 1


def test_systems_must_share_their_utterances(scores):
    broken = {"base": scores["base"], "ft": scores["ft"][1:]}
    message = r"ft: lacks 1 utterance\(s\) \(s00-0000\) of the 240 of base; .*: score both again"
    for function in (results.summarise, results.compare):
        with pytest.raises(UserError, match=message):
            function(broken, LABELS, ROWS)


@pytest.fixture(scope="module")
def three_seeds(scores):
    """The main seed 0 and, of other trainings on the same utterances, 1 and 2."""
    others = [make_scores(seed=seed) for seed in "12"]
    return {name: rows + [r for o in others for r in o[name]] for name, rows in scores.items()}


def test_seeds_are_pooled(three_seeds):
    for r in results.summarise(three_seeds, LABELS, rows_of(three_seeds)):
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
    for c, expected in zip(
        results.compare(copies, LABELS, rows_of(copies)),
        results.compare(scores, LABELS, rows_of(scores)),
        strict=True,
    ):
        assert c == {**expected, "seeds": [2, 2]}
    again, first = (breakdown.break_down(s, LABELS) for s in (copies, scores))
    assert again == first
    again, first = (breakdown.wrong_speakers(s, LABELS) for s in (copies, scores))
    assert again == first
    for r, expected in zip(
        results.summarise(copies, LABELS, rows_of(copies)),
        results.summarise(scores, LABELS, rows_of(scores)),
        strict=True,
    ):
        assert r["ua_by_seed"] == {"0": expected["ua"], "1": expected["ua"]}
        for key in ("n", "wa", "ua_ci", "macro_f1_ci", "si_sdri", "si_sdri_ci"):
            assert r[key] == expected[key]


def test_systems_must_share_their_seeds(three_seeds):
    fewer = [row for row in three_seeds["ft"] if row["seed"] != "2"]
    with pytest.raises(UserError, match=r"ft: lacks the seed\(s\) 2 of base; run stage 13 again"):
        results.compare({"base": three_seeds["base"], "ft": fewer}, LABELS, ROWS)


def test_report_of_several_seeds(three_seeds):
    summary = results.summarise(three_seeds, LABELS, rows_of(three_seeds))
    differences = results.compare(three_seeds, LABELS, ROWS)
    figures = report.Figures(LABELS, summary, ROWS, differences=differences)
    stamp = Stamp(folds=tuple("12345"), seeds=tuple("012"))
    text = report.render(figures, {"date": "d"}, stamp)
    pooled = {r["system"]: r for r in summary if r["fold"] == "all"}
    deviation = 100 * np.std([*pooled["ft"]["ua_by_seed"].values()], ddof=1)
    once = "pooled (an utterance counts once, as the mean over them)"
    assert f"Scheme not stated; folds 1, 2, 3, 4, 5 {POOLED}; seeds 0, 1, 2 {once}.\n" in text
    assert "over the seeds, percentage points: clean_clean" in text
    assert f", ft {deviation:.2f}.\n" in text and "with 3 seeds; row:" in text
    assert "| joint | joint | 240 | " in text


def test_environment_has_versions_only():
    versions = results.environment()
    assert set(versions) == {"python", "torch", "espnet", "numpy", "espnet_tse_ser"}
    assert versions["numpy"] == np.__version__


def make_figures(scores):
    rows = rows_of(scores)
    return report.Figures(
        labels=LABELS,
        results=results.summarise(scores, LABELS, rows),
        systems=rows,
        differences=results.compare(scores, LABELS, rows),
        state_differences=results.compare_states(scores, LABELS),
        breakdown=breakdown.break_down(scores, LABELS),
        wrong_speakers=breakdown.wrong_speakers(scores, LABELS),
    )


def test_optimistic_figures_say_so_at_every_table(scores):
    stamp = Stamp("best_test_epoch")
    text = report.render(make_figures(scores), {"date": "d"}, stamp, (), SYSTEMS.values())
    measured = text.count("\n## ") - 1  # the papers' figures are not ours
    mark = "\n**Scheme best_test_epoch, optimistic: epoch chosen on the test fold**; folds "
    assert text.count(mark) == measured == 9


def test_report_holds_every_table(scores):
    summary = results.summarise(scores, LABELS, rows_of(scores))
    header = {"date": "2025-01-01", "git commit": None}
    figures = make_figures(scores)
    stamp = Stamp("loso", "by utterance, 10.0 % of it", tuple("12345"), ("0",), 240, 240)
    text = report.render(figures, header, stamp, ["plots/a.png"], SYSTEMS.values())
    assert len(text.splitlines()) < 250
    pooled = {r["system"]: r for r in summary if r["fold"] == "all"}
    ft = pooled["ft"]
    low, high = ft["ua_ci"]
    cell = f"{100 * ft['ua']:.2f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert "| SB+SC (TSE-SER-ft) | joint | joint | 240 | " in text and cell in text
    assert f"{ft['si_sdri']:.2f} [" in text
    pooled_folds = {"Folds": "each by itself"}
    for heading in (
        "Emotion recognition",
        "Differences",
        "Extraction",
        "Wrong speakers",
        "Emotion recognition by gender state",
        "By mixture",
        "By emotion",
        "Folds",
        "Confusions",
    ):
        folds = f"folds 1, 2, 3, 4, 5 {pooled_folds.get(heading, POOLED)}"
        under = f"{folds}; all 240 utterances; seed 0.\n\n"
        assert f"\n## {heading}\n\nScheme loso; dev: by utterance, 10.0 % of it; {under}" in text
    c = figures.differences[4]["measures"]["ua"]
    assert c["p"] < 0.05 and f"{100 * c['difference']:.2f} [" in text
    assert text.count("SC: the recogniser, in the paper ShiftCNN. ") == 1
    assert text.count("Gender state: whether target and interferer are of the same gender.") == 1
    assert "| git commit | n/a |" in text and "![plots/a.png](plots/a.png)" in text
    assert "Not scored yet" not in text and "nan" not in text and "None" not in text
    for table in text.split("\n\n"):  # every line of a table has as many cells
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_report_of_two_systems_says_what_is_missing():
    scores = make_scores(("clean_clean", "noisy_noisy"))
    text = report.render(make_figures(scores), {}, declared=SYSTEMS.values())
    assert "Not scored yet: clean_noisy, clean_denoised, base, ft." in text
    assert "## Extraction" not in text


def test_two_epochs(scores):
    """WA is of the epoch with the best WA, UA and macro-F1 of the one with the best UA."""
    rows = [{**row, "hypothesis_wa": row["reference"]} for row in scores["ft"]]
    rows[0]["hypothesis_wa"] = next(c for c in LABELS if c != rows[0]["reference"])
    (pooled,) = [r for r in results.summarise({"ft": rows}, LABELS, ROWS) if r["fold"] == "all"]
    (plain,) = [
        r for r in results.summarise({"ft": scores["ft"]}, LABELS, ROWS) if r["fold"] == "all"
    ]
    assert pooled["wa"] == round(239 / 240, 6)
    assert np.trace(pooled["confusion_wa"]) == 239 and "confusion_wa" not in plain
    for key in ("ua", "ua_ci", "macro_f1", "confusion"):
        assert pooled[key] == plain[key]
