"""Kaldi data directories: two-column files, one line an id, sorted in the C locale."""

import io
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_text, write_text


def read_table(path):
    """Read a two-column Kaldi file (``wav.scp``, ``utt2spk``, ...) as a dict id -> value.

    Raises:
        UserError: the file is missing or not UTF-8, a line has no value, an id occurs twice,
            or the lines are not sorted in the C locale.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the stage that prepares this data directory")
    table, previous = {}, ""
    for number, line in enumerate(io.StringIO(read_text(path)), 1):
        key, _, value = line.rstrip("\n").partition(" ")
        value = value.strip()
        if not key or not value:
            raise UserError(f"{path}: line {number}: expected '<id> <value>', got {line!r}")
        if key in table:
            raise UserError(f"{path}: line {number}: duplicate id '{key}'; remove one")
        if key < previous:
            raise UserError(
                f"{path}: line {number}: '{key}' is not sorted after '{previous}'; "
                f"run `LC_ALL=C sort -o {path} {path}`"
            )
        table[key] = value
        previous = key
    if not table:
        raise UserError(f"{path}: is empty; run the stage that prepares this data directory")
    return table


def write_table(path, table):
    """Write a dict id -> value as a two-column Kaldi file, sorted in the C locale, atomically."""
    for key, value in table.items():
        if not key or any(c.isspace() for c in key):
            raise UserError(f"{path}: id '{key}' is empty or has a space in it; rename it")
        if str(value).strip() == "":
            raise UserError(f"{path}: id '{key}' has no value")
    write_text(path, "".join(f"{key} {table[key]}\n" for key in sorted(table)))


def invert(table):
    """Invert id -> group into group -> space-separated sorted ids (``utt2spk`` to ``spk2utt``)."""
    groups = {}
    for key in sorted(table):
        groups.setdefault(table[key], []).append(key)
    return {group: " ".join(keys) for group, keys in groups.items()}
