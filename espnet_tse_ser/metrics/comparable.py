"""Which score tables can be compared: the one rule behind every difference and every mean.

Figures are compared only where they are of the same utterances, of the same speakers, emotions and
folds, under the same evaluation scheme, and where no value is missing for a part of them. STOI and
the wrong speaker may be undefined for single utterances: their means say how many they are of.
"""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.fields import (
    MIXTURE_COLUMNS,
    SI_SDRS,
    STOIS,
    name_utterances,
)
from espnet_tse_ser.values.ids import fold_key
from espnet_tse_ser.values.schemes import OPTIMISTIC

_IDENTITY = ("speaker", "gender", "reference", "fold")
_MIXTURE = ("gender_state", *MIXTURE_COLUMNS)


def check_comparable(tables, one_experiment=False):
    """Raise `UserError` unless tables can be compared.

    Args:
        tables: pairs of a name for messages and rows (see `tables.read_scores`).
        one_experiment: they are of the same seeds and mixtures, too.

    Raises:
        UserError: a table is not whole (`check_whole`); two are of different evaluation schemes;
            one lacks utterances (or seeds) of the other; an utterance has another speaker, gender,
            emotion or fold (or mixture) there.
    """
    tables = list(tables)
    for name, rows in tables:
        check_whole(name, rows)
    first, *others = tables
    for other in others:
        _check_schemes(first, other)
        _check_utterances(first, other, one_experiment)
        _check_values(first, other, _IDENTITY + _MIXTURE * one_experiment)


def check_whole(name, rows):
    """Raise `UserError` unless the rows of a table fit together.

    Every seed has every utterance once, of the same speaker, emotion, fold and mixture; all rows
    are of one evaluation scheme; an SI-SDR is there for all of them that have a source or for none,
    another score of an utterance in all seeds or in none.
    """
    if not rows:
        raise UserError(f"{name}: has no rows; score it again")
    both = sum("hypothesis_wa" in row for row in rows)
    if 0 < both < len(rows):
        raise UserError(
            f"{name}: {both} of {len(rows)} rows have hypothesis_wa; run stage 12 again for all "
            "folds and seeds"
        )
    _check_seeds(name, rows)
    _check_values((name, rows), (name, rows), _IDENTITY + _MIXTURE)
    for column in SI_SDRS:
        mixed = [row for row in rows if row["snr_db"] is not None]
        lacking = [row["id"] for row in mixed if row[column] != row[column]]
        if 0 < len(lacking) < len(mixed):
            raise UserError(
                f"{name}: {column} is missing for {name_utterances(set(lacking))} of "
                f"{len({row['id'] for row in mixed})}: a mean would be of the others only; run the "
                "stage that writes it again"
            )
    for column in (*STOIS, "wrong_speaker"):
        known, unknown = (
            {row["id"] for row in rows if (row[column] == row[column]) == has} for has in (1, 0)
        )
        if known & unknown:
            raise UserError(
                f"{name}: {column} is missing in a part of the seeds only for "
                f"{name_utterances(known & unknown)}; run the stage that writes it again"
            )


def _check_seeds(name, rows):
    """Every seed has every utterance, once."""
    folds = {}  # (id, seed) -> fold
    for line, row in enumerate(rows, 2):
        key = row["id"], row["seed"]
        if key in folds:
            raise UserError(
                f"{name}: line {line}: duplicate id '{row['id']}' of seed {row['seed']}; remove one"
            )
        folds[key] = row["fold"]
    for seed in sorted({seed for _, seed in folds}, key=fold_key):
        lacking = {uid: fold for (uid, _), fold in folds.items() if (uid, seed) not in folds}
        if lacking:
            fold = min(lacking.values(), key=fold_key)
            raise UserError(
                f"{name}: fold {fold}, seed {seed}: lacks "
                f"{name_utterances(uid for uid, f in lacking.items() if f == fold)} that another "
                "seed has; run the stages 12 and 13 again for all folds and seeds"
            )


def _check_schemes(*tables):
    optimistic = [name for name, rows in tables if "hypothesis_wa" in rows[0]]
    others = [name for name, rows in tables if "hypothesis_wa" not in rows[0]]
    if optimistic and others:
        raise UserError(
            f"{optimistic[0]} is of the evaluation scheme {OPTIMISTIC} (it has hypothesis_wa: "
            f"epochs are chosen on the test fold), {others[0]} is not; only figures of the same "
            "scheme can be compared: score both under one"
        )


def _check_utterances(first, other, with_seeds):
    for (name, rows), (other_name, other_rows) in ((first, other), (other, first)):
        lacking = {row["id"] for row in rows} - {row["id"] for row in other_rows}
        if lacking:
            raise UserError(
                f"{other_name}: lacks {name_utterances(lacking)} of the "
                f"{len({row['id'] for row in rows})} of {name}; a comparison needs the same "
                "utterances: score both again on the same mixtures and folds"
            )
        seeds = {row["seed"] for row in rows} - {row["seed"] for row in other_rows}
        if with_seeds and seeds:
            raise UserError(
                f"{other_name}: lacks the seed(s) {', '.join(sorted(seeds, key=fold_key))} of "
                f"{name}; run stage 13 again for all systems, folds and seeds"
            )


def _check_values(first, other, columns):
    """An utterance has the same values in both tables, and in all seeds."""
    described = {}
    for row in first[1]:
        described.setdefault(row["id"], row)
    for row in other[1]:
        expected = described[row["id"]]
        for column in columns:
            if row[column] != expected[column]:
                where = [f"in {first[0]}", f"in {other[0]}"]
                if first[0] == other[0]:
                    where = [f"of seed {r['seed']} of {first[0]}" for r in (expected, row)]
                raise UserError(
                    f"{row['id']}: {column} is {expected[column]} {where[0]}, but {row[column]} "
                    f"{where[1]}; are they of the same corpus, folds and mixtures?"
                )
