"""Which files are audio by their name, and what to do with those that are not read."""

import shlex
from pathlib import Path

READ = "WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF, W64 and RF64"
_READ = ("aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd")
SUFFIXES = frozenset(f".{name}" for name in (*_READ, "w64", "wav", "wave"))
_OTHERS = ("3gp", "aac", "ac3", "alac", "amr", "ape", "avi", "dts", "m4a", "m4b", "mka", "mkv")
_OTHERS += ("mov", "mp4", "mpc", "ra", "tta", "webm", "wma", "wmv", "wv")
OTHERS = frozenset(f".{name}" for name in _OTHERS)  # that ffmpeg converts


def remedy(path):
    """What to do with a file that is not read.

    >>> remedy("my talk.m4a")  # doctest: +ELLIPSIS
    "read are WAV, ... and RF64; convert it: ffmpeg -i 'my talk.m4a' 'my talk.wav'"
    """
    path = Path(path)
    if path.suffix.lower() not in OTHERS:
        return "fetch or convert the file again"
    names = (shlex.quote(str(name)) for name in (path, path.with_suffix(".wav")))
    return f"read are {READ}; convert it: ffmpeg -i {' '.join(names)}"
