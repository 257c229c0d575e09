"""Writing files so that a half-written one is never taken for done, and small tables."""

import collections
import contextlib
import csv
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from espnet_tse_ser.errors import UserError


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside ``path``; rename it to ``path`` only if the body succeeds.

    The temporary name keeps the suffix of ``path`` (audio writers choose the format by it).
    The data is synced to disk before the rename.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
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
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in self._left:
            self._left[path.parent] = _find_temporary(path.parent)
        for left in self._left[path.parent].pop(path.name, []):
            _remove(left)
        temporary = _temporary(path)
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
    return path.with_name(f".tmp.{os.getpid()}.{path.name}")


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
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write ``value`` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_text(path):
    """Read a whole text file; one that is not UTF-8 is a `UserError`."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text (byte 0x{error.object[error.start]:02x} at position "
            f"{error.start}); convert it, e.g. with iconv, or fetch it again"
        ) from None


def read_yaml(path):
    """Read a configuration with the safe loader.

    Raises:
        UserError: the file is missing, broken or not a mapping.
    """
    import yaml

    if not Path(path).is_file():
        raise UserError(f"{path}: no such configuration")
    try:
        config = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML ({reason}); repair or copy it again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a mapping of options, got {type(config).__name__}")
    return config


def read_json(path):
    """Read a JSON file; a missing or broken one is a `UserError` that names it."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and make it again") from None


def write_tsv(path, rows, columns):
    """Write dicts ``rows`` as a tab-separated table with a header line, atomically."""
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def read_tsv(path, columns=()):
    """Read a tab-separated table as a list of dicts of strings.

    Raises:
        UserError: the file is missing or not UTF-8, lacks one of ``columns``, or a line has too
            few fields.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such table; run the stage that writes it")
    reader = csv.DictReader(io.StringIO(read_text(path)), delimiter="\t", quoting=csv.QUOTE_MINIMAL)
    missing = [c for c in columns if c not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"{path}: line 1: column(s) {', '.join(missing)} missing; was it written by an "
            "older version? Delete it and run its stage again"
        )
    rows = list(reader)
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(
                f"{path}: line {number}: expected {len(reader.fieldnames)} tab-separated fields"
            )
    return rows
