"""Lists of ids, one a line: the train, dev and test lists of a fold."""

from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_text, write_text
from espnet_tse_ser.values.ids import check_id


def read_ids(path):
    """Read a list of ids.

    Raises:
        UserError: as `read_lines`, or the list is empty, or an id occurs twice.
    """
    ids = read_lines(path)
    if not ids:
        raise UserError(f"{path}: is empty; delete it and run stage 2 again")
    if len(set(ids)) < len(ids):
        seen = set()
        first = next(i for i in ids if i in seen or seen.add(i))
        raise UserError(f"{path}: duplicate id '{first}'; remove one")
    return ids


def read_lines(path):
    """Read a list of ids as it is: it may be empty, and ids may occur again.

    Raises:
        UserError: the file is missing or no text, or a line holds no id.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such list of ids; run stage 2 (mixture_table)")
    ids = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if text := line.strip():
            check_id(text, f"{path}: line {number}")
            ids.append(text)
    return ids


def write_ids(path, ids):
    """Write a list of ids, sorted, atomically."""
    write_text(path, "".join(f"{i}\n" for i in sorted(ids)))


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
