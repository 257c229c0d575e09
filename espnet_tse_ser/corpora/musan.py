"""MUSAN (openslr.org/17): noise, music and speech at 16 kHz, mostly whole recordings."""

import re
from pathlib import Path

from espnet_tse_ser.corpora import Noise, check_total
from espnet_tse_ser.corpora.parts import PARTS, part_of
from espnet_tse_ser.corpora.sounds import cut, find_sounds
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.progress import progress
from espnet_tse_ser.values.kinds import Choice, Flag, Several, Text
from espnet_tse_ser.values.numbers import COUNT, SECONDS

TOTALS = {  # part: files of the official distribution
    "noise": 930,
    "noise/free-sound": 843,
    "noise/sound-bible": 87,
    "music": 660,
    "speech": 426,
}


def prepare_musan(
    root: Text(),
    subsets: Several(Choice(*TOTALS)) = ("noise",),
    complete: Flag() = True,
    piece_seconds: SECONDS = 0.0,
    min_piece_seconds: SECONDS = 2.0,
    parts: PARTS = (100.0,),
    part: COUNT = 1,
):
    """Read MUSAN (``noise/free-sound/noise-free-sound-0000.wav`` ...).

    Args:
        root: the directory ``musan``.
        subsets: noise (or noise/free-sound, noise/sound-bible), music and speech.
        complete: assert the known numbers of files.
        piece_seconds: cut every file into consecutive pieces of this length; 0: do not cut.
        min_piece_seconds: with ``piece_seconds``, drop a rest (or a whole file) shorter than this.
        parts: proportions (e.g. 30,70) by which the recordings are divided.
        part: which of these parts to take, from 1.

    Returns:
        list of `Noise` without folds, sorted; the group is the file.

    Raises:
        UserError: wrong root, subset, name or options, or a wrong total.
    """
    root = Path(root).absolute()
    noises = {}
    for subset in subsets:
        files = find_sounds(root / subset, "**/*")
        if not files:
            raise UserError(
                f"{root}: is not a MUSAN root, it has no sound in {subset}; give the directory "
                "'musan' that musan.tar.gz of openslr.org/17 unpacks to"
            )
        if complete:
            remedy = (
                "unpack musan.tar.gz of openslr.org/17 again, or for a subset set complete to false"
            )
            check_total(len(files), TOTALS[subset], f"{root / subset}: files", remedy)
        for name, path in files.items():
            kind = subset.partition("/")[0]
            if not re.fullmatch(rf"{kind}-.+-\d{{4}}", name):
                raise UserError(
                    f"{path}: the name is not {kind}-<collection>-<4 digits>; rename, move or "
                    "remove it"
                )
            noises[name] = Noise(name, str(path), name)
    pieces = cut(progress(noises.values(), "MUSAN", len(noises)), piece_seconds, min_piece_seconds)
    return part_of(pieces, parts, part)
