"""How far a model can be trusted: calibration, and whether it sees that a target is not there."""

import numpy as np

from espnet_tse_ser.inference.calibration import LEAST_PRESENT, nll, temper
from espnet_tse_ser.inference.trials import ABSENT, CONDITIONS, PRESENT, WRONG
from espnet_tse_ser.metrics.calibration import auc, chance_ece, ece, ranks, reliability
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals
from espnet_tse_ser.report.markdown import number, table


def assess(rows, labels):
    """Measure what `recognize_trials` gave.

    Args:
        rows: list of dicts with id, condition, speaker, gender_state, reference, ``p_<label>``
            before calibration, its temperature and target_present. labels: of the model.

    Returns:
        dict: number of trials and share with a warning, by condition; expected calibration error
        and NLL of the emotions where the target is present, before and after, and `chance_ece`;
        AUC of target_present against the other conditions, by gender state. Intervals are of 95 %
        over speakers, None of one speaker.
    """
    by = {name: [row for row in rows if row["condition"] == name] for name in CONDITIONS}
    present = by[PRESENT]
    raw = np.array([[row[f"p_{label}"] for label in labels] for row in present], np.float64)
    reference = np.array([labels.index(row["reference"]) for row in present])
    found = {"ece": {}, "nll": {}, "auc": {}}
    calibrated = temper(raw, [row["temperature"] for row in present])
    for name, p in (("before", raw), ("after", calibrated)):
        parts = reliability(p.max(axis=1), p.argmax(axis=1) == reference)
        found["ece"][name] = _interval(parts, present, ece)
        found["nll"][name] = nll(p, reference)
    found["chance_ece"] = chance_ece(calibrated.max(axis=1))
    for condition in (WRONG, ABSENT):
        found["auc"][condition] = {}
        for state in ("all", "same", "different"):
            others = [r for r in by[condition] if state in ("all", r["gender_state"])]
            if others:
                both = present + others
                parts = ranks(
                    [row["target_present"] for row in both],
                    [row["condition"] == PRESENT for row in both],
                )
                found["auc"][condition][state] = _interval(parts, both, auc)
    return {
        "trials": {name: len(rows) for name, rows in by.items()},
        "speakers": len({row["speaker"] for row in present}),
        "accuracy": float((raw.argmax(axis=1) == reference).mean()),
        "warned": {
            name: float(np.mean([row["target_present"] < LEAST_PRESENT for row in rows]))
            for name, rows in by.items()
        },
        **found,
    }


def to_markdown(found):
    """The dict of `assess` as tables."""
    lines = [
        [f"ECE {name}", number(digits=3, **found["ece"][name]), f"NLL {found['nll'][name]:.3f}"]
        for name in ("before", "after")
    ]
    lines.append(["ECE by chance", number(found["chance_ece"], 3), "of what is calibrated"])
    lines += [
        [f"AUC present against {condition}, gender {state}", number(digits=3, **value), ""]
        for condition, states in found["auc"].items()
        for state, value in states.items()
    ]
    lines += [
        [f"warned, {name}", f"{100 * found['warned'][name]:.1f} %", f"{count} trials"]
        for name, count in found["trials"].items()
    ]
    return table(["measure", "value [95 % over speakers]", ""], lines)


def _interval(parts, rows, statistic):
    totals = cluster_totals(parts, [row["speaker"] for row in rows])
    bounds = cluster_interval(totals, statistic, limits=(0.0, 1.0))
    bounds = None if np.isnan(bounds).any() else [float(bound) for bound in bounds]
    return {"value": float(statistic(totals.sum(axis=0))), "interval": bounds}
