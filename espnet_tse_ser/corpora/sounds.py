"""Audio files of a corpus, and pieces of them."""

import logging
from dataclasses import replace

from espnet_tse_ser.audio.reading import open_audio
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files

logger = logging.getLogger(__name__)

SUFFIXES = (  # of what libsndfile reads
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".avr", ".htk", ".paf", ".pvf", ".sf"),
)


def find_sounds(directory, pattern, name=lambda path: path.stem):
    """The audio files that match a glob pattern, of any format, by name.

    Args:
        name: the name of a file, given its path.

    Returns:
        dict name -> path, in the order of the paths.

    Raises:
        UserError: two files have the same name.
    """
    found = {}
    for path in find_files(directory, pattern):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            other = found.setdefault(name(path), path)
            if other != path:
                raise UserError(
                    f"{path}: {other} has the same id '{name(path)}'; rename or remove one of the "
                    "two"
                )
    return found


def cut(recordings, piece_seconds, min_piece_seconds):
    """Cut recordings into consecutive pieces; the last may be shorter, down to the minimum.

    Args:
        recordings: iterable of `Utterance` or `Noise`. piece_seconds: 0: do not cut.

    Returns:
        list of the same, with start and end in seconds and a number in their ids.

    Raises:
        UserError: the lengths contradict each other, or a recording cannot be read.
    """
    if not piece_seconds:
        return list(recordings)
    if not 0 < min_piece_seconds <= piece_seconds:
        raise UserError(
            f"piece_seconds {piece_seconds} and min_piece_seconds {min_piece_seconds}: "
            "need 0 < min_piece_seconds <= piece_seconds"
        )
    pieces = []
    for whole in recordings:
        with open_audio(whole.wav) as audio:
            duration = audio.count() / audio.rate
        start, number = 0.0, 0
        while duration - start >= min_piece_seconds:
            end = min(start + piece_seconds, duration)
            pieces.append(replace(whole, utt=f"{whole.utt}-{number:03d}", start=start, end=end))
            start, number = end, number + 1
        if not number:
            logger.info("%s: dropped, %.2f s is below min_piece_seconds", whole.utt, duration)
    return pieces
