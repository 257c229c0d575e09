"""Measures by SNR, overlap, gender state and emotions."""

import json

import pytest
from declared import ROWS
from metrics_rows import LABELS, make_scores
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from espnet_tse_ser.metrics import breakdown
from espnet_tse_ser.metrics.breakdown import FACTORS
from espnet_tse_ser.report import results_report as report


@pytest.fixture(scope="module")
def scores():
    return make_scores(("noisy_noisy", "ft"))


@pytest.fixture(scope="module")
def cells(scores):
    return breakdown.break_down(scores, LABELS)


def labels_of(rows):
    return [row["reference"] for row in rows], [row["hypothesis"] for row in rows]


def test_cells_equal_scikit_learn(scores, cells):
    assert json.loads(json.dumps(cells, allow_nan=False)) == cells
    for c in cells:
        rows = [
            row
            for row in scores[c["system"]]
            if [FACTORS[name].cell(row) for name in c["by"]] == c["cell"]
        ]
        assert c["n"] == len(rows) and c["speakers"] == len({row["speaker"] for row in rows})
        accuracy = accuracy_score(*labels_of(rows))
        if "emotion" in c["by"]:
            assert c["recall"] == pytest.approx(accuracy, abs=1e-6)
            assert c["recall_ci"][0] < c["recall"] < c["recall_ci"][1] and "ua" not in c
        else:
            assert c["wa"] == pytest.approx(accuracy, abs=1e-6)
            assert c["ua"] == pytest.approx(balanced_accuracy_score(*labels_of(rows)), abs=1e-6)
            missing = set(LABELS) - {row["reference"] for row in rows}
            assert set(c["classes_missing"]) == missing
            assert c["ua_ci"][0] < c["ua"] < c["ua_ci"][1]
        assert (c["si_sdri"] is None) == (c["system"] == "noisy_noisy")


def test_every_factor_adds_up(scores, cells):
    found = {}
    for c in cells:
        if c["system"] == "ft":
            found.setdefault(tuple(c["by"]), []).append((c["cell"], c["n"]))
    # one interferer in all mixtures: not a factor
    assert set(found) == {(name,) for name in FACTORS if name != "num_interferers"} | {
        *breakdown.TWO_WAY
    }
    for parts in found.values():
        assert sum(n for _, n in parts) == len(scores["ft"])
    assert [cell for cell, _ in found[("snr_db",)]] == [
        ["below -5 dB"],
        ["-5 to 0 dB"],
        ["0 to 5 dB"],
        ["5 dB and more"],
    ]
    assert [cell for cell, _ in found[("overlap",)]] == [["50 to 75 %"], ["75 % and more"]]
    assert [cell for cell, _ in found[("gender_state",)]] == [["same"], ["different"]]


def test_edges_and_unlike_interferers(scores):
    row = scores["ft"][0]
    snr, overlap = FACTORS["snr_db"].cell, FACTORS["overlap"].cell
    values = (-5.01, -5.0, -0.1, 0.0, 5.0)
    assert [snr({"snr_db": value}) for value in values] == [
        *("below -5 dB", "-5 to 0 dB", "-5 to 0 dB", "0 to 5 dB", "5 dB and more")
    ]
    values = (0.0, 0.25, 0.749, 0.75, 1.0)
    assert [overlap({"overlap": value}) for value in values] == [
        *("below 25 %", "25 to 50 %", "50 to 75 %", "75 % and more", "75 % and more")
    ]
    emotion = FACTORS["interferer_emotion"].cell
    for emotions, expected in (("ang", "ang"), ("ang,ang", "ang"), ("ang,none", "mixed")):
        assert emotion({**row, "interferer_emotions": emotions}) == expected


def test_missing_class_is_marked_and_one_speaker_has_no_interval(scores):
    rows = [
        {**row, "snr_db": -9.0 if row["speaker"] == "s00" and row["reference"] != "ang" else 0.0}
        for row in scores["ft"]
    ]
    cells = breakdown.break_down({"ft": rows}, LABELS)
    (cell,) = [c for c in cells if c["by"] == ["snr_db"] and c["cell"] == ["below -5 dB"]]
    assert cell["classes_missing"] == ["ang"] and cell["speakers"] == 1
    assert cell["ua_ci"] is cell["si_sdri_ci"] is None
    text = report.render(report.Figures(LABELS, PLAIN, {"ft": ROWS["ft"]}, breakdown=cells), {})
    assert f"| SNR below -5 dB | 18 | 1 | {100 * cell['ua']:.2f}* |" in text
    assert "Recall of the target's emotion" in text and "The same by the interferer's" in text


PLAIN = [
    dict(system="ft", train="joint", test="joint", fold="all", seeds=1, n=240, speakers=10)
    | dict.fromkeys(("wa", "ua", "macro_f1", "si_sdr", "wa_ci", "ua_ci", "macro_f1_ci"))
    | dict(by_gender_state={}, confusion=[[1] * 4] * 4, classes_missing=[])
]


def test_neutral_interferers_are_no_factor(scores):
    rows = [{**row, "interferer_emotions": "none"} for row in scores["ft"]]
    by = {tuple(c["by"]) for c in breakdown.break_down({"ft": rows}, LABELS)}
    assert ("emotion",) in by and not any("interferer_emotion" in names for names in by)


def test_wrong_speakers(scores):
    (wrong,) = breakdown.wrong_speakers(scores, LABELS)
    rows = scores["ft"]
    share = sum(row["wrong_speaker"] for row in rows) / len(rows)
    assert (wrong["system"], wrong["n"]) == ("ft", 240)
    assert wrong["wrong_speaker_rate"] == pytest.approx(share, abs=1e-6)
    low, high = wrong["wrong_speaker_rate_ci"]
    assert 0 < low < share < high < 1
    for name, kept in (("ua", (0, 1)), ("ua_right", (0,)), ("ua_wrong", (1,))):
        chosen = [row for row in rows if row["wrong_speaker"] in kept]
        expected = balanced_accuracy_score(*labels_of(chosen))
        assert wrong[name] == pytest.approx(expected, abs=1e-6)
    right = [{**row, "wrong_speaker": 0.0} for row in rows]
    (none,) = breakdown.wrong_speakers({"ft": right}, LABELS)
    assert none["ua_wrong"] is none["ua_wrong_ci"] is None
    assert none["wrong_speaker_rate"] == 0 and 0 < none["wrong_speaker_rate_ci"][1] < 0.1


def test_wrong_in_one_seed_only(scores):
    rows = [{**row, "seed": seed} for row in scores["ft"] for seed in "01"]
    for row in rows:
        row["wrong_speaker"] = float(row["seed"] == "1")
    (wrong,) = breakdown.wrong_speakers({"ft": rows}, LABELS)
    assert wrong["wrong_speaker_rate"] == 0.5
    assert wrong["ua_wrong"] == wrong["ua_right"] == wrong["ua"]
