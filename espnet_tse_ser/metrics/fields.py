"""The fields of the tables that scores are made of: what each may hold, checked where it is read.

All messages name the table, the line, the id, the column and the value.
"""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.table import NONE
from espnet_tse_ser.values.ids import check_id
from espnet_tse_ser.values.numbers import SEED, Number

SI_SDRS = ("si_sdr_mix", "si_sdr", "si_sdri")
STOIS = ("stoi_mix", "stoi")
SIGNAL_COLUMNS = (*SI_SDRS, *STOIS, "wrong_speaker")
# Of a front-end's own table.
QUALITY_COLUMNS = ("ssnr_mix", "ssnr", "pesq_mix", "pesq", "tsos", "pause_level")
MIXTURE_COLUMNS = ("snr_db", "overlap", "num_interferers", "interferer_emotions")

NUMBERS = {
    "seed": SEED,
    "utterances": Number(1, 10**9, whole=True),
    "snr_db": Number(),
    "level": Number(),
    "overlap": Number(0, 1),
    "num_interferers": Number(0, 1000, whole=True),
    "si_sdr_mix": Number(-100, 100),  # `signal.SI_SDR_LIMIT`
    "si_sdr": Number(-100, 100),
    "si_sdri": Number(-200, 200),
    "stoi_mix": Number(-1, 1),
    "stoi": Number(-1, 1),
    "wrong_speaker": Number(0, 1, whole=True),
}

_PROBABILITY = Number(0, 1)
_ROUNDING = 0.0005  # of a probability with three decimals; ours have six
_DB_ROUNDING = 0.02  # of a difference of levels with two decimals
_SHOWN = 5  # ids named in a message
_REMEDY = "delete the file and run its stage again"


def read_number(path, line, row, column):
    """The number in a field; anything else is a `UserError`."""
    try:
        return NUMBERS[column](row[column])
    except ValueError as error:
        raise _refusal(path, line, row, f"{column}: {error}") from None


def read_snr(path, line, row):
    """The SNR of a row in dB; None where a mixture has no source, and so no talker either."""
    if row["gender_state"] == NONE and not row["snr_db"]:
        return None
    return read_number(path, line, row, "snr_db")


def read_signal(path, line, row):
    """The `SIGNAL_COLUMNS` that a row has as floats, NaN where the field is empty.

    Raises:
        UserError: one is not a number of its kind, or the SI-SDRs contradict one another.
    """
    values = {
        column: float(read_number(path, line, row, column)) if row[column] else float("nan")
        for column in SIGNAL_COLUMNS
        if column in row
    }
    if all(column in values for column in SI_SDRS):
        before, after, improvement = (values[column] for column in SI_SDRS)
        if abs(after - before - improvement) > _DB_ROUNDING:
            problem = f"si_sdri is {improvement:g}, but si_sdr - si_sdr_mix is {after - before:g}"
            raise _refusal(path, line, row, problem)
    return values


def check_filled(path, line, row, columns):
    """Raise `UserError` where one of the columns is empty."""
    for column in columns:
        if not row[column]:
            raise _refusal(path, line, row, f"{column} is empty")


def read_classes(path, rows):
    """The classes, in the order of the ``p_<class>`` columns.

    Raises:
        UserError: no rows or no such columns; a label that is no class; posteriors (all may be
            empty) that are no probabilities, do not add up to 1, or are larger for another class
            than the hypothesis.
    """
    if not rows:
        raise UserError(f"{path}: has no rows; delete it and run its stage again")
    labels = labels_of(rows[0])
    if not labels:
        raise UserError(
            f"{path}: has no p_<class> columns, which name the classes; delete it and run its "
            "stage again, or, of labels alone, make it with espnet_tse_ser.bin.import_hypotheses"
        )
    for label in labels:
        check_id(label, f"{path}: line 1: column 'p_{label}'")
    given = any(row[f"p_{label}"] for row in rows for label in labels)  # by all programs but some
    for line, row in enumerate(rows, 2):
        for column in ("reference", "hypothesis", "hypothesis_wa"):
            if column in row and row[column] not in labels:
                known = f"is not one of the classes {' '.join(labels)}"
                raise _refusal(path, line, row, f"{column} '{row[column]}' {known}")
        if given:
            check_posteriors(path, line, row, labels)
    return labels


def labels_of(columns):
    """The classes of the ``p_<class>`` columns, in their order."""
    return [c.removeprefix("p_") for c in columns if c.startswith("p_")]


def check_posteriors(path, line, row, labels, remedy=_REMEDY):
    """Raise `UserError` unless the posteriors of a row are probabilities that add up to 1, and none
    is larger than that of the hypothesis."""
    posteriors = {}
    for label in labels:
        try:
            posteriors[label] = _PROBABILITY(row[f"p_{label}"])
        except ValueError as error:
            raise _refusal(path, line, row, f"p_{label}: {error}", remedy) from None
    total = sum(posteriors.values())
    if abs(total - 1) > _ROUNDING * len(labels):
        raise _refusal(path, line, row, f"the posteriors add up to {total:g}, not to 1", remedy)
    best = max(posteriors, key=posteriors.get)
    if posteriors[row["hypothesis"]] < posteriors[best]:
        problem = f"hypothesis is {row['hypothesis']}, but p_{best} is the largest posterior"
        raise _refusal(path, line, row, problem, remedy)


def index_rows(path, rows, column):
    """The rows of a table by the ids in ``column``.

    Raises:
        UserError: one is no id, or occurs twice.
    """
    index = {}
    for line, row in enumerate(rows, 2):
        check_id(row[column], f"{path}: line {line}: {column}")
        if row[column] in index:
            raise UserError(f"{path}: line {line}: duplicate id '{row[column]}'; remove one")
        index[row[column]] = row
    return index


def name_utterances(ids):
    """'3 utterance(s) (a, b, c)' with at most `_SHOWN` of them named."""
    ids = sorted(ids)
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} utterance(s) ({', '.join(ids[:_SHOWN])}{more})"


def _refusal(path, line, row, problem, remedy=_REMEDY):
    uid = row["mixture"] if "mixture" in row else row["id"]
    return UserError(f"{path}: line {line}: {uid}: {problem}; {remedy}")
