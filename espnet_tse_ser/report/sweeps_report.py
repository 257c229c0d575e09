"""RESULTS_SWEEPS.md: the figures of sweeps.json, one table a sweep (SNR, talkers, ...)."""

from espnet_tse_ser.report import results_report as report
from espnet_tse_ser.report.markdown import (
    head,
    marked,
    note_on_classes,
    number,
    of_known,
    p_value,
    percent,
    stamped,
    table,
)


def render(sweeps, unknown, header, stamp, systems, plots=()):
    """The text of RESULTS_SWEEPS.md.

    Args:
        sweeps: from `summarise`. unknown: directories without configuration.
        header: name -> value. stamp: `Stamp`. systems: name -> `Row`.
        plots: sweep -> path of its plot.
    """
    plots = dict(plots)
    sections = [
        "# Sweeps\n\nTrained systems on variations of their test mixtures, written by `python -m "
        "espnet_tse_ser.bin.sweeps_report`; the same figures are in sweeps.json. % with 95 % "
        "intervals over speakers (none for a single one); p is two-sided, over speakers, and not "
        f"corrected for the number of tests.{_gaps(systems)}"
        + " All figures are of the epoch with the best UA."
        * stamp.optimistic,
        head(header),
    ]
    for sweep in sweeps:
        sections.append(stamped(_section(sweep, systems), stamp.text()))
        if sweep["sweep"] in plots:
            path = plots[sweep["sweep"]]
            sections.append(f"![{path}]({path})")
    if unknown:
        sections.append(f"Without a configuration, and not shown: {', '.join(unknown)}.")
    return "\n\n".join(sections) + "\n"


def _gaps(systems):
    gaps = report.gaps(systems)
    return gaps and f" {gaps} It is of the same targets, and n/a where there is no gap."


def _section(sweep, systems):
    shown = [name for name in systems if any(name in row["systems"] for row in sweep["rows"])]
    extractors = [name for name in report.extracting(systems) if name in shown]
    closing = [name for name in shown if any(name in row["recovered"] for row in sweep["rows"])]
    claimed = dict.fromkeys(
        (c["system"], c["reference"]) for row in sweep["rows"] for c in row["claims"]
    )
    compared = dict.fromkeys(name for row in sweep["rows"] for name in row["against_main"])
    columns = ["", "n", *(f"UA {name}" for name in shown)]
    columns += [f"SI-SDRi, dB, {name}" for name in extractors]
    columns += [f"wrong speaker, %, {name}" for name in extractors]
    columns += [f"gap recovered, %, {name}" for name in closing]
    columns += [f"{name} - {other}" for name, other in claimed]
    columns += [f"{name} - {name} of main" for name in compared]
    rows = []
    for row in sweep["rows"]:
        measured = row["systems"]
        cells = [str(row["value"]), row["n"]]
        cells += [marked(measured[name], "ua") if name in measured else "n/a" for name in shown]
        extracted = [measured.get(name) for name in extractors]
        cells += [m and number(m["si_sdri"], interval=m["si_sdri_ci"]) for m in extracted]
        cells += [
            m and of_known(percent(m["wrong_speaker_rate"]), m, "wrong_speaker_rate")
            for m in extracted
        ]
        cells += [_share(row["recovered"].get(name), row["n"]) for name in closing]
        claims = {(c["system"], c["reference"]): c for c in row["claims"]}
        cells += [_difference(claims.get(pair)) for pair in claimed]
        cells += [_difference(row["against_main"].get(name), row["n"]) for name in compared]
        cells = ["n/a" if cell is None else cell for cell in cells]
        rows.append(cells)
    text = f"## {sweep['sweep']}\n\n"
    text += "\n".join(f"* {row['value']}: {row['about']}" for row in sweep["rows"])
    text += "\n\n" + table(columns, rows)
    text += note_on_classes(rows) + _other_folds(sweep["rows"])
    if sweep["missing"]:
        lacking = [f"{point} ({' '.join(names)})" for point, names in sweep["missing"].items()]
        text += f"\n\nNot run yet: {', '.join(lacking)}."
    return text


def _other_folds(rows):
    """Which rows are of other folds or seeds than the main condition, whose the stamp names."""
    main, *others = rows
    lines = []
    for row in others:
        differ = [name for name in ("folds", "seeds") if row[name] != main[name]]
        if differ:
            named = ", ".join(f"{name} {' '.join(row[name])}" for name in differ)
            lines.append(f"{row['value']} ({named})")
    return f"\n\nOf other folds or seeds: {'; '.join(lines)}." if lines else ""


def _share(recovered, n):
    """A share of the gap, and of how many utterances it is, unless that is ``n``."""
    if recovered is None:
        return None
    text = percent(recovered["share"], recovered["ci"])
    return text if n == recovered["n"] else f"{text} ({recovered['n']} in both)"


def _difference(compared, n=None):
    """A difference in UA with p; how many utterances it is of, unless that is ``n``."""
    if compared is None:
        return "n/a"
    ua = compared["measures"]["ua"]
    text = f"{percent(ua['difference'], ua['difference_ci'])}, {p_value(ua['p'])}"
    return text if n in (None, compared["n"]) else f"{text} ({compared['n']} in both)"
