"""Kaldi data directories: two-column files, one line an id, sorted in the C locale."""

import os
import re
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import check_line, read_text, write_text
from espnet_tse_ser.values.ids import check_fold, check_id, is_plain_id
from espnet_tse_ser.values.numbers import Number

TALKER, NOISE = "talker", "noise"  # the kinds of recordings, and so of sources
GROUP_TABLES = {TALKER: "utt2spk", NOISE: "utt2group"}

_LENGTH = re.compile(r"[1-9][0-9]{0,9}")  # samples of an utterance
_LEVEL = Number(-100, 100)  # LUFS


def read_table(path):
    """Read a two-column Kaldi file (``wav.scp``, ``utt2spk``, ...) as a dict id -> value.

    Raises:
        UserError: the file is missing or no text, a line has no value, a key is no id or occurs
            twice, a value is not what a file of that name has (utt2spk: ids, utt2fold: folds,
            utt2num_samples: lengths, *.scp: no pipes, ...), or the lines are not sorted in the C
            locale.
    """
    given, path = os.fspath(path) or "''", Path(path)
    if not path.is_file():
        what = "is no file" if os.path.lexists(path) else "no such file"
        raise UserError(f"{given}: {what}; run the stage that prepares this data directory")
    check_value = _CHECKS.get(path.name, _check_place if path.suffix == ".scp" else None)
    name, table, previous, checked = str(path), {}, "", set()
    text = read_text(path)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        key, _, value = line.partition(" ")
        value = value.strip()
        if not key or not value:
            raise UserError(f"{name}: line {number}: expected '<id> <value>', got {line!r}")
        if key in table:
            raise UserError(f"{name}: line {number}: duplicate id '{key}'; remove one")
        if key < previous:
            raise UserError(
                f"{name}: line {number}: '{key}' is not sorted after '{previous}'; "
                f"run `LC_ALL=C sort -o {name} {name}`"
            )
        if not is_plain_id(key):
            check_id(key, f"{name}: line {number}")
        if check_value is not None and value not in checked:
            check_value(value, f"{name}: line {number}: '{key}'")
            checked.add(value)
        table[key] = value
        previous = key
    if not table:
        raise UserError(f"{path}: is empty; run the stage that prepares this data directory")
    return table


def read_optional_table(path):
    """`read_table`, or None where there is nothing of this name."""
    return read_table(path) if os.path.lexists(path) else None


def read_groups(directory):
    """What no fold divides in a data directory: speakers, or original recordings of noise.

    Returns:
        the kind of the recordings as sources ("talker", "noise"), the name of the table that says
        so, and that as a dict id -> group.

    Raises:
        UserError: there is no such table, or more than one, or it is none.
    """
    directory = Path(directory)
    found = [(k, name) for k, name in GROUP_TABLES.items() if os.path.lexists(directory / name)]
    if len(found) > 1:
        raise UserError(
            f"{directory}: has {' and '.join(name for _, name in found)}; talkers and noise need "
            "a directory each"
        )
    kind, name = found[0] if found else next(iter(GROUP_TABLES.items()))
    return kind, name, read_table(directory / name)


def write_table(path, table):
    """Write a dict id -> value as a two-column Kaldi file, sorted in the C locale, atomically.

    Raises:
        UserError: a key is no id, or a value is none that `read_table` would read as it is.
    """
    check_value = _CHECKS.get(Path(path).name, check_line)
    lines = []
    for key in sorted(table):
        value = str(table[key])
        check_id(key, path)
        if not value or value != value.strip():
            raise UserError(
                f"{path}: id '{key}' has "
                + (f"'{value}', with white space at an end; rename it" if value else "no value")
            )
        check_value(value, f"{path}: '{key}'")
        lines.append(f"{key} {value}\n")
    write_text(path, "".join(lines))


def invert(table):
    """Invert id -> group into group -> space-separated sorted ids (``utt2spk`` to ``spk2utt``)."""
    groups = {}
    for key in sorted(table):
        groups.setdefault(table[key], []).append(key)
    return {group: " ".join(keys) for group, keys in groups.items()}


def _check_ids(text, where):
    for word in text.split(" "):
        check_id(word, where)


def _check_place(text, where):
    if "|" not in text and ".ark" not in text:
        return
    from espnet_tse_ser.audio.ark import split_place  # takes a while to import

    try:
        split_place(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_length(text, where):
    if not _LENGTH.fullmatch(text):
        raise UserError(f"{where}: expected a number of samples, got '{text}'; {_REMEDY}")


def _check_level(text, where):
    try:
        _LEVEL(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}; {_REMEDY}") from None


_REMEDY = "correct it, or delete the file and run the stage that writes it again"
_CHECKS = {  # of the values, by the name that Kaldi gives to a file
    "utt2spk": check_id,
    "utt2group": check_id,
    "utt2target": check_id,
    "utt2emo": check_id,
    "utt2category": check_id,
    "utt2fold": check_fold,
    "spk2utt": _check_ids,
    "utt2num_samples": _check_length,
    "utt2lufs": _check_level,
}
