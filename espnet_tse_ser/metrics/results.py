"""From per-utterance score tables to the figures of results.json."""

import importlib.metadata
import platform

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.emotion import macro_f1_of, ua_of, wa_of
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, mean_of
from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS, SYSTEMS, fold_key

MEASURES = ("wa", "ua", "macro_f1")
DIFFERENCES = (  # pairs of systems whose difference in UA RESULTS.md gives
    ("clean_clean", "noisy_noisy"),
    ("base", "noisy_noisy"),
    ("ft", "noisy_noisy"),
    ("ft", "base"),
)

_DIGITS = 6


def environment():
    """Versions that results depend on, as a dict of strings (None: not installed as a package)."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "espnet", "numpy", "espnet_tse_ser"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def check_same_utterances(scores):
    """Raise `UserError` unless all systems are scored on the same utterances and seeds.

    Args:
        scores: name of a system -> its rows (see `tables.read_scores`).
    """
    (first, expected), *others = (
        (name, {(r["id"], r["seed"]) for r in rows}) for name, rows in scores.items()
    )
    for name, ids in others:
        if ids != expected:
            different = sorted(ids ^ expected)
            raise UserError(
                f"systems {first} and {name} are scored on different utterances or seeds "
                f"({len(different)} in one of them only, e.g. {different[0][0]}, seed "
                f"{different[0][1]}); run stage 13 again for all systems, folds and seeds"
            )


def summarise(scores, labels):
    """All figures of all systems.

    The seeds of a system are pooled: each utterance counts once for each of them, and a speaker
    is resampled with all of them. So the intervals are about other speakers, not other seeds.

    Args:
        scores: name of a system -> its rows (see `tables.read_scores`).
        labels: the classes, in the order of the confusion matrices.

    Returns:
        a list of dicts, by system, each with one entry per fold and one for fold "all": system,
        train, test, fold, seeds (how many; if several also ua_by_seed, seed -> UA), n (utterances,
        each counted once), wa, ua, macro_f1, their intervals wa_ci, ua_ci, macro_f1_ci
        ``[low, high]`` (95 %, speakers resampled; None for a single speaker), si_sdr_mix, si_sdr,
        si_sdri (mean dB), si_sdri_ci, stoi_mix, stoi, wrong_speaker_rate (None where not
        applicable), confusion (rows: reference; it counts seeds * n), by_gender_state (state ->
        n and the same measures). Rounded to 6 decimals.
    """
    check_same_utterances(scores)
    results = []
    for name, rows in scores.items():
        folds = sorted({row["fold"] for row in rows}, key=fold_key)
        for fold in [*folds, "all"]:
            chosen = [row for row in rows if fold in ("all", row["fold"])]
            states = sorted({row["gender_state"] for row in chosen}, reverse=True)  # same first
            results.append(
                {
                    "system": name,
                    "train": SYSTEMS[name].train,
                    "test": SYSTEMS[name].test,
                    "fold": fold,
                    **_seeds(chosen, labels),
                    **_measure(chosen, labels),
                    "by_gender_state": {
                        state: _measure([r for r in chosen if r["gender_state"] == state], labels)
                        for state in states
                    },
                }
            )
    return results


def compare(scores, labels):
    """Differences in UA between systems on the same speakers, and the share of the gap recovered.

    The gap is UA(clean_clean) - UA(noisy_noisy); a system recovers
    ``(UA(system) - UA(noisy_noisy)) / gap`` of it. Each resample of speakers is scored with both
    systems, on the same utterances and seeds, so that what is hard for all systems cancels.

    Returns:
        list of dicts: system, reference (system), difference, difference_ci ``[low, high]``, and,
        against noisy_noisy where there is a positive gap, recovered and recovered_ci; for the
        pairs of `DIFFERENCES` of which both systems are in ``scores``.
    """
    check_same_utterances(scores)
    column = {name: number for number, name in enumerate(scores)}
    totals = np.stack([_speaker_confusions(rows, labels) for rows in scores.values()], axis=1)
    ua = dict(zip(column, ua_of(totals.sum(0)), strict=True))
    gap = ua.get("clean_clean", np.nan) - ua.get("noisy_noisy", np.nan)

    def difference(confusions, system, reference):
        values = ua_of(confusions)
        return values[..., column[system]] - values[..., column[reference]]

    comparisons = []
    for system, reference in DIFFERENCES:
        if system not in scores or reference not in scores:
            continue
        bounds = cluster_interval(
            totals, lambda t, s=system, r=reference: difference(t, s, r), limits=(-1, 1)
        )
        comparison = {
            "system": system,
            "reference": reference,
            "difference": _rounded(ua[system] - ua[reference]),
            "difference_ci": _interval(bounds),
        }
        if reference == "noisy_noisy" and system != "clean_clean" and gap > 0:
            bounds = cluster_interval(
                totals,
                lambda t, s=system: (
                    difference(t, s, "noisy_noisy") / difference(t, "clean_clean", "noisy_noisy")
                ),
            )
            comparison["recovered"] = _rounded((ua[system] - ua[reference]) / gap)
            comparison["recovered_ci"] = _interval(bounds)
        comparisons.append(comparison)
    return comparisons


def _seeds(rows, labels):
    """The number of seeds and, if there are several, the UA of each."""
    seeds = sorted({row["seed"] for row in rows}, key=fold_key)
    if len(seeds) == 1:
        return {"seeds": 1}
    chosen = {seed: [row for row in rows if row["seed"] == seed] for seed in seeds}
    ua = {s: ua_of(_speaker_confusions(rows, labels).sum(0)) for s, rows in chosen.items()}
    return {"seeds": len(seeds), "ua_by_seed": {seed: _rounded(ua[seed]) for seed in seeds}}


def _measure(rows, labels):
    totals = _speaker_confusions(rows, labels)
    confusion = totals.sum(0)
    estimates = _emotion_measures(confusion)
    low, high = cluster_interval(totals, _emotion_measures, limits=(0, 1))
    signal = {c: _mean([row[c] for row in rows]) for c in SIGNAL_COLUMNS}
    signal["wrong_speaker_rate"] = signal.pop("wrong_speaker")
    signal["si_sdri_ci"] = _mean_interval(rows, "si_sdri")
    return {
        "n": len({row["id"] for row in rows}),
        **{name: _rounded(value) for name, value in zip(MEASURES, estimates, strict=True)},
        **{f"{m}_ci": _interval((low[i], high[i])) for i, m in enumerate(MEASURES)},
        **signal,
        "confusion": confusion.astype(int).tolist(),
    }


def _speaker_confusions(rows, labels):
    """Confusion matrices of the speakers, ``(S, K, K)``, speakers sorted by name."""
    index = {label: number for number, label in enumerate(labels)}
    references = [index[row["reference"]] for row in rows]
    hypotheses = [index[row["hypothesis"]] for row in rows]
    pairs = np.zeros((len(rows), len(labels), len(labels)))
    pairs[np.arange(len(rows)), references, hypotheses] = 1
    return cluster_totals(pairs, [row["speaker"] for row in rows])


def _emotion_measures(confusions):
    """WA, UA and macro-F1 ``(..., 3)`` of ``(..., K, K)``."""
    return np.stack([wa_of(confusions), ua_of(confusions), macro_f1_of(confusions)], axis=-1)


def _mean(values):
    """Mean of the values that are there, rounded; None if there is none."""
    values = [value for value in values if not np.isnan(value)]
    return _rounded(np.mean(values)) if values else None


def _mean_interval(rows, column):
    """95 % interval of `_mean` over resampled speakers; None if there is no value."""
    rows = [row for row in rows if not np.isnan(row[column])]
    if not rows:
        return None
    totals = cluster_totals([[r[column], 1] for r in rows], [r["speaker"] for r in rows])
    return _interval(cluster_interval(totals, mean_of))


def _interval(bounds):
    low, high = (_rounded(bound) for bound in bounds)
    return None if low is None or high is None else [low, high]


def _rounded(value):
    # "+ 0.0" turns -0.0 into 0.0; JSON has no NaN and no infinity
    return round(float(value), _DIGITS) + 0.0 if np.isfinite(value) else None
