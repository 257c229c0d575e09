"""Per-utterance score tables: the systems, and joining hypotheses, protocol and TSE scores.

With the protocol best_test_epoch two epochs are chosen: ``hypothesis`` is of the one with the best
UA, ``hypothesis_wa``, which only these tables have, of the one with the best WA.
"""

from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.ids import check_fold, check_id

SIGNAL_COLUMNS = ("si_sdr_mix", "si_sdr", "si_sdri", "stoi_mix", "stoi", "wrong_speaker")
TSE_COLUMNS = ("id", "fold", "gender_state", "snr_db", *SIGNAL_COLUMNS)
MIXTURE_COLUMNS = ("snr_db", "overlap", "num_interferers", "interferer_emotions")
PROTOCOL_COLUMNS = ("mixture", "speaker", "gender", "emotion", "gender_state", "fold")
PROTOCOL_COLUMNS += ("snr_db", "overlap", "interferer_emotions")

_INPUT_COLUMNS = ("si_sdr_mix", "stoi_mix")  # what a noisy input has without any extraction
_CHECKS = {"speaker": check_id, "fold": check_fold}
_SHOWN = 5  # ids named in a message


@dataclass(frozen=True)
class System:
    """One row of the paper's tables: a model and the conditions it is trained and tested on."""

    name: str  # directory in exp/scores
    model: str  # the paper's name
    train: str
    test: str


SYSTEMS = {
    s.name: s
    for s in (
        System("clean_clean", "SC", "clean", "clean"),
        System("clean_noisy", "SC", "clean", "noisy"),
        System("noisy_noisy", "SC", "noisy", "noisy"),
        System("clean_denoised", "SC", "clean", "denoised"),
        System("base", "SB_SC (TSE-SER-base)", "denoised", "denoised"),
        System("ft", "SB+SC (TSE-SER-ft)", "joint", "joint"),
    )
}


def score_columns(labels, two_epochs=False):
    """Columns of ``exp/scores/<system>/score_utt.tsv`` for the classes ``labels``.

    Its rows are the recognitions of an utterance: one for each seed of the trainings. ``overlap``
    is the share of the target during which an interferer speaks, ``interferer_emotions`` a list
    with commas. ``two_epochs``: with ``hypothesis_wa``.
    """
    described = ("id", "system", "train", "test", "fold", "seed", "speaker", "gender")
    described += ("gender_state", *MIXTURE_COLUMNS, "reference", "hypothesis")
    described += ("hypothesis_wa",) * two_epochs
    return [*described, *(f"p_{label}" for label in labels), *SIGNAL_COLUMNS]


def find_systems(scores_dir, name):
    """The systems that have a file of that name (or pattern) in ``scores_dir/<system>``.

    Raises:
        UserError: there is none, or a directory is not named after a system.
    """
    scores_dir = Path(scores_dir)
    found = {path.relative_to(scores_dir).parts[0] for path in scores_dir.glob(f"*/{name}")}
    if not found:
        raise UserError(f"{scores_dir}: no */{name} in it; run the stages before this one")
    unknown = sorted(found - SYSTEMS.keys())
    if unknown:
        raise UserError(
            f"{scores_dir}: {', '.join(unknown)}: no such system (known: {', '.join(SYSTEMS)}); "
            "rename or move the directory"
        )
    return [system for name, system in SYSTEMS.items() if name in found]


def read_protocol(path, folds=None):
    """Read what scoring needs of ``protocol.tsv``.

    Args:
        folds: names of the folds to keep; all when None.

    Returns:
        fold -> {mixture id -> row (dict of strings)}, in the order of ``folds``.

    Raises:
        UserError: a duplicate id, a fold that the protocol does not have, or an SNR or overlap
            that is not one.
    """
    tests = {}
    for uid, row in index_rows(path, read_tsv(path, PROTOCOL_COLUMNS, _CHECKS), "mixture").items():
        _number(path, row, "snr_db", "mixture")
        if not 0 <= _number(path, row, "overlap", "mixture") <= 1:
            raise UserError(
                f"{path}: {uid}: overlap = {row['overlap']} is no share (0 to 1); run stage 2 again"
            )
        tests.setdefault(row["fold"], {})[uid] = row
    folds = sorted(tests, key=fold_key) if folds is None else folds
    unknown = [fold for fold in folds if fold not in tests]
    if unknown:
        raise UserError(
            f"{path}: no fold {', '.join(unknown)}; the protocol has the folds "
            f"{' '.join(sorted(tests, key=fold_key))}"
        )
    return {fold: tests[fold] for fold in folds}


def read_hypotheses(path):
    """Read a ``hyp.tsv``.

    Returns:
        the labels in the order of the ``p_<class>`` columns, and id -> row (dict of strings).

    Raises:
        UserError: no rows, no posteriors, a duplicate id, or a label or posterior that is not one.
    """
    rows = read_tsv(path, ("id", "reference", "hypothesis"))
    labels = _labels(path, rows)
    for row in rows:
        for label in labels:
            if not 0.0 <= _number(path, row, f"p_{label}") <= 1.0:
                raise UserError(
                    f"{path}: {row['id']}: p_{label} = {row[f'p_{label}']} is no probability; "
                    "delete the file and run stage 12 again"
                )
    return labels, index_rows(path, rows, "id")


def read_tse_scores(path):
    """Read the scores of stage 8 as id -> row (dict of strings)."""
    return index_rows(path, read_tsv(path, TSE_COLUMNS, {"fold": check_fold}), "id")


def join(system, hypotheses, tests, tse_scores=None):
    """Join the hypotheses of one system with the protocol and the signal scores.

    Signal scores come from the hypotheses where the system extracts by itself (joint), from
    ``tse_scores`` where it is tested on denoised speech; tested on noisy speech it has the
    scores of the mixture only (if there are ``tse_scores``), tested on clean speech none.

    Args:
        system: a `System`.
        hypotheses: (fold, seed) -> (path for messages, id -> row of hyp.tsv).
        tests: fold -> {id -> row of protocol.tsv}, from `read_protocol`.
        tse_scores: id -> row of the TSE's score_utt.tsv, or None.

    Returns:
        list of dicts with the keys of `score_columns`, sorted by id and seed.

    Raises:
        UserError: an id is missing or does not belong to the fold's test set, a reference is not
            the protocol's emotion, or signal scores are missing.
    """
    joined = []
    for (fold, seed), (path, rows) in hypotheses.items():
        test = tests[fold]
        _check_ids(path, rows, test, f"{system.name}, fold {fold}, seed {seed}")
        signal = _signal_scores(system, path, rows, tse_scores)
        for uid, row in rows.items():
            mixture = test[uid]
            if row["reference"] != mixture["emotion"]:
                raise UserError(
                    f"{path}: {uid}: reference is {row['reference']} but the protocol says "
                    f"{mixture['emotion']}; the data changed after stage 12: delete the file and "
                    "run stage 12 again"
                )
            joined.append(
                {
                    "id": uid,
                    "system": system.name,
                    "train": system.train,
                    "test": system.test,
                    "fold": fold,
                    "seed": seed,
                    **{c: mixture[c] for c in ("speaker", "gender", "gender_state")},
                    **{c: mixture[c] for c in ("snr_db", "overlap", "interferer_emotions")},
                    "num_interferers": len(mixture["interferer_emotions"].split(",")),
                    **{c: v for c, v in row.items() if c.startswith(("p_", "hypothesis"))},
                    "reference": row["reference"],
                    **signal[uid],
                }
            )
    return sorted(joined, key=lambda row: (row["id"], fold_key(row["seed"])))


def read_scores(path):
    """Read a ``score_utt.tsv`` of stage 13.

    Returns:
        the labels, and a list of dicts; `SIGNAL_COLUMNS` are floats, NaN where empty, ``snr_db``
        and ``overlap`` floats, ``num_interferers`` is an int. They have ``hypothesis_wa`` where
        the table has.

    Raises:
        UserError: no rows, no posteriors, an id twice for one seed or not for every seed, or a
            label, a number or signal score that is not one.
    """
    rows = read_tsv(path, score_columns(()), _CHECKS | {"id": check_id})
    labels = _labels(path, rows)
    _check_seeds(path, rows)
    for row in rows:
        row["num_interferers"] = int(_number(path, row, "num_interferers"))
        for column in ("snr_db", "overlap"):
            row[column] = _number(path, row, column)
        for column in SIGNAL_COLUMNS:
            row[column] = _number(path, row, column) if row[column] else float("nan")
    return labels, rows


def read_systems(scores_dir):
    """Read ``<system>/score_utt.tsv`` of all systems in a directory.

    Returns:
        the labels, and name of a system -> its rows, see `read_scores`.

    Raises:
        UserError: there is none, or the systems have other labels.
    """
    labels, scores = None, {}
    for system in find_systems(scores_dir, "score_utt.tsv"):
        path = Path(scores_dir) / system.name / "score_utt.tsv"
        own_labels, scores[system.name] = read_scores(path)
        labels = labels or own_labels
        if own_labels != labels:
            raise UserError(
                f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the "
                "systems before; run stage 13 again"
            )
    return labels, scores


def all_seeds(main_seed, further):
    """The seeds of the options ``--seed`` and ``--seeds`` as strings, that of ``--seed`` first.

    Raises:
        UserError: one is there twice.
    """
    seeds = [str(seed) for seed in (main_seed, *further)]
    for number, seed in enumerate(seeds):
        if seed in seeds[:number]:
            raise UserError(
                f'--seeds "{" ".join(seeds[1:])}": seed {seed} is there twice (that of --seed is '
                f"{main_seed}); name each further seed once"
            )
    return seeds


def index_rows(path, rows, column):
    """The rows of a table by the ids in ``column``.

    Raises:
        UserError: one is no id, or occurs twice.
    """
    index = {}
    for number, row in enumerate(rows, 2):
        check_id(row[column], f"{path}: line {number}: {column}")
        if row[column] in index:
            raise UserError(f"{path}: line {number}: duplicate id '{row[column]}'; remove one")
        index[row[column]] = row
    return index


def run_name(fold, seed, main_seed):
    """The directory of a training: that of the main seed is named after the fold alone."""
    return f"fold{fold}" if seed == main_seed else f"fold{fold}_seed{seed}"


def fold_key(fold):
    """Sort key of the names of folds or seeds: numbers by value, then other names."""
    return (not fold.isdecimal(), int(fold) if fold.isdecimal() else 0, fold)


def _labels(path, rows):
    """The classes in the order of the ``p_<class>`` columns; every label of a row is one."""
    if not rows:
        raise UserError(f"{path}: has no rows; delete it and run its stage again")
    labels = [c.removeprefix("p_") for c in rows[0] if c.startswith("p_")]
    if not labels:
        raise UserError(f"{path}: has no p_<class> columns; delete it and run its stage again")
    for label in labels:
        check_id(label, f"{path}: line 1: column 'p_{label}'")
    for row in rows:
        for column in ("reference", "hypothesis", "hypothesis_wa"):
            if row.get(column, labels[0]) not in labels:
                raise UserError(
                    f"{path}: {row['id']}: {column} '{row[column]}' is not one of the classes "
                    f"{' '.join(labels)}; delete the file and run its stage again"
                )
    return labels


def _check_seeds(path, rows):
    """Every seed has every utterance, once."""
    folds = {}  # (id, seed) -> fold
    for number, row in enumerate(rows, 2):
        key = row["id"], row["seed"]
        if key in folds:
            raise UserError(
                f"{path}: line {number}: duplicate id '{row['id']}' of seed {row['seed']}; "
                "remove one"
            )
        folds[key] = row["fold"]
    for seed in sorted({seed for _, seed in folds}, key=fold_key):
        lacking = {uid: fold for (uid, _), fold in folds.items() if (uid, seed) not in folds}
        if lacking:
            fold = min(lacking.values(), key=fold_key)
            raise UserError(
                f"{path}: {rows[0]['system']}, fold {fold}, seed {seed}: lacks "
                f"{_name(uid for uid, f in lacking.items() if f == fold)} that another seed has; "
                "run the stages 12 and 13 again for all folds and seeds"
            )


def _number(path, row, column, uid="id"):
    try:
        return float(row[column])
    except ValueError:
        raise UserError(
            f"{path}: {row[uid]}: {column} = '{row[column]}' is not a number; "
            "delete the file and run its stage again"
        ) from None


def _check_ids(path, rows, test, run):
    for ids, problem in (
        (test.keys() - rows.keys(), "has no hypothesis for"),
        (rows.keys() - test.keys(), "has hypotheses that are not in the test set:"),
    ):
        if ids:
            raise UserError(
                f"{path}: {run}: {problem} {_name(ids)}; delete the file and run stage 12 again"
            )


def _signal_scores(system, path, rows, tse_scores):
    """id -> {column of SIGNAL_COLUMNS: string} for the ids of ``rows``."""
    columns = {"joint": SIGNAL_COLUMNS, "denoised": SIGNAL_COLUMNS, "noisy": _INPUT_COLUMNS}
    columns = columns.get(system.test, ())
    if system.test == "joint":
        source, stage = rows, 12
    else:
        source, stage = tse_scores or {}, 8
        if system.test == "noisy" and not source:
            columns = ()
    # STOI may be empty: too little speech to measure it
    required = [c for c in columns if not c.startswith("stoi")]
    missing = [
        u
        for u in rows
        if columns and (u not in source or not all(source[u].get(c) for c in required))
    ]
    if missing:
        raise UserError(
            f"{path}: no signal scores (SI-SDR, wrong speaker) for {_name(missing)}; run stage "
            f"{stage} again and score with its table"
        )
    return {
        u: {c: source[u].get(c, "") if c in columns else "" for c in SIGNAL_COLUMNS} for u in rows
    }


def _name(ids):
    """'3 utterances (a, b, c)' with at most `_SHOWN` of them named."""
    ids = sorted(ids)
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} utterance(s) ({', '.join(ids[:_SHOWN])}{more})"
