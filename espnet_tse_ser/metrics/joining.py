"""Hypotheses, mixtures and scores of extracted speech, joined into the rows of a score table."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.fields import SI_SDRS, SIGNAL_COLUMNS, name_utterances
from espnet_tse_ser.metrics.tables import MADE_WITH
from espnet_tse_ser.values.ids import fold_key

_OF_HYPOTHESES = ("p_", "hypothesis", "epoch")
_INPUT_COLUMNS = ("si_sdr_mix", "stoi_mix")  # what a noisy input has without any extraction


def join(row, hypotheses, tests, tse_scores=None, made_with=None):
    """Join the hypotheses of one system with the mixture table and the signal scores.

    Signal scores come from the hypotheses where the system extracts or enhances itself, from
    ``tse_scores`` where it is tested on denoised speech; tested on noisy speech it has the
    scores of the mixture only (if there are ``tse_scores``), tested on clean speech none.

    Args:
        row: `Row`, the system and its tag.
        hypotheses: (fold, seed) -> (path for messages, id -> row of hyp.tsv).
        tests: fold -> {id -> row of mixtures.tsv}, from `read_tests`.
        tse_scores: tag of a front-end -> {id -> row of its score_utt.tsv}, or None.
        made_with: dict with the `MADE_WITH` columns; what it lacks is "n/a".

    Returns:
        list of dicts with the keys of `score_columns`, sorted by id and seed.

    Raises:
        UserError: an id is missing or does not belong to the fold's test set, a reference is not
            the mixture table's emotion, or signal scores are missing.
    """
    joined = []
    made_with = dict.fromkeys(MADE_WITH, "n/a") | (made_with or {})
    for (fold, seed), (path, rows) in hypotheses.items():
        test = tests[fold]
        _check_ids(path, rows, test, f"{row.name}, fold {fold}, seed {seed}")
        signal = _signal_scores(row, path, rows, tse_scores or {}, test)
        for uid, hypothesis in rows.items():
            mixture = test[uid]
            if hypothesis["reference"] != mixture["emotion"]:
                raise UserError(
                    f"{path}: {uid}: reference is {hypothesis['reference']} but the mixture table "
                    f"says {mixture['emotion']}; the data changed after stage 12: delete the file "
                    "and run stage 12 again"
                )
            joined.append(
                {
                    "id": uid,
                    "system": row.system.name,
                    "tag": row.tag,
                    "train": row.system.train,
                    "test": row.system.test,
                    **made_with,
                    "fold": fold,
                    "seed": seed,
                    "epoch": "n/a",
                    **{c: mixture[c] for c in ("speaker", "gender", "gender_state")},
                    **{c: mixture[c] for c in ("snr_db", "overlap", "interferer_emotions")},
                    "num_interferers": sum(map(bool, mixture["interferer_emotions"].split(","))),
                    **{c: mixture[c] for c in ("level",) if c in mixture},
                    **{c: v for c, v in hypothesis.items() if c.startswith(_OF_HYPOTHESES)},
                    "reference": hypothesis["reference"],
                    **signal[uid],
                }
            )
    return sorted(joined, key=lambda row: (row["id"], fold_key(row["seed"])))


def _check_ids(path, rows, test, run):
    for ids, problem in (
        (test.keys() - rows.keys(), "has no hypothesis for"),
        (rows.keys() - test.keys(), "has hypotheses that are not in the test set:"),
    ):
        if ids:
            raise UserError(
                f"{path}: {run}: {problem} {name_utterances(ids)}; delete the file and run stage "
                "12 again"
            )


def _signal_scores(row, path, rows, tse_scores, mixtures):
    """id -> {column of SIGNAL_COLUMNS: string} for the ids of ``rows``."""
    test = row.system.test
    columns = _INPUT_COLUMNS if test == "noisy" else ()
    columns = SIGNAL_COLUMNS if row.system.extracts else columns
    if row.system.extracts_itself:
        source, stage = rows, 12
    elif test == "denoised":
        source, stage = tse_scores.get(row.parts["tse"], {}), 8
    else:  # what the mixture has is the same with any front-end
        source, stage = next(iter(tse_scores.values()), {}), 8
        columns = columns if source else ()
    # The others may be empty: too little speech for STOI, interferers that are not known. Mixtures
    # without a source have no SI-SDR.
    required = [c for c in columns if c in SI_SDRS]
    missing = [
        u
        for u in rows
        if (columns and u not in source)
        or (mixtures[u]["snr_db"] and not all(source[u].get(c) for c in required))
    ]
    if missing:
        raise UserError(
            f"{path}: no signal scores (SI-SDR) for {name_utterances(missing)}; run stage "
            f"{stage} again and score with its table"
        )
    return {
        u: {c: source[u].get(c, "") if c in columns else "" for c in SIGNAL_COLUMNS} for u in rows
    }
