"""Where a system fails: its measures by SNR, overlap, gender state and emotions.

A factor sorts utterances into cells. Cells have the speakers that happen to be in them, so cells
are described, not compared; few speakers give wide intervals, one gives none.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.comparison import interval, rounded
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, mean_of
from espnet_tse_ser.metrics.speaker_totals import (
    intervals,
    known_mean,
    measures_of,
    missing_classes,
    speaker_totals,
)
from espnet_tse_ser.mixtures.table import CLEAN, NONE

SNR_EDGES = (-5, 0, 5)  # dB
OVERLAP_EDGES = (0.25, 0.5, 0.75)
UNLIKE = "mixed"  # interferers of more than one emotion


@dataclass(frozen=True)
class Factor:
    """What sorts utterances: ``cell`` gives the label of a row, ``order`` the key of a label."""

    title: str
    cell: Callable
    order: Callable = str


def _bins(column, edges, unit):
    """The cell of a factor of half-open bins ``[low, high)``."""
    names = [f"below {edges[0]}{unit}"]
    names += [f"{low} to {high}{unit}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    names.append(f"{edges[-1]}{unit} and more")

    def cell(row):
        scaled = row[column] * (100 if unit == " %" else 1)
        return names[sum(scaled >= edge for edge in edges)]

    return cell


def _lowest(name):
    """The lower end of a bin or a level, by which they are ordered; clean is the last."""
    first = name.split()[0]
    return {"below": -math.inf, CLEAN: math.inf}[first] if first.isalpha() else float(first)


_snr_bin = _bins("snr_db", SNR_EDGES, " dB")


def _snr(row):
    """The level of a mixture where it was drawn from a set, else the bin of its SNR."""
    if row.get("level", CLEAN) != CLEAN:
        return f"{row['level']} dB"
    return CLEAN if row["snr_db"] is None else _snr_bin(row)


def _interferer_emotion(row):
    emotions = set(row["interferer_emotions"].split(","))
    return (emotions.pop() or NONE) if len(emotions) == 1 else UNLIKE


FACTORS = {
    "gender_state": Factor(
        "gender state",
        lambda row: row["gender_state"],
        lambda state: (state != "same", state),
    ),
    "snr_db": Factor("SNR", _snr, _lowest),
    "overlap": Factor(
        "overlap",
        _bins("overlap", tuple(round(100 * edge) for edge in OVERLAP_EDGES), " %"),
        _lowest,
    ),
    "num_interferers": Factor("interferers", lambda row: str(row["num_interferers"]), int),
    "emotion": Factor("target emotion", lambda row: row["reference"]),
    "interferer_emotion": Factor("interferer emotion", _interferer_emotion),
}
TWO_WAY = (
    ("snr_db", "gender_state"),
    ("overlap", "gender_state"),
    ("snr_db", "overlap"),
    ("emotion", "gender_state"),
    ("emotion", "interferer_emotion"),
)


def break_down(scores, labels):
    """Measures of every system by each factor and by the pairs of `TWO_WAY`.

    A factor with one cell only says nothing and is left out.

    Args:
        scores: name of a system -> its rows (see `tables.read_scores`).
        labels: the classes.

    Returns:
        list of dicts, by factor(s), cell and system: by and cell (lists of one or two strings),
        system, n, speakers, si_sdri, si_sdri_ci, wrong_speaker_rate (None without extraction),
        wrong_speaker_rate_n (utterances of which it is known) and wa, ua, macro_f1 with a _ci each,
        classes_missing (without utterances; UA is then the mean of the others), or, by target
        emotion, recall and recall_ci. 95 % intervals ``[low, high]`` over speakers, None for fewer
        than two. Rounded to 6 decimals.
    """
    check_comparable(scores.items(), one_experiment=True)
    first = next(iter(scores.values()))
    cells = {
        name: sorted({factor.cell(row) for row in first}, key=factor.order)
        for name, factor in FACTORS.items()
    }
    varied = [(name,) for name in FACTORS] + list(TWO_WAY)
    varied = [by for by in varied if all(len(cells[name]) > 1 for name in by)]
    results = []
    for by in varied:
        grouped = {name: _group(rows, by) for name, rows in scores.items()}
        for cell in itertools.product(*(cells[name] for name in by)):
            for system, groups in grouped.items():
                if cell in groups:
                    results.append(
                        {
                            "by": list(by),
                            "cell": list(cell),
                            "system": system,
                            **_measure(groups[cell], labels, "emotion" in by),
                        }
                    )
    return results


def wrong_speakers(scores, labels):
    """How often the wrong speaker was extracted, and what that costs.

    Returns:
        list of dicts, for systems that extract: system, n (utterances of which it is known; all
        figures are of them), of (all utterances), wrong_speaker_rate and its _ci, ua, ua_right
        (without the utterances of wrong speakers), ua_wrong (of those alone), each with its _ci
        and _classes_missing (without utterances there; UA is the mean of the others); None where
        there is none.
    """
    results = []
    for system, rows in scores.items():
        of = len({row["id"] for row in rows})
        rows = [row for row in rows if not math.isnan(row["wrong_speaker"])]
        if not rows:
            continue
        seeds = len({row["seed"] for row in rows})
        n = len({row["id"] for row in rows})
        totals = cluster_totals(
            [[row["wrong_speaker"], 1] for row in rows], [row["speaker"] for row in rows]
        )
        result = {
            "system": system,
            "n": n,
            "of": of,
            "wrong_speaker_rate": rounded(mean_of(totals.sum(0))),
            "wrong_speaker_rate_ci": interval(
                cluster_interval(totals, mean_of, limits=(0, 1), trials=n)
            ),
        }
        for name, kept in (("ua", (0, 1)), ("ua_right", (0,)), ("ua_wrong", (1,))):
            chosen = [row for row in rows if row["wrong_speaker"] in kept]
            result |= {name: None, f"{name}_ci": None, f"{name}_classes_missing": None}
            if chosen:
                own = speaker_totals(chosen, labels, seeds=seeds)
                low, high = intervals(own)
                result[name] = rounded(measures_of(own.sum(0))[1])
                result[f"{name}_ci"] = interval((low[1], high[1]))
                result[f"{name}_classes_missing"] = missing_classes(own, labels)
        results.append(result)
    return results


def _group(rows, by):
    groups = {}
    for row in rows:
        groups.setdefault(tuple(FACTORS[name].cell(row) for name in by), []).append(row)
    return groups


def _measure(rows, labels, is_recall):
    totals = speaker_totals(rows, labels)
    wa, ua, macro_f1, si_sdri = measures_of(totals.sum(0))
    low, high = intervals(totals)
    wrong, known = known_mean(rows, "wrong_speaker")
    measured = {"n": len({row["id"] for row in rows}), "speakers": len(totals)}
    if is_recall:
        measured |= {"recall": rounded(ua), "recall_ci": interval((low[1], high[1]))}
    else:
        measured |= {"wa": rounded(wa), "wa_ci": interval((low[0], high[0]))}
        measured |= {"ua": rounded(ua), "ua_ci": interval((low[1], high[1]))}
        measured |= {"macro_f1": rounded(macro_f1), "macro_f1_ci": interval((low[2], high[2]))}
        measured["classes_missing"] = missing_classes(totals, labels)
    return measured | {
        "si_sdri": rounded(si_sdri),
        "si_sdri_ci": interval((low[3], high[3])),
        "wrong_speaker_rate": rounded(wrong),
        "wrong_speaker_rate_n": known,
    }
