"""From the scores of trained systems on variations of their test mixtures to sweeps.json.

A point is a configuration ``conf/sweeps/<name>.yaml`` with the keys ``sweep`` (the table that it
belongs to), ``value`` (its row) and ``about`` (one sentence), and, for each system that was run on
it, ``<name>/<system>/<tag>/score_utt.tsv``. It has the targets of the main condition, so it is
compared with it utterance by utterance, in the seeds that both have.
"""

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files
from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.comparison import compare_rows, recovered_share
from espnet_tse_ser.metrics.speaker_totals import speaker_totals
from espnet_tse_ser.metrics.tables import read_scores
from espnet_tse_ser.report.results import gap_end, measure_rows
from espnet_tse_ser.systems.system import pairs_of
from espnet_tse_ser.values.ids import fold_key

logger = logging.getLogger(__name__)

MAIN = "main"  # the row of the condition that the systems were trained for


@dataclass(frozen=True)
class Point:
    """One variation: its configuration and name of a row -> its utterances (empty: not run)."""

    name: str
    sweep: str
    value: str | float | int
    about: str
    scores: dict = field(default_factory=dict)


def plot_name(sweep):
    """File name of the plot of a sweep: "SNR, dB" -> "sweep_SNR_dB.png"."""
    return "sweep_" + re.sub(r"\W+", "_", sweep).strip("_") + ".png"


def read_points(sweeps_dir, conf_dir, labels, systems, names=None, own=None):
    """Read the points that are configured, in the order of sweeps and values.

    They are recognised with one epoch of each system under any scheme.

    Args:
        sweeps_dir: holds ``<name>/<system>/<tag>/score_utt.tsv``. conf_dir: holds ``<name>.yaml``.
        labels: the classes, of the main condition. systems: name -> `Row`, those to show.
        names: the points to read, others may be of other models; None: all.
        own: directories ``<system>/<tag>`` that are asked for, see `tables.read_rows`.

    Returns:
        list of `Point`, and the names of directories in ``sweeps_dir`` without configuration.

    Raises:
        UserError: no configuration, or one that lacks a key, has a value that fits no table or
            repeats one; two sweeps with the same plot; a table of other classes or of two epochs,
            or one that cannot be compared with the other systems of the point.
    """
    sweeps_dir, conf_dir = Path(sweeps_dir), Path(conf_dir)
    from espnet_tse_ser.mixtures.variations import read_variation  # it takes a while to import

    points, values = [], {}
    paths = {path.stem: path for path in find_files(conf_dir, "*.yaml")}
    lacking = [name for name in names or () if name not in paths]
    if lacking:
        raise UserError(f"{conf_dir}: no {lacking[0]}.yaml in it; correct --sweeps")
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
        scores = _read_scores(sweeps_dir / path.stem, labels, systems, own)
        described = (conf.sweep, conf.value, conf.about)
        points.append(Point(path.stem, *described, scores))
    if not points:
        raise UserError(f"{conf_dir}: no <name>.yaml in it; each describes a point of a sweep")
    plots = {}
    for sweep in dict.fromkeys(point.sweep for point in points):
        other = plots.setdefault(plot_name(sweep), sweep)
        if other != sweep:
            raise UserError(
                f"{conf_dir}: the plots of the sweeps '{other}' and '{sweep}' would both be "
                f"{plot_name(sweep)}; rename one"
            )
    found = sweeps_dir.iterdir() if sweeps_dir.is_dir() else ()
    unknown = sorted(path.name for path in found if path.is_dir() and path.name not in paths)
    return sorted(points, key=lambda point: (point.sweep, _value_key(point.value))), unknown


def summarise(points, main, labels, systems):
    """All sweeps.

    Args:
        points: from `read_points`. main: name of a row -> its utterances in the main condition.
        labels: the classes. systems: name -> `Row`.

    Returns:
        list of dicts: sweep, rows and missing (point -> systems of ``main`` that were not run on
        it;
        clean speech does not depend on the mixtures and is not missed). A row, the first of them
        that of the main condition, has name, value, about, n, speakers, folds, seeds, systems
        (name -> measures, see `results.measure_rows`), recovered (of systems that claim to close a
        gap: share and ci of it, of the same n targets), claims (of those that are tested in sweeps:
        list of system, reference and `comparison.compare_rows`) and against_main (system with such
        claims -> the same, against itself in the main condition).

    Raises:
        UserError: a point cannot be compared with the main condition (`comparable`).
    """
    systems = {name: row for name, row in systems.items() if name in main}
    expected = [
        name
        for name, row in systems.items()
        if row.system.test != "clean" and not row.system.hypotheses
    ]
    condition = Point(MAIN, "", MAIN, "the condition that the systems were trained for", main)
    main_row = _row(condition, main, labels, systems)
    sweeps = {}
    for point in points:
        sweep = sweeps.setdefault(
            point.sweep, {"sweep": point.sweep, "rows": [main_row], "missing": {}}
        )
        missing = [name for name in expected if name not in point.scores]
        if missing:
            sweep["missing"][point.name] = missing
        if point.scores:
            sweep["rows"].append(_row(point, main, labels, systems))
    return list(sweeps.values())


def _read_scores(directory, labels, systems, own):
    """Name of a row -> its utterances in one point; of rows that are not in ``own`` those that can
    be compared with the others: they may be of mixtures that were others then."""
    scores = {}
    asked = {name: own is None or str(row.directory) in own for name, row in systems.items()}
    for name in sorted(systems, key=lambda name: not asked[name]):
        path = directory / systems[name].directory / "score_utt.tsv"
        if not os.path.lexists(path):
            continue
        try:
            rows = _read_one(path, labels)
            _check_alike(directory, [*list(scores.items())[:1], (name, rows)])
            scores[name] = rows
        except UserError as error:
            if asked[name]:
                raise
            logger.warning("%s: %s is not shown: %s", directory, name, error)
    return {name: scores[name] for name in systems if name in scores}


def _read_one(path, labels):
    own_labels, rows = read_scores(path)
    if own_labels != labels:
        raise UserError(
            f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the main "
            "condition; run stage sweeps again"
        )
    if "hypothesis_wa" in rows[0]:
        raise UserError(
            f"{path}: has the column hypothesis_wa, which no sweep has: it is recognised with one "
            "epoch of each system; run stage sweeps again"
        )
    return rows


def _check_alike(directory, scores):
    try:
        check_comparable(scores, one_experiment=True)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from None


def _value_key(value):
    """Numbers, also with a unit, by value; then words."""
    found = re.match(r"[-+]?\d+(\.\d+)?", str(value))
    return (0, float(found[0]), str(value)) if found else (1, 0.0, str(value))


def _row(point, main, labels, systems):
    """What one point shows, see `summarise`."""
    first = next(iter(point.scores.values()))
    row = {"name": point.name, "value": point.value, "about": point.about}
    row |= {"n": len({r["id"] for r in first}), "speakers": len({r["speaker"] for r in first})}
    row |= {f"{c}s": sorted({r[c] for r in first}, key=fold_key) for c in ("fold", "seed")}
    row["systems"] = {name: measure_rows(rows, labels) for name, rows in point.scores.items()}
    row |= {"recovered": _recovered(point, main, labels, systems), "claims": [], "against_main": {}}
    for system, reference, claim in pairs_of(systems):
        if not claim.in_sweeps:
            continue
        name, other = system.name, reference.name
        if {name, other} <= point.scores.keys():
            names = (f"{point.name}/{name}", f"{point.name}/{other}")
            compared = compare_rows(point.scores[name], point.scores[other], labels, names)
            row["claims"].append({"system": name, "reference": other, **compared})
    for name, system in systems.items():
        claims = any(claim.in_sweeps for claim in system.system.claims)
        if claims and point.name != MAIN and name in point.scores:
            own, others = _shared(point.scores[name], main[name])
            if own:
                names = (f"{point.name}/{name}", f"{MAIN}/{name}")
                row["against_main"][name] = compare_rows(own, others, labels, names)
    return row


def _recovered(point, main, labels, systems):
    """system -> n, share and ci of the gap that it recovers, on targets and seeds that all have."""
    scores, recovered = point.scores, {}
    for row, other, claim in pairs_of(systems):
        end = gap_end(systems, row, claim)
        if end is None or not {row.name, other.name} <= scores.keys():
            continue
        top = scores.get(end.name) or main[end.name]
        own, upper = _shared(scores[row.name], top)
        lower, _ = _shared(scores[other.name], top)
        if own:
            names = (f"{point.name}/{row.name}", f"{point.name}/{other.name}", end.name)
            check_comparable(zip(names, (own, lower, upper), strict=True))
            totals = (speaker_totals(rows, labels) for rows in (own, lower, upper))
            share, bounds = recovered_share(*totals)
            n = len({r["id"] for r in own})
            recovered[row.name] = {"share": share, "ci": bounds, "n": n}
    return recovered


def _shared(rows, others):
    """The rows of both whose utterance and seed the other has."""
    keys = {(r["id"], r["seed"]) for r in rows} & {(r["id"], r["seed"]) for r in others}
    return [[r for r in part if (r["id"], r["seed"]) in keys] for part in (rows, others)]
