"""Per-utterance tables: of mixtures, hypotheses, extracted speech and, of all these, scores.

A score table says what made it: system, tag (see `systems.tags`), configurations, evaluation
scheme, dev set, the number of utterances in the mixture table and commit are the same in all rows;
seed and epoch are those of a row's training.

With the scheme best_test_epoch two epochs are chosen: ``hypothesis`` is of the one with the best
UA, ``hypothesis_wa`` and ``epoch_wa``, which only these tables have, of the one with the best WA.
"""

from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.metrics.comparable import check_comparable, check_whole
from espnet_tse_ser.metrics.fields import (
    MIXTURE_COLUMNS,
    SIGNAL_COLUMNS,
    check_filled,
    index_rows,
    read_classes,
    read_number,
    read_signal,
    read_snr,
)
from espnet_tse_ser.mixtures.table import CLEAN, NONE
from espnet_tse_ser.systems.command_line import rows_of
from espnet_tse_ser.systems.system import name_rows
from espnet_tse_ser.values.ids import check_fold, check_id, fold_key

TSE_COLUMNS = ("id", "fold", "gender_state", "snr_db", *SIGNAL_COLUMNS)
TABLE_COLUMNS = ("mixture", "speaker", "gender", "emotion", "gender_state", "fold")
TABLE_COLUMNS += ("snr_db", "overlap", "interferer_emotions")
MADE_WITH = ("configuration", "scheme", "dev", "utterances", "commit")  # the same in all rows

_MAKER = ("system", "tag", "train", "test", *MADE_WITH)
_CHECKS = {"speaker": check_id, "fold": check_fold}


def score_columns(labels, two_epochs=False, levels=False):
    """Columns of a ``score_utt.tsv`` for the classes ``labels``.

    Its rows are the recognitions of an utterance: one for each seed of the trainings. ``snr_db`` is
    empty where there is no source. ``overlap`` is the share of the target during which one is
    there, ``interferer_emotions`` a list with commas. ``two_epochs``: with ``hypothesis_wa`` and
    ``epoch_wa``. ``levels``: with ``level``, of mixtures that were drawn from a set of levels.
    """
    described = ("id", "system", "tag", "train", "test", *MADE_WITH, "fold", "seed", "epoch")
    described += ("epoch_wa",) * two_epochs + ("speaker", "gender", "gender_state")
    described += (*MIXTURE_COLUMNS, *("level",) * levels, "reference", "hypothesis")
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


def read_tests(path, folds=None):
    """Read what scoring needs of ``mixtures.tsv``.

    Args:
        folds: names of the folds to keep; all when None.

    Returns:
        fold -> {mixture id -> row (dict of strings)}, in the order of ``folds``.

    Raises:
        UserError: no rows, a duplicate id, an empty field, a fold that the table does not have,
            or an SNR or overlap that is not one.
    """
    rows = read_tsv(path, TABLE_COLUMNS, _CHECKS)
    if not rows:
        raise UserError(f"{path}: has no mixtures; run stage 2 again")
    tests = {}
    for line, (uid, row) in enumerate(index_rows(path, rows, "mixture").items(), 2):
        _check_described(path, line, row, "emotion")
        read_snr(path, line, row)
        read_number(path, line, row, "overlap")
        tests.setdefault(row["fold"], {})[uid] = row
    folds = sorted(tests, key=fold_key) if folds is None else folds
    unknown = [fold for fold in folds if fold not in tests]
    if unknown:
        raise UserError(
            f"{path}: no fold {', '.join(unknown)}; the mixture table has the folds "
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
            of ``tests`` (from `read_tests`).
    """
    rows = read_tsv(path, TSE_COLUMNS, {"fold": check_fold})
    for line, row in enumerate(rows, 2):
        read_signal(path, line, row)
        read_snr(path, line, row)
    scores = index_rows(path, rows, "id")
    for test in tests.values():
        for uid in test.keys() & scores.keys():
            _check_mixture(path, uid, scores[uid], test[uid])
    return scores


def _check_mixture(path, uid, score, mixture):
    for column in ("fold", "gender_state", "snr_db"):
        own, expected = score[column], mixture[column]
        if column == "snr_db" and own and expected:
            own, expected = float(own), float(expected)
        if own != expected:
            raise UserError(
                f"{path}: {uid}: {column} is {own} but the mixture table says {expected}; the "
                "mixtures changed after stage 8: delete the file and run stage 8 again"
            )


def read_scores(path):
    """Read a ``score_utt.tsv`` of stage 13.

    Returns:
        the labels, and a list of dicts; `SIGNAL_COLUMNS` are floats, NaN where empty, ``snr_db``
        (None where empty) and ``overlap`` floats, ``num_interferers`` is an int. They have
        ``hypothesis_wa`` and ``level`` where the table has.

    Raises:
        UserError: no rows, an empty field, a number that is not one, labels and posteriors that
            contradict one another (`fields.read_classes`), rows of several systems or makers, or
            rows that do not fit together (`comparable.check_whole`).
    """
    rows = read_tsv(path, score_columns(()), _CHECKS | {"id": check_id})
    labels = read_classes(path, rows)
    for line, row in enumerate(rows, 2):
        _check_described(path, line, row, *_MAKER, "epoch")
        row["seed"] = str(read_number(path, line, row, "seed"))
        if row["utterances"] != "n/a":
            read_number(path, line, row, "utterances")
        row["snr_db"] = read_snr(path, line, row)
        for column in ("overlap", "num_interferers"):
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
            f"--rows {min(missing)}: {scores_dir} has no score_utt.tsv of it; run stage 13 with "
            "that system"
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


def _check_described(path, line, row, *further):
    """Raise `UserError` where what describes the mixture of a row, or ``further``, is empty."""
    check_filled(path, line, row, ("gender", "gender_state", *further))
    if row["gender_state"] != NONE:
        check_filled(path, line, row, ("interferer_emotions",))
    if row.get("level", CLEAN) != CLEAN:
        read_number(path, line, row, "level")
