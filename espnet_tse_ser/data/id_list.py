"""Lists of ids, one a line: the train, dev and test lists of a fold."""

from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_text


def read_ids(path):
    """Read a list of ids.

    Raises:
        UserError: the file is missing, not UTF-8 or empty, or an id occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such list of ids; run stage 2")
    ids = read_text(path).split()
    if not ids:
        raise UserError(f"{path}: is empty; run stage 2 again")
    if len(set(ids)) < len(ids):
        seen = set()
        first = next(i for i in ids if i in seen or seen.add(i))
        raise UserError(f"{path}: duplicate id '{first}'; remove one")
    return ids


def select(table, ids, name):
    """The entries of ``table`` (read from the file ``name``) for ``ids``.

    Raises:
        UserError: an id is not in the table.
    """
    missing = [i for i in ids if i not in table]
    if missing:
        raise UserError(
            f"{name}: {len(missing)} of {len(ids)} id(s) are missing, first '{missing[0]}'; run "
            "the stage that writes it"
        )
    return {i: table[i] for i in ids}
