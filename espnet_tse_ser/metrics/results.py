"""From per-utterance score tables to the figures of results.json."""

import importlib.metadata
import platform

import numpy as np

from espnet_tse_ser.metrics import comparison
from espnet_tse_ser.metrics.comparable import check_comparable
from espnet_tse_ser.metrics.comparison import interval, rounded
from espnet_tse_ser.metrics.fields import SI_SDRS, SIGNAL_COLUMNS, fold_key
from espnet_tse_ser.metrics.speaker_totals import (
    EMOTION,
    confusions_of,
    intervals,
    known_mean,
    measures_of,
    missing_classes,
    speaker_totals,
)
from espnet_tse_ser.metrics.tables import SYSTEMS

DIFFERENCES = (  # pairs of systems that the paper's claims are about
    ("clean_clean", "noisy_noisy"),
    ("clean_noisy", "noisy_noisy"),
    ("base", "clean_denoised"),
    ("base", "noisy_noisy"),
    ("ft", "noisy_noisy"),
    ("ft", "base"),
)
STATE_DIFFERENCES = DIFFERENCES[3:]  # of these also within each gender state


def environment():
    """Versions that results depend on, as a dict of strings (None: not installed as a package)."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "espnet", "numpy", "espnet_tse_ser"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def summarise(scores, labels):
    """All figures of all systems.

    The seeds of a system are pooled: each utterance counts once, the mean over them, and a speaker
    is left out with all of them. So the intervals are about other speakers, not other seeds.

    Args:
        scores: name of a system -> its rows (see `tables.read_scores`).
        labels: the classes, in the order of the confusion matrices.

    Returns:
        a list of dicts, by system, each with one entry per fold and one for fold "all": system,
        train, test, fold, seeds (how many; if several also ua_by_seed, seed -> UA), n (utterances,
        each counted once), speakers, wa, ua, macro_f1, their intervals wa_ci, ua_ci, macro_f1_ci
        ``[low, high]`` (95 %, over speakers; None for a single speaker), classes_missing (without
        utterances; ua is the mean of the others), si_sdr_mix, si_sdr, si_sdri (mean dB),
        si_sdri_ci, stoi_mix, stoi, wrong_speaker_rate (None where not applicable) and stoi_mix_n,
        stoi_n, wrong_speaker_rate_n (the number of utterances that have them), confusion (rows:
        reference; it counts seeds * n; with two epochs, see `tables`, also confusion_wa),
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
                    "train": SYSTEMS[name].train,
                    "test": SYSTEMS[name].test,
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


def compare(scores, labels):
    """Differences between systems on the same speakers, and the share of the gap recovered.

    The gap is UA(clean_clean) - UA(noisy_noisy), see `comparison.recovered_share`.

    Returns:
        list of dicts: system, reference (system), gender_state ("all" or one of them), n, speakers,
        seeds, measures (see `comparison.compare_totals`), and, against noisy_noisy where there is
        a positive gap, recovered and recovered_ci; for the pairs of `DIFFERENCES` of which both
        systems are in ``scores``, those of `STATE_DIFFERENCES` by gender state too.

    Raises:
        UserError: as `summarise`.
    """
    check_comparable(scores.items(), one_experiment=True)
    comparisons = []
    for state in ["all", *_states(next(iter(scores.values())))]:
        chosen = {
            name: [row for row in rows if state in ("all", row["gender_state"])]
            for name, rows in scores.items()
        }
        totals = {name: speaker_totals(rows, labels) for name, rows in chosen.items()}
        for pair in DIFFERENCES if state == "all" else STATE_DIFFERENCES:
            if not set(pair) <= scores.keys():
                continue
            system, reference = pair
            result = comparison.compare_rows(chosen[system], chosen[reference], labels, pair)
            result = {"system": system, "reference": reference, "gender_state": state, **result}
            if reference == "noisy_noisy" and system in ("base", "ft") and "clean_clean" in totals:
                share, bounds = comparison.recovered_share(
                    totals[system], totals[reference], totals["clean_clean"]
                )
                if share is not None:
                    result |= {"recovered": share, "recovered_ci": bounds}
            comparisons.append(result)
    return comparisons


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
        mean, known = known_mean(rows, column)
        name = "wrong_speaker_rate" if column == "wrong_speaker" else column
        signal[name] = rounded(mean)
        if column not in SI_SDRS:  # all utterances have them, or none
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


def _states(rows):
    """The gender states of the rows, same before different."""
    return sorted({row["gender_state"] for row in rows}, reverse=True)


def _seeds(rows, labels):
    """The number of seeds and, if there are several, the UA of each."""
    seeds = sorted({row["seed"] for row in rows}, key=fold_key)
    if len(seeds) == 1:
        return {"seeds": 1}
    chosen = {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}
    ua = {s: measures_of(speaker_totals(rows, labels).sum(0))[1] for s, rows in chosen.items()}
    return {"seeds": len(seeds), "ua_by_seed": {seed: rounded(ua[seed]) for seed in seeds}}
