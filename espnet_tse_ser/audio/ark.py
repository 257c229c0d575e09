"""Entries of Kaldi archives (``file.ark:offset``): audio and matrices, and nothing that runs code.

An entry begins with a header that tells its kind. Read are audio (RIFF, FLAC, and AUDIO, a file of
any format with its length before it), matrices and vectors of floats in Kaldi's binary form, and
NPY, an array of numpy with its length before it. What else kaldiio writes, such as pickles, and
Kaldi's compressed and text forms are refused.
"""

import contextlib
import io
import math
import os
import re
import stat
import struct

import numpy as np

from espnet_tse_ser.errors import UserError

_AUDIO = (b"RIFF", b"fLaC", b"AUDIO")
_KALDI = {b"FM": ("<f4", 2), b"FV": ("<f4", 1), b"DM": ("<f8", 2), b"DV": ("<f8", 1)}


def split_place(name):
    """The archive and the offset of ``file.ark:offset``; any other name and None.

    Raises:
        UserError: a pipe, or an archive without a usable offset.
    """
    text = str(name).strip()
    if text.startswith("|") or text.endswith("|"):
        raise UserError(f"{name}: pipes are not supported: write a file, and give its name")
    if not re.search(r"\.ark(:|$)", text):
        return str(name), None
    found = re.fullmatch(r"(.+\.ark):([0-9]{1,18})", text)
    if found is None:
        raise UserError(
            f"{name}: of an archive one entry is read, as file.ark:offset with the offset in "
            "bytes; ranges are not supported"
        )
    return found[1], int(found[2])


def open_file(name, kind="audio file"):
    """Open the file that has what ``name`` names, which may be a place in an archive.

    Returns:
        its descriptor and its size in bytes.

    Raises:
        UserError: there is none, or it is a directory, a pipe or another special file.
    """
    path = split_place(name)[0]
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # of pipes
    except PermissionError:
        raise
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        raise UserError(f"{path}: no such {kind}; check the name, or fetch it again") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or a device, no file"
        raise UserError(f"{path}: is {what}; give the name of an {kind}")
    return descriptor, status.st_size


def open_audio_entry(place):
    """Open an entry with audio as a binary file of its own, to be closed.

    Raises:
        UserError: it is of another kind, or cut short.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_open_archive(place))
        kind, start, end = _read_header(stream, place)
        if kind not in _AUDIO:
            raise UserError(f"{place}: holds {_describe(kind)}, not audio; check the offset")
        stack.pop_all()
        return _Part(stream, start, end)


def read_array(place):
    """Read a matrix or a vector of floats of 16, 32 or 64 bits.

    Returns:
        array of float32.

    Raises:
        UserError: the entry is of another kind, or cut short.
    """
    with _open_archive(place) as stream:
        kind, start, end = _read_header(stream, place)
        stream.seek(start)
        if kind == b"NPY":
            array = _read_numpy(stream.read(end - start))
        elif kind in _KALDI:
            array = _read_kaldi(stream, end - start, *_KALDI[kind])
        else:
            raise UserError(
                f"{place}: holds {_describe(kind)}, not a matrix of floats; check the offset"
            )
    if array is None:
        raise UserError(f"{place}: the entry is cut short or damaged; write it again")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def write_array(stream, key, array):
    """Append an entry to a binary file that can tell its place.

    float32 is written in Kaldi's form, which its own tools and ESPnet (omniio) read as well. Kaldi
    has none for float16: this is written as NPY, which only `read_array` and kaldiio read.

    Args:
        array: ``(rows, columns)`` or ``(size,)`` of float32 or float16.

    Returns:
        the offset of the entry.
    """
    stream.write(f"{key} ".encode())
    offset = stream.tell()
    if array.dtype == np.float32:
        sizes = b"".join(struct.pack("<bi", 4, size) for size in array.shape)
        stream.write((b"\0BFV " if array.ndim == 1 else b"\0BFM ") + sizes)
        stream.write(array.astype("<f4", order="C", copy=False).data)
        return offset
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    length = len(content.getbuffer())
    length_bytes = length.to_bytes((length.bit_length() + 7) // 8, "little")
    stream.write(b"NPY" + bytes([len(length_bytes)]) + length_bytes)
    stream.write(content.getbuffer())
    return offset


def _open_archive(place):
    return open(open_file(place, "archive")[0], "rb")


def _read_header(stream, place):
    """The kind of an entry, and where its content begins and ends."""
    offset, size = split_place(place)[1], stream.seek(0, 2)
    if offset >= size:
        raise UserError(f"{place}: the archive ends at byte {size}; check the offset")
    stream.seek(offset)
    head = stream.read(16)
    start, end = offset, size
    kind = next((kind for kind in (*_AUDIO, b"NPY") if head.startswith(kind)), None)
    if kind == b"RIFF":
        (length,) = struct.unpack("<I", head[4:8].ljust(4, b"\0"))
        end = offset + 8 + length if length < 0x7FFFF000 else size  # more is written to a pipe
    elif kind in (b"AUDIO", b"NPY"):
        digits = head[len(kind)] if len(head) > len(kind) else 0
        start = offset + len(kind) + 1 + digits
        end = start + int.from_bytes(head[len(kind) + 1 : len(kind) + 1 + digits], "little")
        if digits > 8 or end > size:
            raise UserError(f"{place}: the entry is cut short or damaged; write it again")
    elif kind is None:
        kind = head[2:].partition(b" ")[0] if head.startswith(b"\0B") else head[:5]
        start = offset + 3 + len(kind)
    return kind, start, min(end, size)


def _describe(kind):
    known = {b"PKL": "a pickle, which can run code", b"CM": "a compressed matrix"}
    for name, description in known.items():
        if kind.startswith(name):
            return description
    if kind in _AUDIO:
        return "audio"
    if kind in _KALDI or kind == b"NPY":
        return "a matrix or vector"
    return f"no known header ({kind.decode('latin-1')!r})"


def _read_kaldi(stream, left, dtype, dimensions):
    """The next array of a file that has ``left`` bytes more; None if it has less of it."""
    form = "<" + "bi" * dimensions
    left -= struct.calcsize(form)
    if left < 0:
        return None
    fields = struct.unpack(form, stream.read(struct.calcsize(form)))
    sizes, shape = fields[::2], fields[1::2]
    size = math.prod(shape) * int(dtype[-1])
    if set(sizes) != {4} or min(shape) < 0 or size > left:
        return None
    return np.frombuffer(stream.read(size), dtype).reshape(shape)


def _read_numpy(content):
    """An array of floats, without what `numpy.load` does with objects or with a lack of memory."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version)
        if read is None:
            return None
        shape, fortran, dtype = read(stream)
    except ValueError:
        return None
    if fortran or dtype.kind != "f":
        return None
    content = content[stream.tell() :]
    if len(content) != math.prod(shape) * dtype.itemsize:
        return None
    return np.frombuffer(content, dtype).reshape(shape)


class _Part:
    """A part of a binary file, to be read as a file."""

    def __init__(self, stream, start, end):
        self._stream, self._start, self.size, self._place = stream, start, end - start, 0
        self.close = stream.close

    def seek(self, offset, whence=0):
        """Go to a place; one before the beginning is ignored, as libsndfile asks for some."""
        place = offset + (0, self._place, self.size)[whence]
        self._place = place if place >= 0 else self._place
        return self._place

    def tell(self):
        """Return the place."""
        return self._place

    def read(self, count):
        """Return the next bytes."""
        content = self.read_at(count, self._place)
        self._place += len(content)
        return content

    def read_at(self, count, place):
        """Return bytes from a place on."""
        self._stream.seek(self._start + place)
        return self._stream.read(max(min(count, self.size - place), 0))
