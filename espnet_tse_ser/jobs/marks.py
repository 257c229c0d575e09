"""What a step has done, told by files in the directory that it writes.

``.done[.NAME]`` is the record of a step that is done: the command, its options and the checksums of
its inputs. Until then the file is called ``.begun[.NAME]``. ``.wrote[.NAME]`` names the files that
the step has left in the directory. One is there if it is not empty, and a list (``*.scp``) if all
that it lists of the directory is: lists name audio of the corpora too, which no step has written.

Imports nothing outside the standard library: a step that is done is to take no time.
"""

import contextlib
import os
import stat
import time
import zlib

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Marks:
    """The marks of one step.

    Args:
        directory: that it writes. name: tells several steps of one directory apart; "" for none.
    """

    def __init__(self, directory, name=""):
        self.directory = directory
        self.suffix = f".{name}" if name else ""

    def path(self, kind):
        """The path of a mark, of a ``kind`` such as "done" or "lock"."""
        return f"{self.directory}/.{kind}{self.suffix}"

    def state(self, record):
        """How far the step with this record is, and the file that tells.

        Returns:
            ("done", mark); ("gone", the first that was written and is no more);
            ("begun", mark); ("other", the mark of one with another record); ("new", None), also
            where one with another record was begun and has left nothing but its log.
        """
        done, begun = self.path("done"), self.path("begun")
        if read_record(done) == record:
            gone = self.first_gone()
            return ("done", done) if gone is None else ("gone", gone)
        for mark in (done, begun):
            if not os.path.exists(mark):
                continue
            if read_record(mark) == record:
                return "begun", mark
            if mark == done or self._has_left_something():
                return "other", mark
        return "new", None

    def _has_left_something(self):
        return any(not n.startswith(".") and n != "log" for n in os.listdir(self.directory))

    def begin(self, record):
        """Mark the step as begun, and no longer as done."""
        for kind in ("done", "wrote"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(kind))
        _write(self.path("begun"), f"{record}\n")

    def finish(self, patterns="", is_training=False):
        """Mark it as done, with what is there and matches ``patterns``.

        Args:
            patterns: words relative to the directory, which may have wildcards. is_training: give
                the mark a line of its own for each run: training twice need not give the same.
        """
        if patterns.split():
            self._note_outputs(patterns.split())
        if is_training:
            with open(self.path("begun"), "a", encoding="utf-8") as stream:
                stream.write(f"run: {int(time.time())}.{os.urandom(2).hex()}\n")
        os.replace(self.path("begun"), self.path("done"))

    def _note_outputs(self, patterns):
        import glob  # a step that is done can do without

        found = {name for p in patterns for name in glob.glob(p, root_dir=self.directory)}
        found = {name for name in found if _is_written(f"{self.directory}/{name}")}
        _write(self.path("wrote"), "".join(f"{name}\n" for name in sorted(found, key=os.fsencode)))

    def first_gone(self):
        """The first file that was written and is not there any more; None if all are."""
        try:
            names = _lines(self.path("wrote"))
        except FileNotFoundError:
            return None
        for name in names:
            if not _is_written(f"{self.directory}/{name}"):
                return f"{self.directory}/{name}"
        lists = [f"{self.directory}/{name}" for name in names if name.endswith(".scp")]
        return next(filter(None, map(self._first_gone_of, lists)), None)

    def _first_gone_of(self, path):
        own = os.path.abspath(self.directory) + "/"
        for line in _lines(path):
            listed = line.partition(" ")[2]
            archive, mark, _ = listed.rpartition(".ark:")  # FILE.ark:BYTE
            listed = f"{archive}.ark" if mark else listed
            if listed.startswith(own) and not _is_written(listed):
                return listed
        return None


def read_record(mark):
    """The record in a mark, without the lines of its runs; None where there is no mark."""
    try:
        return _read(mark).rstrip("\n").partition("\nrun: ")[0]
    except FileNotFoundError:
        return None


def checksum(path):
    """The line that ``cksum`` of POSIX prints: checksum, bytes, path.

    Its polynomial is that of zlib, which goes through the bits of each byte the other way round.
    """
    with open(path, "rb") as stream:
        data = stream.read()
    size = len(data)
    data += size.to_bytes((size.bit_length() + 7) // 8, "little")
    crc = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF)
    return f"{int(f'{crc:032b}'[::-1], 2)} {size} {path}"


def _is_written(path):
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _lines(path):
    return _read(path).split("\n")[:-1]


def _read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        return stream.read()


def _write(path, text):
    try:
        with open(f"{path}.tmp", "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
    except OSError as error:
        error.filename = path  # a full disk is told without a name
        raise
    os.replace(f"{path}.tmp", path)
