"""PRESERVATION.md: the figures of preservation.json as tables."""

from espnet_tse_ser.metrics.preservation import MEASURES, MIN_VOICED
from espnet_tse_ser.report.markdown import head, stamped, table
from espnet_tse_ser.report.preservation_table import ALL_MEASURES
from espnet_tse_ser.report.stamp import Stamp

_ARROWS = {True: "higher is better", False: "lower is better"}


def render(figures, stamp=None, header=None):
    """The text of PRESERVATION.md.

    Args:
        figures: dict with ``summary``, ``changes``, ``recognition`` and ``prediction``, the values
            of the functions of `preservation_table`; the last two are empty without posteriors.
        stamp: `Stamp`, printed with every table.
        header: what to say about the run, name -> value (versions, commit).
    """
    stamp, summary = stamp or Stamp(), figures["summary"]
    overall = [s for s in summary if s["emotion"] == s["gender_state"] == "all"]
    sections = [
        "# What is kept of the target's voice\n\nWritten by `python -m "
        "espnet_tse_ser.bin.preservation`; the same figures are in preservation.json, the "
        "utterances behind them in preservation_utt.tsv. Every signal is compared with the clean "
        "target in it. Means over utterances with 95 % intervals (each speaker left out once, "
        "Student's t; none for a single one); `espnet_tse_ser/metrics/preservation.py` defines the "
        "measures.",
        _conditions(overall),
        _changes(figures["changes"]),
        _recognition(figures["recognition"], stamp),
        _prediction(figures["prediction"]),
        *(_emotions(s["condition"], summary) for s in overall),
    ]
    text = stamp.text()
    shown = [sections[0], *(stamped(section, text) for section in sections[1:] if section)]
    if header:
        shown.insert(1, head(header))
    return "\n\n".join(shown) + "\n"


def _conditions(overall):
    rows = _rows(overall)
    columns = ["", *(f"{s['condition']} (n = {s['n']})" for s in overall), ""]
    return "## By condition\n\n" + table(columns, rows) + _undefined(overall)


def _rows(groups):
    """One row a measure, one column a group of utterances."""
    voicing = [_percent(group["too_little_voicing"]) for group in groups]
    rows = [["too little voicing for F0, %", *voicing, _ARROWS[False]]]
    for name, measure in ALL_MEASURES.items():
        if any(name in group for group in groups):
            cells = [_number(group.get(name), "mean", measure.digits) for group in groups]
            rows.append([measure.title, *cells, _ARROWS[measure.higher_is_better]])
    return rows


def _undefined(groups):
    """How many utterances the means leave out."""
    lines = []
    for group in groups:
        missing = {n: group["n"] - group.get(n, {"n": 0})["n"] for n in MEASURES}
        named = [f"{name} {count}" for name, count in missing.items() if count]
        if named:
            lines.append(f"{group['condition']}: {', '.join(named)}")
    if not lines:
        return ""
    return (
        f"\n\nF0 is compared where at least {MIN_VOICED} frames are voiced in both signals. "
        f"Utterances for which a measure is undefined: {'; '.join(lines)}."
    )


def _changes(differences):
    if not differences:
        return ""
    reference = differences[0]["reference"]
    conditions = list(dict.fromkeys(d["condition"] for d in differences))
    found = {(d["measure"], d["condition"]): d for d in differences}
    most = {c: max(d["n"] for d in differences if d["condition"] == c) for c in conditions}
    rows = [
        [measure.title]
        + [_change(found.get((name, c)), measure.digits, most[c]) for c in conditions]
        + [_ARROWS[measure.higher_is_better]]
        for name, measure in ALL_MEASURES.items()
        if any((name, c) in found for c in conditions)
    ]
    return (
        f"## Change from {reference}\n\nDifferences on the utterances for which both are "
        "defined, and how many those are where it is not all.\n\n"
        + table(["", *(f"{c} (n = {most[c]})" for c in conditions), ""], rows)
    )


def _change(entry, digits, most):
    text = _number(entry, "difference", digits, "+")
    return text if not entry or entry["n"] == most else f"{text} ({entry['n']})"


def _recognition(results, stamp):
    if not results:
        return ""
    rows = [
        [f"clean_{r['condition']}", r["n"]]
        + [_number(_percents(r, name), "mean") for name in ("wa", "ua")]
        for r in results
    ]
    return (
        "## What the clean-trained recogniser makes of it\n\n%; trained on clean speech, tested on "
        f"that of the condition{', both of the epoch with the best UA' * stamp.optimistic}.\n\n"
        + table(["system", "n", "WA", "UA"], rows)
    )


def _percents(result, name):
    interval = result[f"{name}_ci"]
    return {"mean": 100 * result[name], "ci": interval and [100 * bound for bound in interval]}


def _prediction(predictions):
    if not predictions:
        return ""
    conditions = list(dict.fromkeys(p["condition"] for p in predictions))
    found = {(p["measure"], p["condition"]): p for p in predictions}
    rows = [
        [measure.title, *(_area(found.get((name, c))) for c in conditions)]
        for name, measure in MEASURES.items()
    ]
    columns = [""]
    for condition in conditions:
        p = max((p for p in predictions if p["condition"] == condition), key=lambda p: p["kept"])
        columns.append(f"{condition} (kept {p['kept']}, lost {p['lost']})")
    return (
        "## Does it predict recognition?\n\nAmong the utterances that the clean-trained recogniser "
        "has right on clean speech: the probability that one whose emotion it still recognises "
        "(kept) is better preserved than one of the same emotion that it does not (lost). 0.5 is "
        "chance; an interval without it is marked `*`. The counts are those of the measures that "
        "every utterance has.\n\n" + table(columns, rows)
    )


def _area(entry):
    marked = entry and entry["ci"] and not entry["ci"][0] <= 0.5 <= entry["ci"][1]
    return _number(entry, "auc", 3) + (" *" if marked else "")


def _emotions(condition, summary):
    groups = [s for s in summary if s["condition"] == condition and s["emotion"] != "all"]
    columns = ["", *(f"{s['emotion']} (n = {s['n']})" for s in groups), ""]
    return f"## By emotion: {condition}\n\n" + table(columns, _rows(groups))


def _number(entry, key, digits=2, sign=""):
    """'value [low, high]' of a dict with a value and its ci, 'n/a' for None."""
    if not entry or entry[key] is None:
        return "n/a"
    text = f"{entry[key]:{sign}.{digits}f}"
    if entry["ci"]:
        text += " [" + ", ".join(f"{bound:{sign}.{digits}f}" for bound in entry["ci"]) + "]"
    return text


def _percent(value):
    return f"{100 * value:.1f}"
