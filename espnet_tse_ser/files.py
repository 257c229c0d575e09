"""Writing files so that a half-written one is never taken for done, and small tables."""

import collections
import contextlib
import csv
import io
import json
import math
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from espnet_tse_ser.errors import UserError

_UNFIT = re.compile(r"[\x00-\x1f\x7f]")  # for a field of a table
_CONTROLS = bytes(b for b in (*range(32), 127) if b not in b"\t\n\r")  # what no text has


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside ``path``; rename it to ``path`` only if the body succeeds.

    The temporary name keeps the suffix of ``path`` (audio writers choose the format by it).
    The data is synced to disk before the rename.
    """
    path = Path(path)
    temporary = _temporary(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _no_remains(path, temporary):
        yield temporary
        _commit(path, temporary)


class AtomicFiles:
    """Writes many files, each like `atomic_path` does, but waits for the disk in threads.

    A file may appear some files later than it is written. All are there when the ``with`` block
    ends, also when it ends by an exception. What goes wrong in a thread is raised by the next
    `write` or at the end. A process that is killed leaves temporary files; who writes the same file
    again removes them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with AtomicFiles() as files:
    ...         files.write(f"{directory}/a.txt", b"whole")
    ...     Path(directory, "a.txt").read_text()
    'whole'
    """

    THREADS = 8  # a disk syncs several files in little more time than one
    WAITING = 64  # files that may be written and not yet be there

    def __enter__(self):
        self._pool = ThreadPoolExecutor(self.THREADS)
        self._pending = collections.deque()
        self._left = {}  # directory -> name of a file -> temporary files of it, of killed processes
        return self

    def __exit__(self, kind, error, traceback):
        self._pool.shutdown()
        if error is None:
            self._collect(0)

    def write(self, path, data):
        """Write the bytes ``data`` to ``path``."""
        path = Path(path)
        temporary = _temporary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in self._left:
            self._left[path.parent] = _find_temporary(path.parent)
        for left in self._left[path.parent].pop(path.name, []):
            _remove(left)
        with _no_remains(path, temporary) as remains:
            temporary.write_bytes(data)
            self._pending.append(self._pool.submit(self._finish, path, temporary))
            remains.pop_all()  # they are the thread's now
        self._collect(self.WAITING)

    def _finish(self, path, temporary):
        with _no_remains(path, temporary):
            _commit(path, temporary)

    def _collect(self, waiting):
        """Raise what went wrong with a file, and let no more than ``waiting`` wait."""
        while self._pending and (len(self._pending) > waiting or self._pending[0].done()):
            self._pending.popleft().result()


def _temporary(path):
    """The temporary name for ``path``, which must be such as a file may replace.

    A device or a pipe (/dev/null, for root) would be gone when a file is renamed to it.
    """
    if path.name in ("", ".."):
        raise UserError(f"'{path}' is no name of a file; give one")
    with contextlib.suppress(OSError):  # there is nothing yet, or writing will tell
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR) or path.parent == Path("/dev"):
            raise UserError(
                f"{path}: is a device, a pipe or a socket, which a file would replace; choose "
                "another name"
            )
    return path.with_name(f".tmp.{os.getpid()}.{path.name}")


def clear_remains(path):
    """Remove what processes that were killed have left of a file, which nobody writes now."""
    path = Path(path)
    for left in _find_temporary(path.parent)[path.name]:
        _remove(left)


def clear_all_remains(directory):
    """The same for all files of a directory, in which nobody writes now."""
    for lefts in _find_temporary(Path(directory)).values():
        for left in lefts:
            _remove(left)


def _find_temporary(directory):
    """Temporary files in a directory, by the name of the file that they were to become."""
    found = collections.defaultdict(list)
    for path in directory.glob(".tmp.*"):
        found[path.name.split(".", 3)[-1]].append(path)
    return found


def _commit(path, temporary):
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def _no_remains(path, temporary):
    """Remove ``temporary`` if the body fails, and let an error about it name ``path``."""
    with contextlib.ExitStack() as remains:
        remains.callback(_remove, temporary)
        try:
            yield remains
        except OSError as error:
            # A full disk is reported without a name, a failed rename with one that is soon gone.
            if str(error.filename or temporary) == str(temporary):
                error.filename = str(path)
            raise


def _remove(path):
    with contextlib.suppress(OSError):  # it is renamed, or was never made
        path.unlink()


def write_text(path, text):
    """Write ``text`` to ``path`` atomically, as UTF-8.

    Raises:
        UserError: it has what UTF-8 cannot hold, as names of files that are not UTF-8 themselves.
    """
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except UnicodeEncodeError as error:
        line = text[text.rfind("\n", 0, error.start) + 1 :].partition("\n")[0]
        raise UserError(
            f"{path}: {ascii(line)} is not UTF-8 text; is it the name of a file? Rename it"
        ) from None


def find_files(directory, pattern):
    """The files and directories that match a glob pattern, sorted, but for hidden ones.

    Those belong to nobody's data: macOS leaves ``._x.wav`` beside ``x.wav``, a process that is
    killed an unfinished file, file managers others.
    """
    directory = Path(directory)
    return sorted(
        path
        for path in directory.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )


def is_written(path):
    """Whether there is a file at ``path`` that is not empty."""
    return os.path.isfile(path) and os.path.getsize(path) > 0


def checksum(path):
    """SHA-256 of a file, as a text."""
    import hashlib

    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def to_json(value, where, **how):
    """``value`` as JSON, which has no NaN and no infinity: what has no number is None.

    Args:
        where: beginning of a message. how: further arguments of `json.dumps`.

    Raises:
        UserError: NaN or infinity is somewhere in it.
    """
    try:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        place = next(_not_finite(value), "somewhere")
        raise UserError(
            f"{where}: {place} would be NaN or infinite: what it is computed from is not finite; "
            "find out where that comes from"
        ) from None


def _not_finite(value, place="the value"):
    """Names of the places of a nested value that are NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, (list, tuple)) else items
    for key, item in items:
        yield from _not_finite(item, f"{place}.{key}" if place != "the value" else f"'{key}'")


def write_json(path, value):
    """Write ``value`` as indented JSON with sorted keys, atomically; see `to_json`."""
    write_text(path, to_json(value, path, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_text(path):
    """Read a whole text file: every line ends with ``\\n``; a byte order mark is left out.

    Raises:
        UserError: it is not UTF-8, or has a control character in it.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text (byte 0x{error.object[error.start]:02x} at position "
            f"{error.start}); convert it, e.g. with iconv, or fetch it again"
        ) from None
    if len(data.translate(None, _CONTROLS)) < len(data):
        place = next(i for i, byte in enumerate(data) if byte in _CONTROLS)
        number = data.count(b"\n", 0, place) + 1
        raise UserError(
            f"{path}: line {number}: control character 0x{data[place]:02x}; is it a text file in "
            "UTF-8? Remove the character, convert the file or fetch it again"
        )
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.lstrip("\ufeff")


def read_yaml(path):
    """Read a configuration, see `strict_yaml`.

    Raises:
        UserError: the file is missing, broken, too large or not a mapping.
    """
    from espnet_tse_ser import strict_yaml  # yaml takes a while to import

    if not Path(path).is_file():
        raise UserError(f"{path}: no such configuration")
    if Path(path).stat().st_size > 4 * strict_yaml.MAX_CHARACTERS:
        raise UserError(f"{path}: is too large for a configuration; give another file")
    config = strict_yaml.parse(read_text(path), path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a mapping of options, got {type(config).__name__}")
    return config


def read_json(path):
    """Read an object of a JSON file; a missing or broken one is a `UserError` that names it."""
    try:
        value = json.loads(read_text(path), parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, got {type(value).__name__}")
        return value
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and make it again") from None


def _refuse_constant(text):
    raise ValueError(f"{text} is no number of JSON")


def write_tsv(path, rows, columns):
    """Write dicts ``rows`` as a tab-separated table with a header line, atomically.

    Raises:
        UserError: a value has a tab, a line break or another control character in it.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        for column, value in row.items():
            if isinstance(value, (str, os.PathLike)):
                check_line(str(value), f"{path}: {column}")
        writer.writerow(row)
    write_text(path, stream.getvalue())


def check_line(text, where):
    """Raise `UserError`, beginning with ``where``, if ``text`` does not fit into a line's field."""
    if _UNFIT.search(text):
        raise UserError(
            f"{where}: {ascii(text)} has a tab, a line break or another control character in it, "
            "which a table cannot hold; rename it"
        )


def read_tsv(path, columns=(), checks=None):
    """Read a tab-separated table as a list of dicts of strings, row by row: line 2 is the first.

    Args:
        columns: that have to be there. checks: of values, a dict column -> function of the text and
            of the beginning of a message, as `ids.check_id`.

    Raises:
        UserError: the file is missing or no text, lacks one of ``columns`` or has one twice, a line
            has too few or too many fields, or a check fails.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such table; run the stage that writes it")
    lines = read_text(path).rstrip("\n").split("\n")
    reader = csv.reader(lines, delimiter="\t", strict=True)
    rows = []
    try:
        header = _header(path, next(reader), columns)
        for number, fields in enumerate(reader, 2):
            if len(fields) != len(header) or reader.line_num != number:
                raise csv.Error(f"expected {len(header)} tab-separated fields in one line")
            rows.append(dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        number = min(reader.line_num, len(rows) + 2)
        raise UserError(
            f"{path}: line {number}: {error}; correct it, or delete the file and run its stage "
            "again"
        ) from None
    for column, check in (checks or {}).items():
        for number, row in enumerate(rows, 2):
            check(row[column], f"{path}: line {number}: {column}")
    return rows


def _header(path, names, columns):
    missing = [c for c in columns if c not in names]
    if missing:
        raise UserError(
            f"{path}: line 1: column(s) {', '.join(missing)} missing; is it another table, or of "
            "an older version? Give the right one, or delete it and run its stage again"
        )
    for name, count in collections.Counter(names).items():
        if not name or count > 1:
            trouble = f"column '{name}' is there twice" if name else "a column has no name"
            raise UserError(f"{path}: line 1: {trouble}; remove one, or name it")
    return names
