"""MPEG audio (MP3): whether all frames are there, and how many, for libsndfile to read them all.

The number of frames is in a first frame that says nothing else (Xing's), if the encoder could write
it there. Without it libsndfile takes all frames to be as long as the first one and reads that far
only, which is half of some recordings. So it is given such a frame.
"""

import io
import struct

from espnet_tse_ser.errors import UserError

_BIT_RATES = {  # kbit/s by (is version 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)  # in Hz, of version 1
_DIVISORS = {3: 1, 2: 2, 0: 4}  # of these rates, by the bits of the version
_LAYERS = {3: 1, 2: 2, 1: 3}  # by their bits
_EMPTY_TAG = b"ID3\3\0\0\0\0\0\x0a" + bytes(10)  # without it some are not recognised in memory
_MOST_JUNK = 65536  # bytes that may precede the first frame


def begins(head):
    """Whether a file that begins with ``head`` may be MPEG audio."""
    return head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def check_whole(data, name):
    """Check that all frames of MPEG audio are there.

    Args:
        data: the file, as ``data(start, count)`` bytes with its ``size``. name: for errors.

    Returns:
        list of a file in memory that libsndfile reads in full; None: this one it does.

    Raises:
        UserError: frames are missing, there are more than the header states, or they are of layer
            I or II.
    """
    start, end = _end_of_tags(data), _end_of_audio(data)
    start = None if data(start, 4) == b"fLaC" else _find_first(data, start, end)
    if start is None:
        return None
    first = data(start, _frame_size(data(start, 4)))
    if _LAYERS[first[1] >> 1 & 3] != 3:
        raise UserError(
            f"{name}: is MPEG audio of layer I or II, and only layer III (MP3) can be read; "
            "convert it, e.g. with ffmpeg"
        )
    kind, stated = _stated_frames(first)
    if kind is not None:
        start += len(first)
    frames, stop = _count_frames(data, start, end)
    if stop is not None or frames < (stated or 0):
        of = "" if stated is None else f" of {stated}"
        more = "" if stop is None else f" and {end - stop} bytes of the next one"
        raise UserError(
            f"{name}: the file is cut short: {frames}{of} frames of audio{more} are there; fetch "
            "it again"
        )
    if kind != "Xing":
        return [io.BytesIO(_EMPTY_TAG + _xing_frame(first, frames) + data(start, end - start))]
    if frames > stated + 1:
        raise UserError(
            f"{name}: its header states {stated} frames of audio, but {frames} are there; was it "
            "put together from several files? Convert it, e.g. with ffmpeg"
        )
    return None


def _frame_size(header):
    """Bytes of the frame that begins with these 4 bytes; None if it is none."""
    if len(header) < 4:
        return None
    (bits,) = struct.unpack(">I", header)
    version, layer = bits >> 19 & 3, _LAYERS.get(bits >> 17 & 3)
    bit_rate, rate, padding = bits >> 12 & 15, bits >> 10 & 3, bits >> 9 & 1
    if bits >> 21 != 0x7FF or version == 1 or layer is None or bit_rate in (0, 15) or rate == 3:
        return None
    bit_rate = 1000 * _BIT_RATES[version == 3, layer][bit_rate - 1]
    rate = _RATES[rate] // _DIVISORS[version]
    if layer == 1:
        return 4 * (12 * bit_rate // rate + padding)
    return (144 if version == 3 or layer == 2 else 72) * bit_rate // rate + padding


def _end_of_tags(data):
    start = 0
    while (head := data(start, 10))[:3] == b"ID3" and len(head) == 10:
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if head[5] & 0x10 else 0)
    return start


def _end_of_audio(data):
    """Where the tags at the end begin."""
    end = data.size
    if data(max(end - 128, 0), 3) == b"TAG":
        end -= 128
    footer = data(max(end - 32, 0), 32)
    if footer[:8] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", footer[12:24])
        end -= size + (32 if flags >> 31 else 0)
    return max(end, 0)


def _find_first(data, start, end):
    """Where a frame begins that another one, or the end, follows."""
    found = data(start, _MOST_JUNK)
    place = found.find(b"\xff")
    while place >= 0:
        size = _frame_size(found[place : place + 4])
        if size is not None:
            after = start + place + size
            if after >= end or _frame_size(data(after, 4)) is not None:
                return start + place
        place = found.find(b"\xff", place + 1)
    return None


def _count_frames(data, start, end):
    """The number of whole frames, and where an incomplete one begins or None."""
    frames = 0
    while start < end:
        header = data(start, 4)
        size = _frame_size(header)
        if size is None:  # something else follows, or too little of a frame to be one
            return frames, start if header[:1] == b"\xff" and end - start < 4 else None
        if start + size > end:
            return frames, start
        start += size
        frames += 1
    return frames, None


def _stated_frames(frame):
    """What kind of header a first frame is, and how many frames it states to follow; or None.

    Of the two kinds libsndfile reads Xing's, which is also called Info.
    """
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return "VBRI", struct.unpack(">I", frame[50:54])[0]
    place = max(frame[:48].find(b"Xing"), frame[:48].find(b"Info"))
    if place < 0 or len(frame) < place + 12 or not frame[place + 7] & 1:
        return None, None
    stated = struct.unpack(">I", frame[place + 8 : place + 12])[0]
    return ("Xing", stated) if stated else (None, None)


def _xing_frame(frame, count):
    """A frame like this one that states the number of those that follow."""
    # Without a checksum, of a bit rate (80 or 128 kbit/s) that leaves room.
    header = bytes([frame[0], frame[1] | 1, 0x90 | frame[2] & 0x0C, frame[3]])
    is_first, is_mono = header[1] >> 3 & 3 == 3, header[3] >> 6 == 3
    side = {(True, False): 32, (False, True): 9}.get((is_first, is_mono), 17)
    content = header + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    return content.ljust(_frame_size(header), b"\0")
