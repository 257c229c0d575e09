"""Which recordings a command is to work on: files, folders, patterns, tables and pipes."""

import contextlib
import csv
import glob
import os
import re
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.audio.formats import OTHERS, SUFFIXES
from espnet_tse_ser.audio.reading import open_audio, read_audio
from espnet_tse_ser.errors import UserError, named
from espnet_tse_ser.files import find_files, read_text

STDIN = "-"
SEPARATOR = ";"  # of the enrollments of a line
_TABLES = {".tsv": "\t", ".txt": "\t", ".lst": "\t", ".csv": ","}
_COLUMNS = ("mixture", "enrollment", "id")


@dataclass(frozen=True)
class Item:
    """A recording, and the files with enrollments of its target."""

    id: str
    mixture: str
    enrollments: tuple = ()


def find_items(names, files=(), enrollments=()):
    """The recordings that names stand for.

    Args:
        names: of audio files; of folders: all audio in them, at any depth, but for the enrollments;
            patterns that no shell has replaced; tables (``.tsv``, ``.txt``, ``.lst``, ``.csv``): a
            recording a line, with its enrollment (or several with ``;`` between) and its id, if
            there are; ``-``: such a table on standard input. The first line of a table may name its
            columns.
        files: names of further audio files, which stand for nothing else.
        enrollments: of all recordings whose table has none.

    Returns:
        list of `Item`, whose id is the name of the file unless a table has one.

    Raises:
        UserError: a name stands for nothing, a line is none of a table, or two are the same.
    """
    enrollments = tuple(map(str, enrollments))
    found = [item for name in names for item in _expand(str(name), enrollments)]
    found += [Item(str(name), str(name), enrollments) for name in files]
    seen = set()
    for item in found:
        if item.id in seen:
            raise UserError(
                f"'{item.id}': is there twice; give it once, or another id in a table (columns "
                f"{' '.join(_COLUMNS)})"
            )
        seen.add(item.id)
    return found


def _expand(name, enrollments):
    path = Path(name)
    if not name.strip():
        raise UserError("a name of a recording is empty; is a variable of the shell not set?")
    if name == STDIN:
        return _read(_standard_input(), "\t", "standard input", enrollments)
    if os.path.isdir(name):
        wanted = SUFFIXES | OTHERS
        files = [p for p in find_files(path, "**/*") if p.suffix.lower() in wanted and p.is_file()]
        if not files:
            raise UserError(f"{name}: has no audio files in it; give another folder")
        files = _but_enrollments(name, files, enrollments)
        return [Item(file, file, enrollments) for file in files]
    if path.suffix.lower() in _TABLES:
        if not path.is_file():
            raise UserError(f"{name}: no such table of recordings; check the name")
        return _read(read_text(path), _TABLES[path.suffix.lower()], name, enrollments)
    if re.search(r"[*?\[]", name) and not os.path.lexists(name):
        files = sorted(glob.glob(name, recursive=True))
        if not files:
            raise UserError(f"{name}: no file is named like this; check the pattern")
        files = _but_enrollments(name, files, enrollments)
        return [item for file in files for item in _expand(file, enrollments)]
    return [Item(name, name, enrollments)]


def _but_enrollments(name, files, enrollments):
    files = [str(f) for f in files if not any(is_same(f, e) for e in enrollments)]
    if not files:
        raise UserError(f"{name}: has nothing in it but the enrollment; give another name")
    return files


def is_same(path, other):
    """Whether both are names of one file."""
    return os.path.exists(other) and os.path.exists(path) and os.path.samefile(path, other)


def _standard_input():
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(
            "standard input is no list of recordings; if it is a recording itself, give /dev/stdin "
            f"instead of {STDIN}"
        )
    return text.replace("\r\n", "\n")


def _read(text, delimiter, where, enrollments):
    """The items of a table."""
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    lines = csv.reader(text.split("\n"), delimiter=delimiter, quoting=quoting)
    columns, items = None, []
    for number, fields in enumerate(lines, 1):
        fields = [field.strip() for field in fields]
        if not any(fields):
            continue
        if columns is None and "mixture" in fields:
            columns = fields
            continue
        columns = columns or _COLUMNS
        if columns is _COLUMNS:  # without a header the last ones may be left out
            fields += [""] * (len(columns) - len(fields))
        row = dict(zip(columns, fields, strict=False))
        if len(fields) != len(columns) or not row["mixture"]:
            raise UserError(
                f"{where}: line {number}: expected {' '.join(columns)}, got {len(fields)} fields "
                "or no mixture; correct it"
            )
        own = tuple(filter(None, (e.strip() for e in row.get("enrollment", "").split(SEPARATOR))))
        items.append(Item(row.get("id") or row["mixture"], row["mixture"], own or enrollments))
    if not items:
        raise UserError(f"{where}: names no recordings; give one a line")
    return items


class Reader:
    """Reads recordings, and an enrollment of several of them once. A context manager.

    Pipes, as ``/dev/stdin`` and ``<(command)``, which can be read once, become files until it ends.
    """

    def __enter__(self):
        self._stack, self._files = contextlib.ExitStack(), {}
        self._known = None, None
        return self

    def __exit__(self, *error):
        self._stack.close()

    def file(self, name):
        """The file to read in the place of ``name``: itself, unless it is a pipe."""
        if name not in self._files and not _is_pipe(name):
            return name
        if name not in self._files:
            directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            self._files[name] = str(Path(directory) / "pipe")
            with _open(name) as source, open(self._files[name], "wb") as target:
                shutil.copyfileobj(source, target)
        return self._files[name]

    def seconds(self, name):
        """The length of a recording."""
        with open_audio(self.file(name)) as audio:
            return audio.count() / audio.rate

    def read(self, name):
        """Samples ``(num_samples, num_channels)``, their rate and the name."""
        return *read_audio(self.file(name)), name

    def enrollment(self, names):
        """The same of each of several files, as `TSESER.enroll` takes them."""
        if self._known[0] != names:
            self._known = names, [self.read(name) for name in names]
        return self._known[1]

    def named(self):
        """A context manager that lets errors of its body name the pipes."""
        return named(self._files)


def _is_pipe(name):
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _open(name):
    number = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", name.replace("/dev/stdin", "/dev/fd/0"))
    return open(name if number is None else os.dup(int(number[1])), "rb")  # sockets have no name
