"""Whether an audio file is whole: what its container says against what is there.

libsndfile reads what there is of a file that was cut short, mostly without a word. So the lengths
that a container states are read here, and where it states none, the end of its stream is looked
for. A few cut files cannot be told from whole ones: MPEG audio and FLAC that state no length and
were cut exactly between two frames, and the formats that never state one (IRCAM, PAF, PVF, XI).
"""

import io
import itertools
import re
import struct

from espnet_tse_ser.audio import mpeg
from espnet_tse_ser.errors import UserError

_MOST_CHUNKS = 10000
_STREAMED = ((0x7FFFF000, 0x80000000), (0xFFFFF000, 0xFFFFFFFF))  # sizes written to a pipe


def check_whole(read, size, name):
    """Check that all of an audio file is there.

    Args:
        read: gives ``read(count, start)`` bytes of the file. size: of the file in bytes.
        name: what an error calls it.

    Returns:
        list of files in memory to read one after the other in its place, where libsndfile would not
        read all; else None.

    Raises:
        UserError: a part is missing, or there is more in the file than would be read.
    """
    data = _Bytes(read, size)
    head = data(0, 1024)
    check = _CHECKS.get(head[:4]) or _CHECKS.get(head[:2])
    if check is None:
        return mpeg.check_whole(data, name) if mpeg.begins(head) else None
    shortage = check(data, head)
    if shortage is not None:
        raise UserError(f"{name}: the file is cut short or damaged: {shortage}; fetch it again")
    return _links(data) if check is _check_ogg else None


class _Bytes:
    """A file whose bytes are asked for by their place, mostly in their order."""

    def __init__(self, read, size):
        self._read, self.size = read, size
        self._start, self._window = 0, read(1024, 0)

    def __call__(self, start, count):
        place = start - self._start
        if start >= self.size:  # maybe where no file can have anything
            return b""
        if place < 0 or place + count > len(self._window):
            self._start, self._window = start, self._read(max(count, 65536), start)
            place = 0
        return self._window[place : place + count]

    def unpack(self, form, start):
        """The values of `struct`'s ``form`` at ``start``; zeros beyond the end."""
        size = struct.calcsize(form)
        found = self(start, size)
        return struct.unpack(form, found if len(found) == size else found.ljust(size, b"\0"))


def _shortage(data, start, size):
    """What is there of ``size`` bytes from ``start`` on, or None if all is."""
    there = max(data.size - start, 0)
    return f"{there} of {size} bytes of audio are there" if there < size else None


def _is_streamed(size):
    return any(low <= size <= high for low, high in _STREAMED)


def _find_chunk(data, start, form, names, counted=0, align=2):
    """Place and size of the content of the first chunk that has one of ``names``.

    Args:
        start: of the first chunk. form: of a chunk's name and size; a size counts ``counted`` bytes
            more than the content has. align: what the places of chunks are multiples of.
    """
    length = struct.calcsize(form)
    for _ in range(_MOST_CHUNKS):
        if start >= data.size:
            return None
        name, size = data.unpack(form, start)
        start += length
        size -= counted
        if name[:4] in names:
            return start, size
        if size < 0:
            return None
        start += size + -size % align
    return None


def _check_riff(data, head):
    form = ">4sI" if head.startswith(b"RIFX") else "<4sI"
    # Some writers do not fill up chunks of odd size.
    found = _find_chunk(data, 12, form, [b"data"]) or _find_chunk(
        data, 12, form, [b"data"], align=1
    )
    if found is None:
        return None
    start, size = found
    if size == 0xFFFFFFFF and head[12:16] == b"ds64":
        (size,) = data.unpack("<Q", 28)
        return None if size == 2**64 - 1 else _shortage(data, start, size)
    return None if _is_streamed(size) else _shortage(data, start, size)


def _check_w64(data, head):
    found = _find_chunk(data, 40, "<16sQ", [b"data"], counted=24, align=8)
    return None if found is None or found[1] >= 2**62 else _shortage(data, *found)


def _check_iff(data, head):
    found = _find_chunk(data, 12, ">4sI", [b"SSND", b"BODY"])
    if found is None or _is_streamed(found[1]):
        return None
    start, size = found
    header = 8 if head[8:11] == b"AIF" else 0  # offset and block size
    return _shortage(data, start + header, size - header)


def _check_au(data, head):
    start, size = data.unpack(">II" if head.startswith(b".snd") else "<II", 4)
    return None if _is_streamed(size) else _shortage(data, start, size)


def _check_caf(data, head):
    found = _find_chunk(data, 8, ">4sq", [b"data"], align=1)
    return None if found is None else _shortage(data, found[0] + 4, found[1] - 4)  # less a counter


def _check_voc(data, head):
    (start,) = data.unpack("<H", 20)
    for _ in range(_MOST_CHUNKS):
        kind, *size = data.unpack("<4B", start)
        if not 1 <= kind <= 9:  # 0 is the end
            return None
        size = int.from_bytes(bytes(size), "little")
        start += 4
        if start + size > data.size:
            return _shortage(data, start, size)
        start += size
    return None


def _check_nist(data, head):
    pattern = rb"\b(sample_count|channel_count|sample_n_bytes) -(?:i|s\d+) (\d{1,15})\b"
    fields = dict(re.findall(pattern, head))
    if len(fields) < 3 or not head[8:16].strip().isdigit():
        return None
    size = 1
    for value in fields.values():
        size *= int(value)
    return _shortage(data, int(head[8:16]), size)


def _check_avr(data, head):
    channels, bits, samples = data.unpack(">hh", 12) + data.unpack(">I", 26)
    return _shortage(data, 128, samples * (1 + bool(channels)) * bits // 8)


def _check_mpc2k(data, head):
    channels, samples = data.unpack("<B", 21) + data.unpack("<I", 26)
    return _shortage(data, 42, 2 * samples * (1 + channels))


def _check_sds(data, head):
    """Packets of 127 bytes, of which 120 are audio, 7 bits in each."""
    bits, low, middle, high = data.unpack("<B", 6) + data.unpack("<3B", 10)
    samples = 120 // max(-(-bits // 7), 2)
    count = -(-(low | middle << 7 | high << 14) // samples)
    for number in range(min(count, data.size // 127)):  # libsndfile prints what is wrong
        packet = data(21 + 127 * number, 127)
        is_sound = packet[:2] + packet[3:4] + packet[126:] == b"\xf0\x7e\x02\xf7"
        if len(packet) == 127 and not is_sound:
            return f"packet {number + 1} of {count} is none"
    return _shortage(data, 21, count * 127)


def _check_wve(data, head):
    return _shortage(data, 32, *data.unpack(">I", 18))


def _check_mat4(data, head):
    if head[20:30] != b"samplerate":
        return None
    order = ">" if any(head[:4]) else "<"
    start = 0
    for _ in range(2):  # the rate and the samples
        kind, rows, columns, _, letters = data.unpack(order + "5I", start)
        size = rows * columns * {0: 8, 10: 4, 20: 4, 30: 2}.get(kind % 1000, 1)
        start += 20 + letters + size
    return _shortage(data, start - size, size)


def _check_mat5(data, head):
    form = "<4sI" if head[126:128] == b"IM" else ">4sI"
    _, size = data.unpack(form, 128)  # of the rate; the samples follow, after 48 bytes about them
    start = 136 + size + 8 + 48
    _, size = data.unpack(form, start)
    return _shortage(data, start + 8, size)


def _check_ogg(data, head):
    """Every stream that begins must end; the container states no length."""
    end, unfinished = 0, set()
    for start, end, flags, serial in _pages(data):
        if end > data.size:
            return f"{data.size - start} of {end - start} bytes of its page at {start} are there"
        if flags & 2:
            unfinished.add(serial)
        if flags & 4:
            unfinished.discard(serial)
    if unfinished:
        return f"{end} bytes are there, and the end of the stream is not among them"
    return None


def _links(data):
    """The parts of an Ogg file that was put together from several; None if it was not."""
    starts, was_first, end = [], False, 0
    for start, stop, flags, _ in _pages(data):
        end, is_first = stop, bool(flags & 2)
        if is_first and not was_first:
            starts.append(start)
        was_first = is_first
    if len(starts) < 2:
        return None
    return [io.BytesIO(data(a, b - a)) for a, b in itertools.pairwise([*starts, end])]


def _pages(data):
    """Where each page of an Ogg file begins and ends, its flags and the number of its stream."""
    start = 0
    while data(start, 4) == b"OggS":
        _, flags, _, serial, _, _, segments = data.unpack("<BBqIIIB", start + 4)
        end = start + 27 + segments + sum(data(start + 27, segments))
        yield start, end, flags, serial
        start = end


_CHECKS = {  # how the file begins -> what is missing of it
    b"RIFF": _check_riff,
    b"RIFX": _check_riff,
    b"RF64": _check_riff,
    b"BW64": _check_riff,
    b"riff": _check_w64,
    b"FORM": _check_iff,
    b".snd": _check_au,
    b"dns.": _check_au,
    b"caff": _check_caf,
    b"Crea": _check_voc,
    b"NIST": _check_nist,
    b"2BIT": _check_avr,
    b"\x01\x04": _check_mpc2k,
    b"\xf0\x7e": _check_sds,
    b"ALaw": _check_wve,
    b"MATL": _check_mat5,
    b"\0\0\0\0": _check_mat4,
    b"\0\0\3\xe8": _check_mat4,
    b"OggS": _check_ogg,
    b"fLaC": lambda data, head: None,  # libsndfile tells
}
