"""ESC-50 (github.com/karolpiczak/ESC-50): 2000 sounds of 5 s, of 50 classes, from Freesound."""

import re
from collections import Counter
from pathlib import Path

from espnet_tse_ser.corpora import Noise, check_total
from espnet_tse_ser.corpora.parts import PARTS, part_of
from espnet_tse_ser.corpora.sounds import find_sounds
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Flag, Text
from espnet_tse_ser.values.numbers import COUNT

NUM_FOLDS, NUM_CLASSES, CLIPS = 5, 50, 8  # so many clips a class and fold

# fold-source-take-class; ESC-10 alone has the class in the name of the directory
_NAME = re.compile(r"([1-5])-(\d+)-[A-Z](?:-(\d{1,2}))?")


def prepare_esc50(
    root: Text(),
    folds: Flag() = False,
    complete: Flag() = True,
    parts: PARTS = (100.0,),
    part: COUNT = 1,
):
    """Read ESC-50 (``audio/<fold>-<source>-<take>-<class>.wav``).

    Other formats than wave will do, and ESC-10 as it was first distributed
    (``001 - Dog bark/<fold>-<source>-<take>.ogg``; not complete).

    Args:
        root: the directory that holds ``audio`` and ``meta``.
        folds: keep the corpus' own folds 1 to 5, which then have to be those of the targets.
        complete: assert the 2000 clips, 8 of each class and fold.
        parts: proportions (e.g. 30,70) by which the recordings are divided.
        part: which of these parts to take, from 1.

    Returns:
        list of `Noise`, sorted. The group is the recording of Freesound, ``fs<source>``, as it is
        in UrbanSound8K.

    Raises:
        UserError: wrong root or name, or a wrong total.
    """
    root = Path(root).absolute()
    clips = find_sounds(root, "audio/*") or find_sounds(root, "[0-9][0-9][0-9] - */*")
    if not clips:
        raise UserError(
            f"{root}: is not an ESC-50 root, there is no sound in its directory audio; give the "
            "directory 'ESC-50-master' that the archive unpacks to"
        )
    noises, counts = [], Counter()
    for name, path in clips.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{path}: the name is not <fold>-<source>-<take>-<class>; rename, move or remove it"
            )
        fold, source, category = match.groups()
        counts[int(fold), category and int(category)] += 1
        noises.append(Noise(f"esc50-{name}", str(path), f"fs{source}", fold if folds else None))
    if complete:
        _check_complete(root / "audio", counts)
    return part_of(noises, parts, part)


def _check_complete(directory, counts):
    remedy = "unpack the archive again, or for a subset set complete to false"
    expected = NUM_FOLDS * NUM_CLASSES * CLIPS
    check_total(counts.total(), expected, f"{directory}: clips", remedy)
    for fold in range(1, 1 + NUM_FOLDS):
        for category in range(NUM_CLASSES):
            what = f"{directory}: clips of class {category} in fold {fold}"
            check_total(counts[fold, category], CLIPS, what, remedy)
