"""The figures of the table of what is preserved."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.preservation import MEASURES
from espnet_tse_ser.report import preservation_table as table
from espnet_tse_ser.report.preservation_report import render

LABELS = ["ang", "hap", "neu", "sad"]
NAN = float("nan")


@pytest.fixture
def rows():
    """Six speakers with 10 utterances each, in two conditions; ft keeps more."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        emotion = LABELS[number % 4]
        clean = emotion if rng.random() < 0.8 else "neu"
        for condition, quality in (("noisy", 0.0), ("ft", 1.0)):
            better = quality + rng.normal()
            kept = better + 0.5 * rng.normal() > 0
            row = dict(id=f"u{number:02}", speaker=f"s{number // 10}", gender="f", fold="1")
            row |= dict(emotion=emotion, condition=condition, voiced=50.0)
            row |= dict(gender_state=("same", "different")[number % 2])
            row |= {n: better if m.higher_is_better else -better for n, m in MEASURES.items()}
            row |= dict(clean_hypothesis=clean, hypothesis=clean if kept else "sad")
            row |= dict(
                agreement=float(kept), kl=float(np.exp(-better)), emotion_similarity=better / 9
            )
            rows.append(row)
    return rows


def figures(rows):
    return {
        "summary": table.summarise(rows),
        "changes": table.changes(rows),
        "recognition": table.recognition(rows, LABELS),
        "prediction": table.predict(rows),
    }


def without_posteriors(rows):
    empty = dict(clean_hypothesis="", hypothesis="", agreement=NAN, kl=NAN, emotion_similarity=NAN)
    return [row | empty for row in rows]


def test_round_trip(rows, tmp_path):
    rows[3] = rows[3] | {"f0_corr": NAN, "voiced": 4}
    table.write_preservation(tmp_path / "t.tsv", rows)
    read = table.read_preservation(tmp_path / "t.tsv")
    assert [list(row) for row in read] == [list(table.COLUMNS)] * len(rows)
    for row, expected in zip(read, rows, strict=True):
        assert row == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows.clear(), "has no rows"),
        (lambda rows: rows.pop(), "condition ft: its utterances are not those of the others"),
        (lambda rows: rows.append(rows[0]), "condition noisy: its utterances"),
        (lambda rows: rows[0].update(kl="x"), "line 2: u00: kl: expected a number, got 'x'"),
        (lambda rows: rows[1].update(kl="inf"), "line 3: u00: kl: expected a number, got 'inf'"),
        (lambda rows: rows[0].update(speaker="s9"), "u00: is described as .*'s9'"),
    ],
)
def test_invalid_tables(rows, tmp_path, change, message):
    change(rows)
    table.write_preservation(tmp_path / "t.tsv", rows)
    with pytest.raises(UserError, match=f"t.tsv: {message}"):
        table.read_preservation(tmp_path / "t.tsv")


def test_summary_has_the_means_of_each_group(rows):
    rows[0]["f0_corr"], rows[0]["voiced"] = NAN, 3
    summary = table.summarise(rows)
    groups = [(s["condition"], s["emotion"], s["gender_state"]) for s in summary]
    assert groups == [
        (condition, *group)
        for condition in ("noisy", "ft")
        for group in [("all", "all"), *((e, "all") for e in LABELS)]
        + [("all", "different"), ("all", "same")]
    ]
    for group, (condition, emotion, state) in zip(summary, groups, strict=True):
        chosen = [
            row
            for row in rows
            if row["condition"] == condition
            and emotion in ("all", row["emotion"])
            and state in ("all", row["gender_state"])
        ]
        values = [row["f0_corr"] for row in chosen]
        assert group["n"] == len(chosen)
        assert group["f0_corr"]["mean"] == pytest.approx(np.nanmean(values), abs=1e-6)
        assert group["f0_corr"]["n"] == np.isfinite(values).sum()
        low, high = group["kl"]["ci"]
        assert 0 <= low < group["kl"]["mean"] < high
    assert summary[0]["too_little_voicing"] == pytest.approx(1 / 60, abs=1e-6)
    assert summary[0]["f0_corr"]["ci"][0] >= -1


def test_changes_are_paired(rows):
    rows[0]["tilt"] = NAN
    found = {c["measure"]: c for c in table.changes(rows)}
    assert list(found) == list(table.ALL_MEASURES)
    noisy, ft = (np.array([r["tilt"] for r in rows[start::2]]) for start in (0, 1))
    assert found["tilt"]["difference"] == pytest.approx(np.nanmean(ft - noisy), abs=1e-6)
    assert found["tilt"]["n"] == 59 and found["kl"]["n"] == 60
    low, high = found["agreement"]["ci"]
    assert low < found["agreement"]["difference"] < high
    assert {(c["condition"], c["reference"]) for c in found.values()} == {("ft", "noisy")}


def test_recognition(rows):
    results = {r["condition"]: r for r in table.recognition(rows, LABELS)}
    assert list(results) == ["clean", "noisy", "ft"]
    for name, start, column in (("clean", 0, "clean_hypothesis"), ("ft", 1, "hypothesis")):
        references = [row["emotion"] for row in rows[start::2]]
        hypotheses = [row[column] for row in rows[start::2]]
        accuracy = np.mean([r == h for r, h in zip(references, hypotheses, strict=True)])
        assert results[name]["wa"] == pytest.approx(accuracy, abs=1e-6)
        expected = balanced_accuracy_score(references, hypotheses)
        assert results[name]["ua"] == pytest.approx(expected, abs=1e-6)
        assert results[name]["ua_ci"][0] < results[name]["ua"] < results[name]["ua_ci"][1]


def test_prediction_is_about_what_is_right_on_clean_speech(rows):
    rows[2]["pauses"] = NAN
    found = {(p["condition"], p["measure"]): p for p in table.predict(rows)}
    assert len(found) == 2 * len(MEASURES)
    right = [r for r in rows[0::2] if r["clean_hypothesis"] == r["emotion"]]
    kept = [r["hypothesis"] == r["emotion"] for r in right]
    wins = [
        r["f0_rmse"] < other["f0_rmse"]
        for r, is_kept in zip(right, kept, strict=True)
        for other, other_kept in zip(right, kept, strict=True)
        if is_kept and not other_kept and r["emotion"] == other["emotion"]
    ]
    expected = np.mean(wins)
    entry = found["noisy", "f0_rmse"]
    assert entry["auc"] == pytest.approx(expected, abs=1e-6) and entry["auc"] > 0.7
    assert (entry["kept"], entry["lost"]) == (sum(kept), len(kept) - sum(kept))
    assert entry["ci"][0] < entry["auc"] < entry["ci"][1] <= 1
    fewer = found["noisy", "pauses"]
    assert fewer["kept"] + fewer["lost"] == len(right) - (rows[2] in right)


def test_nothing_to_predict(rows):
    assert table.predict([row | {"hypothesis": row["emotion"]} for row in rows]) == []
    # a recogniser of one emotion: what differs between emotions is no prediction
    assert table.predict([row | {"hypothesis": "ang"} for row in rows]) == []


def test_auc_with_ties_equals_scikit_learn():
    rng = np.random.default_rng(1)
    values, positives = rng.integers(0, 5, 80), rng.random(80) < 0.3
    area, (low, high) = table.speaker_auc(values, positives, rng.integers(0, 8, 80))
    assert area == pytest.approx(roc_auc_score(positives, values))
    assert 0 <= low < area < high <= 1


def test_auc_within_strata():
    """One stratum's pairs are all won, the other's lost; those between them do not count."""
    values, positives = [1, 0, 0, 1, 0], np.array([1, 0, 1, 0, 0], bool)
    area, _ = table.speaker_auc(values, positives, list("aabbb"), list("xxyyy"))
    assert area == pytest.approx((1 + 0 + 0.5) / 3)
    area, bounds = table.speaker_auc([1, 0], [True, False], ["a", "b"], ["x", "y"])
    assert np.isnan([area, *bounds]).all()


def test_auc_without_a_speaker_is_that_of_the_other_utterances():
    """The weighted sum over pairs of speakers, against leaving out the rows of each speaker."""
    rng = np.random.default_rng(2)
    values, positives, speakers = rng.normal(size=60), rng.random(60) < 0.5, np.arange(60) // 12
    _, (low, high) = table.speaker_auc(values, positives, speakers)
    areas = []
    for left_out in range(5):
        rows = np.flatnonzero(speakers != left_out)
        won = values[rows][positives[rows]][:, None] > values[rows][~positives[rows]]
        areas.append(won.mean())
    assert (high - low) / 2 == pytest.approx(2.776445 * 2 * np.std(areas), rel=1e-6)


def test_one_speaker_has_no_interval(rows):
    found = figures([row | {"speaker": "s"} for row in rows])
    assert found["summary"][0]["kl"]["ci"] is None
    assert found["changes"][0]["ci"] is None
    assert found["recognition"][0]["wa_ci"] is None
    assert found["prediction"][0]["ci"] is None
    assert "| KL(posteriors on clean speech, on this), nats | " in render(found)


def test_report(rows):
    rows[0]["f0_corr"], rows[0]["voiced"] = NAN, 3
    found = figures(rows)
    text = render(found)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## By condition",
        "## Change from noisy",
        "## What the clean-trained recogniser makes of it",
        "## Does it predict recognition?",
        "## By emotion: noisy",
        "## By emotion: ft",
    ]
    assert "|  | noisy (n = 60) | ft (n = 60) |  |" in text
    assert "measure is undefined: noisy: f0_corr 1." in text
    assert "| too little voicing for F0, % | 1.7 | 0.0 |" in text
    assert f"| clean_ft | 60 | {100 * found['recognition'][2]['wa']:.2f} [" in text
    mean = found["summary"][0]["log_mel"]
    shown = f"{mean['mean']:.2f} [{mean['ci'][0]:.2f}, {mean['ci'][1]:.2f}]"
    assert f"| log-mel spectral distance, dB | {shown} |" in text
    marked = found["prediction"][0]
    assert marked["ci"][0] > 0.5
    assert f"| {marked['auc']:.3f} [{marked['ci'][0]:.3f}, {marked['ci'][1]:.3f}] * |" in text


def test_report_without_posteriors(rows):
    rows = without_posteriors(rows)
    found = {"summary": table.summarise(rows), "changes": table.changes(rows)}
    found |= {"recognition": [], "prediction": []}
    assert "agreement" not in found["summary"][0]
    text = render(found)
    assert "## Does it" not in text and "recogniser" not in text and "KL(" not in text
    assert "undefined" not in text and "nan" not in text
