"""Trained systems on variations of their test mixtures: one table a sweep (SNR, talkers, ...).

A test is a configuration ``conf/tests/<name>.yaml`` with the keys ``sweep`` (the table it belongs
to), ``value`` (its row) and ``about`` (one sentence), and, for each system that was run on it,
``<name>/<system>/score_utt.tsv``. It has the targets of the main condition, so it is compared with
it utterance by utterance, in the seeds that both have.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files
from espnet_tse_ser.metrics import report
from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.comparison import compare_rows, recovered_share
from espnet_tse_ser.metrics.fields import fold_key
from espnet_tse_ser.metrics.report import (
    marked,
    note_on_classes,
    number,
    of_known,
    p_value,
    percent,
    table,
)
from espnet_tse_ser.metrics.results import measure_rows
from espnet_tse_ser.metrics.speaker_totals import speaker_totals
from espnet_tse_ser.metrics.tables import SYSTEMS, find_systems, read_scores

MAIN = "main"  # the row of the condition that the systems were trained for
LOWER, UPPER = "noisy_noisy", "clean_clean"  # ends of the gap
EXTRACTING = ("base", "ft")


@dataclass(frozen=True)
class Test:
    """One variation: its configuration and the rows of each system (empty: not run)."""

    __test__ = False  # not pytest's

    name: str
    sweep: str
    value: str | float | int
    about: str
    scores: dict = field(default_factory=dict)


def plot_name(sweep):
    """File name of the plot of a sweep: "SNR, dB" -> "sweep_SNR_dB.png"."""
    return "sweep_" + re.sub(r"\W+", "_", sweep).strip("_") + ".png"


def read_tests(tests_dir, conf_dir, labels, names=None):
    """Read the tests that are configured, in the order of sweeps and values.

    They are recognised with one epoch of each system under any protocol.

    Args:
        tests_dir: holds ``<name>/<system>/score_utt.tsv``. conf_dir: holds ``<name>.yaml``.
        labels: the classes, of the main condition.
        names: the tests to read, others may be of other models; None: all.

    Returns:
        list of `Test`, and the names of directories in ``tests_dir`` without configuration.

    Raises:
        UserError: no configuration, or one that lacks a key, has a value that fits no table or
            repeats one; two sweeps with the same plot; a table of other classes or of two epochs,
            or one that cannot be compared with the other systems of the test.
    """
    tests_dir, conf_dir = Path(tests_dir), Path(conf_dir)
    from espnet_tse_ser.data.variations import read_variation  # it takes a while to import

    tests, values = [], {}
    paths = {path.stem: path for path in find_files(conf_dir, "*.yaml")}
    lacking = [name for name in names or () if name not in paths]
    if lacking:
        raise UserError(f"{conf_dir}: no {lacking[0]}.yaml in it; correct the names of the tests")
    for name, path in paths.items():
        if names is not None and name not in names:
            continue
        conf = read_variation(path)
        first = values.setdefault((conf.sweep, conf.value), path)
        if first != path:
            raise UserError(
                f"{path}: sweep '{conf.sweep}' has the value '{conf.value}' twice, also in "
                f"{first}; change one"
            )
        scores = _read_scores(tests_dir / path.stem, labels)
        described = (conf.sweep, conf.value, conf.about)
        tests.append(Test(path.stem, *described, scores))
    if not tests:
        raise UserError(f"{conf_dir}: no <name>.yaml in it; each describes a test")
    plots = {}
    for sweep in dict.fromkeys(test.sweep for test in tests):
        other = plots.setdefault(plot_name(sweep), sweep)
        if other != sweep:
            raise UserError(
                f"{conf_dir}: the plots of the sweeps '{other}' and '{sweep}' would both be "
                f"{plot_name(sweep)}; rename one"
            )
    found = tests_dir.iterdir() if tests_dir.is_dir() else ()
    unknown = sorted(path.name for path in found if path.is_dir() and path.name not in paths)
    return sorted(tests, key=lambda test: (test.sweep, _value_key(test.value))), unknown


def summarise(tests, main, labels):
    """All sweeps.

    Args:
        tests: from `read_tests`. main: name of a system -> its rows in the main condition.
        labels: the classes.

    Returns:
        list of dicts: sweep, rows and missing (test -> systems of ``main`` that were not run on it;
        clean_clean does not depend on the mixtures and is not missed). A row, the first of them
        that of the main condition, has test, value, about, n, speakers, folds, seeds, systems
        (name -> measures, see `results.measure_rows`), recovered (of base and ft: share and ci of
        the gap between noisy_noisy and clean_clean of the same n targets), ft_noisy_noisy and
        ft_main (`comparison.compare_rows`; None where there is nothing to compare).

    Raises:
        UserError: a test cannot be compared with the main condition (`comparable`).
    """
    expected = [name for name in main if SYSTEMS[name].test != "clean"]
    condition = Test(MAIN, "", MAIN, "the condition that the systems were trained for", main)
    main_row = _row(condition, main, labels)
    sweeps = {}
    for test in tests:
        sweep = sweeps.setdefault(
            test.sweep, {"sweep": test.sweep, "rows": [main_row], "missing": {}}
        )
        missing = [name for name in expected if name not in test.scores]
        if missing:
            sweep["missing"][test.name] = missing
        if test.scores:
            sweep["rows"].append(_row(test, main, labels))
    return list(sweeps.values())


def render(sweeps, unknown, header, stamp, plots=()):
    """The text of RESULTS_TESTS.md.

    Args:
        sweeps: from `summarise`. unknown: directories without configuration.
        header: name -> value. stamp: `Stamp`. plots: sweep -> path of its plot.
    """
    plots = dict(plots)
    sections = [
        "# Tests\n\nTrained systems on variations of their test mixtures, written by `python -m "
        "espnet_tse_ser.bin.tests_report`; the same figures are in tests.json. % with 95 % "
        "intervals over speakers (none for a single one); p is two-sided, over speakers, and not "
        "corrected for the number of tests. The share of the gap is (UA - UA of noisy_noisy) / "
        "(UA of clean_clean - UA of noisy_noisy), on the same targets; it is n/a where there is no "
        "gap." + " All figures are of the epoch with the best UA." * stamp.optimistic,
        table(["", ""], [[name, value or "n/a"] for name, value in header.items()]),
    ]
    for sweep in sweeps:
        sections.append(report.stamped(_section(sweep), stamp.text()))
        if sweep["sweep"] in plots:
            path = plots[sweep["sweep"]]
            sections.append(f"![{path}]({path})")
    if unknown:
        sections.append(f"Without a configuration, and not shown: {', '.join(unknown)}.")
    return "\n\n".join(sections) + "\n"


def _read_scores(directory, labels):
    if not any(directory.glob("*/score_utt.tsv")):
        return {}
    scores = {}
    for system in find_systems(directory, "score_utt.tsv"):
        path = directory / system.name / "score_utt.tsv"
        own_labels, scores[system.name] = read_scores(path)
        if own_labels != labels:
            raise UserError(
                f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the main "
                "condition; score the test again"
            )
        if "hypothesis_wa" in scores[system.name][0]:
            raise UserError(
                f"{path}: has the column hypothesis_wa, which no test has: a test is recognised "
                "with one epoch of each system; run the test again"
            )
    try:
        check_comparable(scores.items(), one_experiment=True)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None
    return scores


def _value_key(value):
    """Numbers, also with a unit, by value; then words."""
    found = re.match(r"[-+]?\d+(\.\d+)?", str(value))
    return (0, float(found[0]), str(value)) if found else (1, 0.0, str(value))


def _row(test, main, labels):
    """What one test shows, see `summarise`."""
    first = next(iter(test.scores.values()))
    row = {"test": test.name, "value": test.value, "about": test.about}
    row |= {"n": len({r["id"] for r in first}), "speakers": len({r["speaker"] for r in first})}
    row |= {f"{c}s": sorted({r[c] for r in first}, key=fold_key) for c in ("fold", "seed")}
    row["systems"] = {name: measure_rows(rows, labels) for name, rows in test.scores.items()}
    row["recovered"] = _recovered(test, main, labels)
    row["ft_noisy_noisy"] = row["ft_main"] = None
    if {"ft", LOWER} <= test.scores.keys():
        names = (f"{test.name}/ft", f"{test.name}/{LOWER}")
        row["ft_noisy_noisy"] = compare_rows(test.scores["ft"], test.scores[LOWER], labels, names)
    if test.name != MAIN and "ft" in test.scores:
        own, other = _shared(test.scores["ft"], main.get("ft", ()))
        if own:
            row["ft_main"] = compare_rows(own, other, labels, (f"{test.name}/ft", f"{MAIN}/ft"))
    return row


def _recovered(test, main, labels):
    """system -> n, share and ci of the gap that it recovers, on targets and seeds that all have."""
    scores = test.scores
    upper = scores.get(UPPER) or main.get(UPPER)
    if not upper or LOWER not in scores:
        return {}
    recovered = {}
    for system in (name for name in EXTRACTING if name in scores):
        own, top = _shared(scores[system], upper)
        lower, _ = _shared(scores[LOWER], upper)
        if own:
            names = (f"{test.name}/{system}", f"{test.name}/{LOWER}", UPPER)
            check_comparable(zip(names, (own, lower, top), strict=True))
            totals = (speaker_totals(rows, labels) for rows in (own, lower, top))
            share, bounds = recovered_share(*totals)
            n = len({r["id"] for r in own})
            recovered[system] = {"share": share, "ci": bounds, "n": n}
    return recovered


def _shared(rows, others):
    """The rows of both whose utterance and seed the other has."""
    keys = {(r["id"], r["seed"]) for r in rows} & {(r["id"], r["seed"]) for r in others}
    return [[r for r in part if (r["id"], r["seed"]) in keys] for part in (rows, others)]


def _section(sweep):
    systems = [name for name in SYSTEMS if any(name in row["systems"] for row in sweep["rows"])]
    extracting = [name for name in EXTRACTING if name in systems]
    columns = ["", "n", *(f"UA {name}" for name in systems)]
    columns += [
        f"{title} {name}"
        for title in ("SI-SDRi, dB,", "wrong speaker, %,", "gap recovered, %,")
        for name in extracting
    ]
    columns += ["ft - noisy_noisy", "ft - ft of main"]
    rows = []
    for row in sweep["rows"]:
        measured = row["systems"]
        cells = [str(row["value"]), row["n"]]
        cells += [marked(measured[name], "ua") if name in measured else "n/a" for name in systems]
        extracted = [measured.get(name) for name in extracting]
        cells += [m and number(m["si_sdri"], interval=m["si_sdri_ci"]) for m in extracted]
        cells += [
            m and of_known(percent(m["wrong_speaker_rate"]), m, "wrong_speaker_rate")
            for m in extracted
        ]
        cells += [_share(row["recovered"].get(name), row["n"]) for name in extracting]
        cells += [_difference(row["ft_noisy_noisy"]), _difference(row["ft_main"], row["n"])]
        cells = ["n/a" if cell is None else cell for cell in cells]
        rows.append(cells)
    text = f"## {sweep['sweep']}\n\n"
    text += "\n".join(f"* {row['value']}: {row['about']}" for row in sweep["rows"])
    text += "\n\n" + table(columns, rows)
    text += note_on_classes(rows) + _other_folds(sweep["rows"])
    if sweep["missing"]:
        lacking = [f"{test} ({' '.join(names)})" for test, names in sweep["missing"].items()]
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
