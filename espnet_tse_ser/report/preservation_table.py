"""From the table of what is preserved, an utterance and condition a line, to its figures."""

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.metrics.comparison import interval, rounded
from espnet_tse_ser.metrics.emotion import ua_of, wa_of
from espnet_tse_ser.metrics.intervals import cluster_interval, cluster_totals, mean_of
from espnet_tse_ser.metrics.preservation import EMOTION_MEASURES, MEASURES, MIN_VOICED
from espnet_tse_ser.values.ids import check_fold, check_id
from espnet_tse_ser.values.numbers import Number

ALL_MEASURES = MEASURES | EMOTION_MEASURES
DESCRIPTIONS = ("id", "speaker", "gender", "fold", "emotion", "gender_state", "condition")
COLUMNS = (*DESCRIPTIONS, "voiced", *MEASURES, "clean_hypothesis", "hypothesis", *EMOTION_MEASURES)

_DIGITS = 6
_NUMBER = Number()


def write_preservation(path, rows):
    """Write dicts with the keys `COLUMNS`; a NaN becomes an empty field."""
    write_tsv(path, [{c: _field(row[c]) for c in COLUMNS} for row in rows], COLUMNS)


def read_preservation(path):
    """Read what `write_preservation` wrote: the same dicts, measures rounded to 6 decimals.

    Raises:
        UserError: there are no rows, an utterance is there twice or lacks in a condition or is
            another's there, or a measure is no number.
    """
    rows = read_tsv(path, COLUMNS, {"id": check_id, "speaker": check_id, "fold": check_fold})
    if not rows:
        raise UserError(f"{path}: has no rows; delete it and run its stage again")
    for line, row in enumerate(rows, 2):
        for column in ("voiced", *ALL_MEASURES):
            try:
                row[column] = _NUMBER(row[column]) if row[column] else float("nan")
            except ValueError as error:
                raise UserError(
                    f"{path}: line {line}: {row['id']}: {column}: {error}; delete the file and run "
                    "its stage again"
                ) from None
    expected = sorted({row["id"] for row in rows})
    for condition, chosen in by_condition(rows).items():
        if sorted(row["id"] for row in chosen) != expected:
            raise UserError(
                f"{path}: condition {condition}: its utterances are not those of the others, each "
                "once; delete the file and run its stage again"
            )
    described = {}
    for row in rows:
        own = {c: row[c] for c in DESCRIPTIONS if c != "condition"}
        if own != described.setdefault(row["id"], own):
            raise UserError(
                f"{path}: {row['id']}: is described as {own} and as {described[row['id']]}; delete "
                "the file and run its stage again"
            )
    return rows


def by_condition(rows):
    """Condition -> its rows, sorted by id; conditions in the order of the table."""
    chosen = {}
    for row in sorted(rows, key=lambda row: row["id"]):
        chosen.setdefault(row["condition"], []).append(row)
    return {row["condition"]: chosen[row["condition"]] for row in rows}


def summarise(rows):
    """The means of all measures by condition, emotion and gender state.

    Returns:
        list of dicts: condition, emotion, gender_state ("all" or one; not one of each), n
        (utterances), too_little_voicing (the share of them that has no F0 measures), and for each
        measure that any utterance has a dict: mean, ci ``[low, high]`` (95 %, over speakers;
        None for one speaker) and n (utterances for which it is defined).
    """
    summary = []
    for condition, chosen in by_condition(rows).items():
        for column in ("all", "emotion", "gender_state"):
            values = ["all"] if column == "all" else sorted({row[column] for row in chosen})
            for value in values:
                part = [row for row in chosen if column == "all" or row[column] == value]
                group = {"emotion": "all", "gender_state": "all"}
                group |= {} if column == "all" else {column: value}
                summary.append({"condition": condition, **group, **_measure(part)})
    return summary


def changes(rows):
    """Differences in the means to the first condition, on the utterances that have both.

    Returns:
        list of dicts: condition, reference, measure, difference, ci ``[low, high]``, n.
    """
    (reference, base), *others = by_condition(rows).items()
    differences = []
    for condition, chosen in others:
        for name, measure in ALL_MEASURES.items():
            pairs = [
                {"speaker": new["speaker"], name: new[name] - old[name]}
                for old, new in zip(base, chosen, strict=True)
            ]
            width = measure.limits[1] - measure.limits[0]
            mean = _mean(pairs, name, (-width, width))
            if mean:
                mean["difference"] = mean.pop("mean")
                named = {"condition": condition, "reference": reference, "measure": name}
                differences.append({**named, **mean})
    return differences


def recognition(rows, labels):
    """WA and UA of the clean-trained recogniser, on clean speech and in every condition.

    Returns:
        list of dicts: condition, n, wa, ua and their intervals wa_ci, ua_ci ``[low, high]``.
    """
    conditions = by_condition(rows)
    decisions = {"clean": (next(iter(conditions.values())), "clean_hypothesis")}
    decisions |= {name: (chosen, "hypothesis") for name, chosen in conditions.items()}
    index = {label: number for number, label in enumerate(labels)}
    results = []
    for condition, (chosen, column) in decisions.items():
        pairs = np.zeros((len(chosen), len(labels), len(labels)))
        for row, pair in zip(chosen, pairs, strict=True):
            pair[index[row["emotion"]], index[row[column]]] = 1
        totals = cluster_totals(pairs, [row["speaker"] for row in chosen])
        result = {"condition": condition, "n": len(chosen)}
        for name, statistic in (("wa", wa_of), ("ua", ua_of)):
            result[name] = rounded(statistic(totals.sum(0)))
            result[f"{name}_ci"] = interval(cluster_interval(totals, statistic, limits=(0, 1)))
        results.append(result)
    return results


def predict(rows):
    """Does a better preserved voice keep its emotion? Among what is right on clean speech.

    Of the utterances that the clean-trained recogniser has right on clean speech, some are right
    in a condition too (kept), others not (lost). The area under the ROC curve of a measure is the
    probability that a kept one is better preserved than a lost one, ties counting half (Hanley and
    McNeil, Radiology 143, 1982): 0.5 is chance, 1 a perfect prediction. Only pairs of the same
    emotion count: otherwise a recogniser that prefers an emotion would make a prediction of
    whatever measure differs between emotions.

    Returns:
        list of dicts: condition, measure (of `MEASURES`), auc, ci ``[low, high]``, kept, lost (how
        many of them have the measure); without measures that have no such pair.
    """
    predictions = []
    for condition, chosen in by_condition(rows).items():
        right = [row for row in chosen if row["clean_hypothesis"] == row["emotion"]]
        for name, measure in MEASURES.items():
            defined = [row for row in right if not np.isnan(row[name])]
            sign = 1 if measure.higher_is_better else -1
            kept = np.array([row["hypothesis"] == row["emotion"] for row in defined], bool)
            values = [sign * row[name] for row in defined]
            speakers, emotions = ([row[c] for row in defined] for c in ("speaker", "emotion"))
            area, bounds = speaker_auc(values, kept, speakers, emotions)
            if np.isnan(area):
                continue
            predictions.append(
                {
                    "condition": condition,
                    "measure": name,
                    "auc": rounded(area),
                    "ci": interval(bounds),
                    "kept": int(kept.sum()),
                    "lost": int((~kept).sum()),
                }
            )
    return predictions


def speaker_auc(values, positives, speakers, strata=None):
    """Area under the ROC curve with a 95 % interval over speakers.

    Args:
        values: ``(N,)``, larger where positives are expected. positives: ``(N,)`` bool.
        speakers: of each, a sequence of N. strata: a sequence of N; only pairs of a positive and
            a negative of the same stratum count. None: all pairs.

    Returns:
        the area (NaN if there is no pair), and ``(low, high)`` (NaN if one speaker has a part in
        all pairs).
    """
    values, positives = np.asarray(values, np.float64), np.asarray(positives, bool)
    difference = values[positives][:, None] - values[~positives]
    strata = np.zeros(len(values)) if strata is None else np.asarray(strata, str)
    counted = strata[positives][:, None] == strata[~positives]
    names, index = np.unique(np.asarray(speakers, str), return_inverse=True)
    member = np.eye(len(names))[index]
    # (S, S): pairs of a positive of the one and a negative of the other speaker
    pairs = member[positives].T @ counted @ member[~positives]
    wins = member[positives].T @ (counted * 0.5 * (np.sign(difference) + 1)) @ member[~positives]

    def area(weights):
        won, of = (np.einsum("rs,st,rt->r", weights, table, weights) for table in (wins, pairs))
        return np.divide(won, of, out=np.full(len(of), np.nan), where=of > 0)

    # The area is no function of sums over speakers, but of which of them are there.
    drawn = np.eye(len(names))
    return area(drawn.sum(0)[None])[0], cluster_interval(drawn, area, limits=(0, 1))


def _measure(rows):
    means = {name: _mean(rows, name, measure.limits) for name, measure in ALL_MEASURES.items()}
    return {
        "n": len(rows),
        "too_little_voicing": rounded(np.mean([row["voiced"] < MIN_VOICED for row in rows])),
        **{name: mean for name, mean in means.items() if mean},
    }


def _mean(rows, column, limits):
    """Mean, interval and number of the values that are there; None if there is none."""
    rows = [row for row in rows if not np.isnan(row[column])]
    if not rows:
        return None
    totals = cluster_totals([[r[column], 1] for r in rows], [r["speaker"] for r in rows])
    bounds = cluster_interval(totals, mean_of, limits=limits)
    return {"mean": rounded(mean_of(totals.sum(0))), "ci": interval(bounds), "n": len(rows)}


def _field(value):
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{_DIGITS}f}"
    return value
