"""RESULTS.md: the figures of results.json in the form of the paper's tables."""

import re
import statistics
from dataclasses import dataclass, field

from espnet_tse_ser.metrics.breakdown import FACTORS
from espnet_tse_ser.metrics.speaker_totals import EMOTION
from espnet_tse_ser.mixtures.table import CLEAN
from espnet_tse_ser.report.markdown import (
    head,
    marked,
    note_on_classes,
    number,
    of_known,
    over_speakers,
    p_value,
    percent,
    smallest_p,
    stamped,
    table,
)
from espnet_tse_ser.report.stamp import Stamp
from espnet_tse_ser.systems.system import JOINT

_ALONG = ("emotion", "interferer_emotion")  # these two are shown across each other
_SHOWN_PAIRS = (["snr_db", "gender_state"],)


@dataclass(frozen=True)
class Figures:
    """All that RESULTS.md shows."""

    labels: list  # the classes
    results: list  # from `results.summarise`
    systems: dict  # name -> `Row`
    made_with: list = ()  # from `results.describe`
    left_out: dict = field(default_factory=dict)  # name of a row -> why it is not shown
    differences: list = ()  # from `results.compare`
    state_differences: list = ()  # from `results.compare_states`
    breakdown: list = ()  # from `breakdown.break_down`
    wrong_speakers: list = ()  # from `breakdown.wrong_speakers`


def render(figures, header, stamp=None, plots=(), declared=()):
    """The text of RESULTS.md.

    Args:
        figures: `Figures`. declared: all systems that could be shown.
        header: what to say about the run, name -> value (date, versions, commit).
        stamp: `Stamp`, printed with every table.
        plots: paths of images to show, relative to RESULTS.md.
    """
    stamp = stamp or Stamp()
    pooled = {r["system"]: r for r in figures.results if r["fold"] == "all"}
    measured = [
        _emotion(figures, pooled, declared),
        _differences(figures),
        _extraction(pooled, figures.systems),
        _wrong_speakers(figures.wrong_speakers),
        _gender_states(pooled, figures.systems),
        _breakdown(figures.breakdown, figures.systems),
        _emotions(figures.breakdown, figures.systems),
    ]
    sections = [
        "# Results\n\nWritten by `python -m espnet_tse_ser.bin.results`; the same figures are in "
        "results.json, the utterances behind them in the `score_utt.tsv` of each system.",
        head(header),
        _words(figures, pooled),
        *(stamped(section, stamp.text()) for section in measured if section),
        stamped(_folds(figures), stamp.text(by_fold=True)),
        stamped(_confusions(figures.labels, pooled), stamp.text()),
        _made_with(figures),
        _paper(declared),
    ]
    sections = [section for section in sections if section]
    if plots:
        lines = [f"![{path}]({path})" for path in plots]
        sections.append("## Plots\n\n" + "\n\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _words(figures, pooled):
    """What is not plain to a newcomer, said once."""
    said = []
    if any(re.search(r"\bSC\b|SB[+_]SC", row.system.label) for row in figures.systems.values()):
        said.append(
            "SC: the recogniser, in the paper ShiftCNN. SB: the extraction, SpeakerBeam. SB_SC: "
            "the two trained one after the other, SB+SC: together."
        )
    if any(result["by_gender_state"] for result in pooled.values()):
        said.append("Gender state: whether target and interferer are of the same gender.")
    return " ".join(said)


def _emotion(figures, pooled, declared):
    rows = [
        [
            label(figures.systems[name]),
            r["train"],
            r["test"],
            r["n"],
            *(marked(r, m) for m in EMOTION),
        ]
        for name, r in pooled.items()
    ]
    first = next(iter(pooled.values()))
    text = (
        f"## Emotion recognition\n\n%, {over_speakers(first['speakers'])}"
        + " (each left out once; Student's t)" * (first["speakers"] > 1)
        + ".\n\n"
        + table(["system", "train", "test", "n", "WA", "UA", "macro-F1"], rows)
        + note_on_classes(rows)
    )
    if first["seeds"] > 1:
        text += "\n\nStandard deviation of UA over the seeds, percentage points: "
        text += ", ".join(f"{name} {_deviation(r['ua_by_seed'])}" for name, r in pooled.items())
        text += "."
    shown = {row.system.name for row in figures.systems.values()}
    missing = [system.name for system in declared if system.name not in shown]
    if missing:
        text += f"\n\nNot scored yet: {', '.join(missing)}."
    for name, reason in figures.left_out.items():
        text += f"\n\nNot shown: {name}, which cannot be compared with these: {reason}."
    return text


def label(row):
    """A row in words."""
    return row.system.label + f" [{row.tag}]" * (row.name != row.system.name)


def _deviation(ua_by_seed):
    """Sample standard deviation, in percentage points."""
    return f"{100 * statistics.stdev(ua_by_seed.values()):.2f}"


def _differences(figures):
    differences, state_differences = figures.differences, figures.state_differences
    if not differences:
        return ""
    speakers = min(c["speakers"] for c in differences)
    rows = [
        [
            c["system"],
            c["reference"],
            level_name(c["level"]) if "level" in c else c["gender_state"],
            c["n"],
            c["speakers"],
            *(_difference(c["measures"], m) for m in ("wa", "ua", "macro_f1", "si_sdri")),
            percent(c.get("recovered"), c.get("recovered_ci")),
        ]
        for c in differences
    ]
    parts = {"level" if "level" in c else "gender state" for c in differences if is_part(c)}
    columns = ["system", "against", " or ".join(sorted(parts)) or "gender state", "n", "speakers"]
    columns += ["WA", "UA", "macro-F1", "SI-SDRi"]
    text = (
        "## Differences\n\nPercentage points (SI-SDRi: dB; n/a where one of the two extracts "
        "nothing) on the same n utterances, "
        f"{over_speakers(speakers, '95 % intervals and p')}. p is from flipping the signs of "
        "speakers' scores, two-sided, not corrected for the number of tests"
        f"{smallest_p(speakers)}. {gaps(figures.systems)}\n\n"
        + table([*columns, "share of the gap recovered, %"], rows)
    )
    if state_differences:
        rows = [
            [c["system"], " - ".join(map(str, c["n"])), c["speakers"]]
            + [_difference(c["measures"], m) for m in ("wa", "ua", "macro_f1", "si_sdri")]
            for c in state_differences
        ]
        text += (
            "\n\nDifferent minus same gender within a system: other utterances, the same speakers."
            "\n\n" + table(["system", "n", *columns[4:]], rows)
        )
    return text


def is_part(comparison):
    """Whether a comparison is of some mixtures only: of one gender state, or at one level."""
    return "level" in comparison or comparison["gender_state"] != "all"


def level_name(level):
    """A level in words."""
    return level if level == CLEAN else f"{level} dB"


def _difference(measures, measure):
    if measure not in measures:
        return "n/a"
    c = measures[measure]
    show = number if measure == "si_sdri" else percent
    return f"{show(c['difference'], interval=c['difference_ci'])}, {p_value(c['p'])}"


def gaps(systems):
    """What the share of the gap is, in words."""
    ends = [
        f"(UA - UA of {claim.than}) / (UA of {claim.gap_to} - UA of {claim.than})"
        for row in systems.values()
        for claim in row.system.claims
        if claim.gap_to
    ]
    return f"The share of the gap is {' or '.join(dict.fromkeys(ends))}." if ends else ""


def extracting(systems):
    """Names of the rows that stand for an extraction: of those with the same extracted speech one
    that is trained on it, or the last."""
    chosen = {}
    for name, row in systems.items():
        if row.extraction and (row.extraction not in chosen or row.system.is_matched):
            chosen[row.extraction] = name
    return [name for name in systems if name in chosen.values()]


def _extraction(pooled, systems):
    rows = []
    for name in extracting(systems):
        result = pooled[name]
        if result["si_sdr"] is None:
            continue
        system = systems[name].system
        how = "shared encoder" if system.enhances else "pretrained"
        if system.test == JOINT:
            how = "fine-tuned"
        for state, r in [("all", result), *result["by_gender_state"].items()]:
            rows.append(
                [
                    f"{how} ({name})",
                    state,
                    r["n"],
                    *(number(r[c]) for c in ("si_sdr_mix", "si_sdr")),
                    number(r["si_sdri"], interval=r["si_sdri_ci"]),
                    *(of_known(number(r[c], 3), r, c) for c in ("stoi_mix", "stoi")),
                    of_known(percent(r["wrong_speaker_rate"]), r, "wrong_speaker_rate"),
                ]
            )
    if not rows:
        return ""
    columns = ["TSE", "gender state", "n", "SI-SDR in", "SI-SDR out", "SI-SDRi"]
    columns += ["STOI in", "STOI out", "wrong speaker, %"]
    return (
        "## Extraction\n\nMeans over utterances; SI-SDR in dB. Brackets say of how many of the n, "
        "where it is not all: STOI needs speech enough, a wrong speaker known interferers.\n\n"
        + table(columns, rows)
    )


def _wrong_speakers(wrong):
    if not wrong:
        return ""
    rows = [
        [
            w["system"],
            w["n"] if w["n"] == w["of"] else f"{w['n']} of {w['of']}",
            percent(w["wrong_speaker_rate"], w["wrong_speaker_rate_ci"]),
            *(
                percent(w[m], w[f"{m}_ci"]) + "*" * bool(w[f"{m}_classes_missing"])
                for m in ("ua", "ua_right", "ua_wrong")
            ),
        ]
        for w in wrong
    ]
    columns = ["system", "n", "wrong speaker, %", "UA", "UA without them", "UA of them"]
    return (
        "## Wrong speakers\n\nThe extracted speech is closer to an interferer than to the target. "
        "All figures are of the n utterances whose interferers are known.\n\n"
        + table(columns, rows)
        + note_on_classes(rows)
    )


def _breakdown(cells, systems):
    """UA of all systems by one factor, then by the pairs of factors worth the room."""
    shown = [[name] for name in FACTORS if name not in (*_ALONG, "gender_state")]
    shown = [by for by in [*shown, *_SHOWN_PAIRS] if any(c["by"] == by for c in cells)]
    if not shown:
        return ""
    measured = {c["system"] for c in cells if c["si_sdri"] is not None}
    extractors = [name for name in extracting(systems) if name in measured]
    rows = []
    for by in shown:
        for cell, found in _cells(cells, by).items():
            first = next(iter(found.values()))
            label = " and ".join(
                f"{FACTORS[name].title} {part}" for name, part in zip(by, cell, strict=True)
            )
            rows.append([label, first["n"], first["speakers"]])
            rows[-1] += [_ua(found.get(system)) for system in systems]
            rows[-1] += [number(found[system]["si_sdri"]) for system in extractors]
    columns = ["", "n", "speakers", *systems, *(f"SI-SDRi {s}, dB" for s in extractors)]
    return (
        "## By mixture\n\nUA, % with 95 % intervals over speakers (none for a single one). Other "
        "pairs are in results.json.\n\n" + table(columns, rows) + note_on_classes(rows)
    )


def _emotions(cells, all_systems):
    """Recalls of all systems by target emotion, and across the interferer's emotion."""
    recalls = _cells(cells, ["emotion"])
    if not recalls:
        return ""
    systems = list(next(iter(recalls.values())))
    rows = [
        [label, next(iter(found.values()))["n"], *(_ua(found.get(s)) for s in systems)]
        for (label,), found in recalls.items()
    ]
    text = (
        "## By emotion\n\nRecall of the target's emotion, % with 95 % intervals over speakers "
        "(none for a single one).\n\n" + table(["target", "n", *systems], rows)
    )
    across = _cells(cells, list(_ALONG))
    if across:
        others = list(dict.fromkeys(other for _, other in across))
        rows = []
        for system in (s for s in systems if all_systems[s].system.is_matched):
            for label in dict.fromkeys(label for label, _ in across):
                found = [across.get((label, other), {}).get(system) for other in others]
                rows.append([system, label, *(_ua(c) for c in found)])
        text += "\n\nThe same by the interferer's emotion.\n\n"
        text += table(["system", "target", *others], rows)
    return text


def _cells(cells, by):
    """cell -> system -> measures, for the factors ``by``."""
    found = {}
    for c in cells:
        if c["by"] == by:
            found.setdefault(tuple(c["cell"]), {})[c["system"]] = c
    return found


def _ua(measures):
    """UA (or recall) of a cell, marked where a class is missing."""
    if measures is None:
        return "n/a"
    return marked(measures, "recall" if "recall" in measures else "ua")


def _gender_states(pooled, systems):
    rows = [
        [
            label(systems[name]),
            r["train"],
            r["test"],
            state,
            part["n"],
            *(marked(part, m) for m in ("wa", "ua")),
        ]
        for name, r in pooled.items()
        for state, part in r["by_gender_state"].items()
    ]
    if not rows:
        return ""
    columns = ["system", "train", "test", "gender state", "n", "WA", "UA"]
    heading = "## Emotion recognition by gender state"
    return f"{heading}\n\n{table(columns, rows)}{note_on_classes(rows)}"


def _folds(figures):
    results = figures.results
    folds = list(dict.fromkeys(r["fold"] for r in results if r["fold"] != "all"))
    found = {(r["system"], r["fold"]): r for r in results}
    systems = list(dict.fromkeys(r["system"] for r in results))
    first = [found[systems[0], fold] for fold in folds]
    rows = [["n", "", *(r["n"] for r in first)]]
    rows += [
        [system, name, *(marked(found[system, fold], measure, False) for fold in folds)]
        for system in systems
        for measure, name in (("ua", "UA"), ("wa", "WA"))
    ]
    for system in extracting(figures.systems):
        values = [found.get((system, fold), {"si_sdri": None})["si_sdri"] for fold in folds]
        if any(value is not None for value in values):
            rows.append([system, "SI-SDRi, dB", *(number(value) for value in values)])
    text = "## Folds\n\nUA and WA in %.\n\n" + table(["system", "", *folds], rows)
    return text + note_on_classes(rows)


def _confusions(labels, pooled):
    tables = []
    for name, r in pooled.items():
        rows = [[f"**{label}**", *row] for label, row in zip(labels, r["confusion"], strict=True)]
        tables.append(table([name, *labels], rows))
    seeds = max(r["seeds"] for r in pooled.values())
    counted = "Utterances" if seeds == 1 else f"Utterances, each recognised with {seeds} seeds"
    heading = f"## Confusions\n\n{counted}; row: reference, column: hypothesis."
    return "\n\n".join([heading, *tables])


def _made_with(figures):
    """What each row is: enough to make it again."""
    if not figures.made_with:
        return ""
    rows = [
        [
            m["system"],
            m["tag"],
            m["configuration"].replace(",", ", "),
            ", ".join(f"{run} {epoch}" for run, epoch in m["epochs"].items()),
            *(m[column] for column in ("scheme", "dev", "commit")),
        ]
        for m in figures.made_with
    ]
    columns = ["system", "tag", "configurations", "epochs chosen", "scheme", "dev", "commit"]
    return "## What made them\n\n" + table(columns, rows)


def _paper(declared):
    """The figures that papers give for the systems."""
    sources = {}
    for system in declared:
        if system.paper:
            sources.setdefault(system.paper.source, []).append(system)
    if not sources:
        return ""
    text = (
        "## The papers' figures, for comparison\n\nNot measured here: they are of the corpora and "
        "networks that each paper names."
    )
    columns = ["system", "train", "test", "WA", "UA", "SI-SDRi, dB"]
    for source, found in sources.items():
        rows = [
            [s.label, s.train, s.test]
            + [number(value) for value in (s.paper.wa, s.paper.ua, s.paper.si_sdri)]
            for s in found
        ]
        text += f"\n\n{source}, WA and UA in %:\n\n" + table(columns, rows)
    return text
