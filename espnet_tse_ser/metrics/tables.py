"""Per-utterance score tables: joining hypotheses, protocol and scores of extracted speech.

A table says what made it: system, tag (see `systems.tags`), configurations, evaluation scheme, dev
set and commit are the same in all rows; seed and epoch are those of a row's training.

With the scheme best_test_epoch two epochs are chosen: ``hypothesis`` is of the one with the best
UA, ``hypothesis_wa`` and ``epoch_wa``, which only these tables have, of the one with the best WA.
"""

from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.ids import check_fold, check_id
from espnet_tse_ser.metrics.comparable import check_comparable, check_whole
from espnet_tse_ser.metrics.fields import (
    MIXTURE_COLUMNS,
    SI_SDRS,
    SIGNAL_COLUMNS,
    check_filled,
    fold_key,
    index_rows,
    name_utterances,
    read_classes,
    read_number,
    read_signal,
)
from espnet_tse_ser.systems.command_line import rows_of
from espnet_tse_ser.systems.system import JOINT, name_rows

TSE_COLUMNS = ("id", "fold", "gender_state", "snr_db", *SIGNAL_COLUMNS)
PROTOCOL_COLUMNS = ("mixture", "speaker", "gender", "emotion", "gender_state", "fold")
PROTOCOL_COLUMNS += ("snr_db", "overlap", "interferer_emotions")
MADE_WITH = ("configuration", "scheme", "dev", "commit")  # the same in all rows of a table

_MAKER = ("system", "tag", "train", "test", *MADE_WITH)
_DESCRIBED = ("gender", "gender_state", "interferer_emotions")
_CHECKS = {"speaker": check_id, "fold": check_fold}
_OF_HYPOTHESES = ("p_", "hypothesis", "epoch")
_INPUT_COLUMNS = ("si_sdr_mix", "stoi_mix")  # what a noisy input has without any extraction


def score_columns(labels, two_epochs=False):
    """Columns of a ``score_utt.tsv`` for the classes ``labels``.

    Its rows are the recognitions of an utterance: one for each seed of the trainings. ``overlap``
    is the share of the target during which an interferer speaks, ``interferer_emotions`` a list
    with commas. ``two_epochs``: with ``hypothesis_wa`` and ``epoch_wa``.
    """
    described = ("id", "system", "tag", "train", "test", *MADE_WITH, "fold", "seed", "epoch")
    described += ("epoch_wa",) * two_epochs + ("speaker", "gender", "gender_state")
    described += (*MIXTURE_COLUMNS, "reference", "hypothesis")
    described += ("hypothesis_wa",) * two_epochs
    return [*described, *(f"p_{label}" for label in labels), *SIGNAL_COLUMNS]


def find_rows(scores_dir, systems, name):
    """What has a file of that name (or pattern) in ``scores_dir/<system>/<tag>``.

    Args:
        systems: name -> `System`, of all that are declared.

    Returns:
        name -> `Row`, in the order of tables.

    Raises:
        UserError: there is none, or a directory is not named after a system and its tags.
    """
    scores_dir = Path(scores_dir)
    found = {path.relative_to(scores_dir).parts[:2] for path in scores_dir.glob(f"*/*/{name}")}
    if not found:
        raise UserError(f"{scores_dir}: no */*/{name} in it; run the stages before this one")
    unknown = sorted({system for system, _ in found} - systems.keys())
    if unknown:
        raise UserError(
            f"{scores_dir}: {', '.join(unknown)}: no such system (known: {', '.join(systems)}); "
            "declare it in conf/systems, or rename or move the directory"
        )
    rows_of([["/".join(parts)] for parts in sorted(found)], systems, f"{scores_dir}:")
    return name_rows((systems[system], tag) for system, tag in found)


def read_protocol(path, folds=None):
    """Read what scoring needs of ``protocol.tsv``.

    Args:
        folds: names of the folds to keep; all when None.

    Returns:
        fold -> {mixture id -> row (dict of strings)}, in the order of ``folds``.

    Raises:
        UserError: no rows, a duplicate id, an empty field, a fold that the protocol does not have,
            or an SNR or overlap that is not one.
    """
    rows = read_tsv(path, PROTOCOL_COLUMNS, _CHECKS)
    if not rows:
        raise UserError(f"{path}: has no mixtures; run stage 2 again")
    tests = {}
    for line, (uid, row) in enumerate(index_rows(path, rows, "mixture").items(), 2):
        check_filled(path, line, row, (*_DESCRIBED, "emotion"))
        for column in ("snr_db", "overlap"):
            read_number(path, line, row, column)
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
        UserError: no rows, a duplicate id, labels or posteriors that are none or contradict one
            another (see `fields.read_classes`), or a signal score that is not one.
    """
    rows = read_tsv(path, ("id", "reference", "hypothesis"))
    labels = read_classes(path, rows)
    for line, row in enumerate(rows, 2):
        read_signal(path, line, row)
    return labels, index_rows(path, rows, "id")


def read_tse_scores(path, tests):
    """Read the scores of stage 8 as id -> row (dict of strings).

    Raises:
        UserError: a duplicate id, a score that is not one, or scores of other mixtures than those
            of ``tests`` (from `read_protocol`).
    """
    rows = read_tsv(path, TSE_COLUMNS, {"fold": check_fold})
    for line, row in enumerate(rows, 2):
        read_signal(path, line, row)
        read_number(path, line, row, "snr_db")
    scores = index_rows(path, rows, "id")
    for test in tests.values():
        for uid in test.keys() & scores.keys():
            _check_mixture(path, uid, scores[uid], test[uid])
    return scores


def _check_mixture(path, uid, score, mixture):
    for column in ("fold", "gender_state", "snr_db"):
        own, expected = score[column], mixture[column]
        if own != expected and (column != "snr_db" or float(own) != float(expected)):
            raise UserError(
                f"{path}: {uid}: {column} is {own} but the protocol says {expected}; the mixtures "
                "changed after stage 8: delete the file and run stage 8 again"
            )


def join(row, hypotheses, tests, tse_scores=None, made_with=None):
    """Join the hypotheses of one system with the protocol and the signal scores.

    Signal scores come from the hypotheses where the system extracts by itself (joint), from
    ``tse_scores`` where it is tested on denoised speech; tested on noisy speech it has the
    scores of the mixture only (if there are ``tse_scores``), tested on clean speech none.

    Args:
        row: `Row`, the system and its tag.
        hypotheses: (fold, seed) -> (path for messages, id -> row of hyp.tsv).
        tests: fold -> {id -> row of protocol.tsv}, from `read_protocol`.
        tse_scores: tag of a front-end -> {id -> row of its score_utt.tsv}, or None.
        made_with: dict with the `MADE_WITH` columns; what it lacks is "n/a".

    Returns:
        list of dicts with the keys of `score_columns`, sorted by id and seed.

    Raises:
        UserError: an id is missing or does not belong to the fold's test set, a reference is not
            the protocol's emotion, or signal scores are missing.
    """
    joined = []
    made_with = dict.fromkeys(MADE_WITH, "n/a") | (made_with or {})
    for (fold, seed), (path, rows) in hypotheses.items():
        test = tests[fold]
        _check_ids(path, rows, test, f"{row.name}, fold {fold}, seed {seed}")
        signal = _signal_scores(row, path, rows, tse_scores or {})
        for uid, hypothesis in rows.items():
            mixture = test[uid]
            if hypothesis["reference"] != mixture["emotion"]:
                raise UserError(
                    f"{path}: {uid}: reference is {hypothesis['reference']} but the protocol says "
                    f"{mixture['emotion']}; the data changed after stage 12: delete the file and "
                    "run stage 12 again"
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
                    "num_interferers": len(mixture["interferer_emotions"].split(",")),
                    **{c: v for c, v in hypothesis.items() if c.startswith(_OF_HYPOTHESES)},
                    "reference": hypothesis["reference"],
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
        UserError: no rows, an empty field, a number that is not one, labels and posteriors that
            contradict one another (`fields.read_classes`), rows of several systems or makers, or
            rows that do not fit together (`comparable.check_whole`).
    """
    rows = read_tsv(path, score_columns(()), _CHECKS | {"id": check_id})
    labels = read_classes(path, rows)
    for line, row in enumerate(rows, 2):
        check_filled(path, line, row, (*_DESCRIBED, *_MAKER, "epoch"))
        row["seed"] = str(read_number(path, line, row, "seed"))
        for column in ("snr_db", "overlap", "num_interferers"):
            row[column] = read_number(path, line, row, column)
        row |= read_signal(path, line, row)
    for column in _MAKER:
        values = sorted({row[column] for row in rows})
        if len(values) > 1:
            what = "the systems" if column == "system" else f"several {column}:"
            raise UserError(
                f"{path}: has rows of {what} {', '.join(values)}; a table is of one: delete it "
                "and run stage 13 again"
            )
    check_whole(path, rows)
    return labels, rows


def read_rows(scores_dir, systems, own=None):
    """Read ``<system>/<tag>/score_utt.tsv`` of all systems in a directory.

    Args:
        systems: name -> `System`, of all that are declared.
        own: directories ``<system>/<tag>`` that are asked for; another one that cannot be
            compared with them is left out. None: all are asked for.

    Returns:
        the labels, name of a row -> its rows (see `read_scores`), name -> `Row`, and name -> why
        it was left out.

    Raises:
        UserError: there is none, or one that is asked for is of another system or tag than its
            directory, has other labels than the others, or cannot be compared with them
            (`comparable.check_comparable`).
    """
    found = find_rows(scores_dir, systems, "score_utt.tsv")
    asked = [name for name, row in found.items() if own is None or str(row.directory) in own]
    missing = set(own or ()) - {str(found[name].directory) for name in asked}
    if missing:
        raise UserError(
            f"{scores_dir}: no {min(missing)}/score_utt.tsv in it; run stage 13 with that system"
        )
    labels, first, scores, left_out = None, None, {}, {}
    for name in sorted(found, key=lambda name: name not in asked):
        path = Path(scores_dir) / found[name].directory / "score_utt.tsv"
        try:
            own_labels, rows = _read_own(path, found[name])
            labels, first = labels or own_labels, first or (path, rows)
            if own_labels != labels:
                raise UserError(
                    f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the "
                    "systems before; run stage 13 again"
                )
            check_comparable([first, (path, rows)], one_experiment=True)
            scores[name] = rows
        except UserError as error:
            if name in asked:
                raise
            left_out[name] = str(error)
    shown = {name: row for name, row in found.items() if name in scores}
    return labels, {name: scores[name] for name in shown}, shown, left_out


def _read_own(path, row):
    labels, rows = read_scores(path)
    made = Path(rows[0]["system"]) / rows[0]["tag"]
    if made != row.directory:
        raise UserError(
            f"{path}: is the table of {made}; move it there, or delete it and run stage 13 again"
        )
    return labels, rows


def chosen_folds(text):
    """The folds of the option ``--folds``, with spaces or commas between; None for None: all.

    Raises:
        UserError: it is empty.
    """
    folds = None if text is None else text.replace(",", " ").split()
    if folds == []:
        raise UserError('--folds is empty; name folds, e.g. "1 2", or leave it out for all')
    return folds


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


def run_name(fold, seed, main_seed):
    """The directory of a training: that of the main seed is named after the fold alone."""
    return f"fold{fold}" if seed == main_seed else f"fold{fold}_seed{seed}"


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


def _signal_scores(row, path, rows, tse_scores):
    """id -> {column of SIGNAL_COLUMNS: string} for the ids of ``rows``."""
    test = row.system.test
    columns = {JOINT: SIGNAL_COLUMNS, "denoised": SIGNAL_COLUMNS, "noisy": _INPUT_COLUMNS}
    columns = columns.get(test, ())
    if test == JOINT:
        source, stage = rows, 12
    elif test == "denoised":
        source, stage = tse_scores.get(row.parts["tse"], {}), 8
    else:  # what the mixture has is the same with any front-end
        source, stage = next(iter(tse_scores.values()), {}), 8
        columns = columns if source else ()
    # The others may be empty: too little speech for STOI, interferers that are not known.
    required = [c for c in columns if c in SI_SDRS]
    missing = [
        u
        for u in rows
        if columns and (u not in source or not all(source[u].get(c) for c in required))
    ]
    if missing:
        raise UserError(
            f"{path}: no signal scores (SI-SDR) for {name_utterances(missing)}; run stage "
            f"{stage} again and score with its table"
        )
    return {
        u: {c: source[u].get(c, "") if c in columns else "" for c in SIGNAL_COLUMNS} for u in rows
    }
