"""From per-utterance score tables to the figures of results.json."""

import importlib.metadata
import platform

import numpy as np

from espnet_tse_ser.metrics import comparison
from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.comparison import interval, rounded
from espnet_tse_ser.metrics.fields import SI_SDRS, SIGNAL_COLUMNS
from espnet_tse_ser.metrics.speaker_totals import (
    EMOTION,
    confusions_of,
    intervals,
    known_mean,
    measures_of,
    missing_classes,
    speaker_totals,
)
from espnet_tse_ser.metrics.tables import MADE_WITH
from espnet_tse_ser.mixtures.table import NONE, level_key
from espnet_tse_ser.systems.system import are_alike, pairs_of
from espnet_tse_ser.values.ids import fold_key


def environment():
    """Versions that results depend on, as a dict of strings (None: not installed as a package)."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "espnet", "numpy", "espnet_tse_ser"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def summarise(scores, labels, systems):
    """All figures of all systems.

    The seeds of a system are pooled: each utterance counts once, the mean over them, and a speaker
    is left out with all of them. So the intervals are about other speakers, not other seeds.

    Args:
        scores: name of a row -> its utterances (see `tables.read_scores`).
        labels: the classes, in the order of the confusion matrices.
        systems: name of a row -> `Row`.

    Returns:
        a list of dicts, by row, each with one entry per fold and one for fold "all": system (the
        row's name), tag, train, test, fold, seeds (how many; if several also ua_by_seed, seed ->
        UA), n (utterances, each counted once), speakers, wa, ua, macro_f1, their intervals wa_ci,
        ua_ci, macro_f1_ci ``[low, high]`` (95 %, over speakers; None for a single speaker),
        classes_missing (without utterances; ua is the mean of the others), si_sdr_mix, si_sdr,
        si_sdri (mean dB), si_sdri_ci, stoi_mix, stoi, wrong_speaker_rate (None where not
        applicable) and stoi_mix_n, stoi_n, wrong_speaker_rate_n (the number of utterances that
        have them), confusion (rows: reference; it counts seeds * n; with two epochs, see `tables`,
        also confusion_wa),
        by_gender_state (state -> n and the same measures). Rounded to 6 decimals.

    Raises:
        UserError: the systems cannot be compared, see `comparable.check_comparable`.
    """
    check_comparable(scores.items(), one_experiment=True)
    results = []
    for name, rows in scores.items():
        folds = sorted({row["fold"] for row in rows}, key=fold_key)
        for fold in [*folds, "all"]:
            chosen = [row for row in rows if fold in ("all", row["fold"])]
            results.append(
                {
                    "system": name,
                    "tag": systems[name].tag,
                    "train": systems[name].system.train,
                    "test": systems[name].system.test,
                    "fold": fold,
                    **_seeds(chosen, labels),
                    **measure_rows(chosen, labels),
                    "by_gender_state": {
                        state: measure_rows(
                            [r for r in chosen if r["gender_state"] == state], labels
                        )
                        for state in _states(chosen)
                    },
                }
            )
    return results


def compare(scores, labels, systems):
    """The claims of systems, tested on the same speakers, and the share of the gap recovered.

    The gap is UA(gap_to) - UA(than) of a `Claim`, see `comparison.recovered_share`.

    Returns:
        list of dicts: system, reference (names of rows), gender_state ("all" or one of them), of
        the mixtures at one level also level, n, speakers, seeds, measures (see
        `comparison.compare_totals`), and, where a claim names a gap and there is one, recovered and
        recovered_ci; for the claims of which both systems are in ``scores``, with the same parts,
        by gender state and level too where it says so.

    Raises:
        UserError: as `summarise`.
    """
    check_comparable(scores.items(), one_experiment=True)
    systems = {name: systems[name] for name in scores}
    comparisons = []
    for column, value in _parts(next(iter(scores.values()))):
        chosen = {
            name: [row for row in rows if value in ("all", row[column])]
            for name, rows in scores.items()
        }
        totals = {name: speaker_totals(rows, labels) for name, rows in chosen.items()}
        of = {"gender_state": "all"} | {column: value}
        for row, other, claim in pairs_of(systems):
            if value != "all" and not getattr(claim, f"by_{column}"):
                continue
            pair = row.name, other.name
            result = comparison.compare_rows(*(chosen[name] for name in pair), labels, pair)
            result = {"system": row.name, "reference": other.name, **of, **result}
            if top := gap_end(systems, row, claim):
                share, bounds = comparison.recovered_share(*(totals[n] for n in (*pair, top.name)))
                if share is not None:
                    result |= {"recovered": share, "recovered_ci": bounds}
            comparisons.append(result)
    return comparisons


def gap_end(systems, row, claim):
    """The `Row` at the upper end of the gap of a claim of ``row``, or None."""
    ends = [r for r in systems.values() if r.system.name == claim.gap_to and are_alike(row, r)]
    return ends[0] if ends else None


def describe(scores, systems):
    """What made the rows of tables.

    Returns:
        list of dicts: system (name of the row), tag, label, train, test, configuration, scheme,
        dev, commit and epochs (run, as "fold1" or "fold1_seed2", -> the epoch that was chosen).
    """
    described = []
    for name, rows in scores.items():
        seeds = {row["seed"] for row in rows}
        epochs = {
            f"fold{row['fold']}" + f"_seed{row['seed']}" * (len(seeds) > 1): "/".join(
                row[column] for column in ("epoch", "epoch_wa") if column in row
            )
            for row in sorted(rows, key=lambda r: (fold_key(r["fold"]), fold_key(r["seed"])))
        }
        row, system = systems[name], systems[name].system
        described.append(
            {
                "system": name,
                "tag": row.tag,
                "label": system.label,
                "train": system.train,
                "test": system.test,
                **{column: rows[0][column] for column in MADE_WITH},
                "epochs": epochs,
            }
        )
    return described


def compare_states(scores, labels):
    """Different minus same gender within every system: a list of dicts, system and what
    `comparison.compare_states` says; empty where no speaker has both states."""
    compared = {name: comparison.compare_states(rows, labels) for name, rows in scores.items()}
    return [{"system": name, **c} for name, c in compared.items() if c]


def measure_rows(rows, labels):
    """Measures of the rows of one system, see `summarise`."""
    totals = speaker_totals(rows, labels)
    confusions = confusions_of(totals).sum(0) * len({row["seed"] for row in rows})
    low, high = intervals(totals)
    signal = {}
    for column in SIGNAL_COLUMNS:
        # SI-SDRs before and after are of the same mixtures: those with a source.
        of = [r for r in rows if r["snr_db"] is not None] if column in SI_SDRS else rows
        mean, known = known_mean(of, column)
        name = "wrong_speaker_rate" if column == "wrong_speaker" else column
        signal[name] = rounded(mean)
        if column not in SI_SDRS:  # all mixtures with a source have them, or none
            signal[f"{name}_n"] = known
    measures = {
        "n": len({row["id"] for row in rows}),
        "speakers": len(totals),
        **{m: rounded(v) for m, v in zip(EMOTION, measures_of(totals.sum(0)), strict=False)},
        **{f"{m}_ci": interval((low[i], high[i])) for i, m in enumerate(EMOTION)},
        "classes_missing": missing_classes(totals, labels),
        **signal,
        "si_sdri_ci": interval((low[3], high[3])),
        "confusion": np.rint(confusions[0]).astype(int).tolist(),
    }
    if any("hypothesis_wa" in row for row in rows):
        measures["confusion_wa"] = np.rint(confusions[1]).astype(int).tolist()
    return measures


def _parts(rows):
    """What claims are tested on: column and value of the rows, "all" of them first."""
    yield "gender_state", "all"
    for state in _states(rows):
        yield "gender_state", state
    for level in sorted({row["level"] for row in rows if "level" in row}, key=level_key):
        yield "level", level


def _states(rows):
    """The gender states of the rows that have talkers, same before different."""
    return sorted({row["gender_state"] for row in rows} - {NONE}, reverse=True)


def _seeds(rows, labels):
    """The number of seeds and, if there are several, the UA of each."""
    seeds = sorted({row["seed"] for row in rows}, key=fold_key)
    if len(seeds) == 1:
        return {"seeds": 1}
    chosen = {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}
    ua = {s: measures_of(speaker_totals(rows, labels).sum(0))[1] for s, rows in chosen.items()}
    return {"seeds": len(seeds), "ua_by_seed": {seed: rounded(ua[seed]) for seed in seeds}}
