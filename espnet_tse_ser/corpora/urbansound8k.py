"""UrbanSound8K (urbansounddataset.weebly.com): 8732 sounds of a city, up to 4 s, from Freesound."""

import re
from collections import Counter
from pathlib import Path

from espnet_tse_ser.corpora import Noise, check_total
from espnet_tse_ser.corpora.parts import PARTS, part_of
from espnet_tse_ser.corpora.sounds import find_sounds
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Choice, Flag, Several, Text
from espnet_tse_ser.values.numbers import COUNT

FOLDS = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)  # clips in fold1, fold2, ...
CLASSES = ("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling")
CLASSES += ("engine_idling", "gun_shot", "jackhammer", "siren", "street_music")

_NAME = re.compile(r"(\d+)-(\d)-\d+-\d+")  # source-class-occurrence-slice


def prepare_urbansound8k(
    root: Text(),
    classes: Several(Choice(*CLASSES)) = CLASSES,
    complete: Flag() = True,
    parts: PARTS = (100.0,),
    part: COUNT = 1,
):
    """Read UrbanSound8K (``[audio/]fold<1-10>/<source>-<class>-<occurrence>-<slice>.wav``).

    Other formats than wave will do. The corpus' ten folds are not kept: they are not those of the
    targets, and five of the 1297 sources lie in two of them.

    Args:
        root: the directory that holds ``audio`` or ``fold1`` ...
        classes: the classes to take; children_playing and street_music hold voices.
        complete: assert the known number of clips of each fold.
        parts: proportions (e.g. 30,70) by which the recordings are divided.
        part: which of these parts to take, from 1.

    Returns:
        list of `Noise` without folds, sorted. The group is the recording of Freesound,
        ``fs<source>``, as it is in ESC-50.

    Raises:
        UserError: wrong root or name, or a wrong total.
    """
    root = Path(root).absolute()
    base = root / "audio" if (root / "audio").is_dir() else root
    clips = find_sounds(base, "fold[0-9]*/*")
    if not clips:
        raise UserError(
            f"{root}: is not an UrbanSound8K root, there is no sound in fold1 to fold10 of it or "
            "of its directory audio; give the directory 'UrbanSound8K' that the archive unpacks to"
        )
    if complete:
        remedy = "unpack the archive again, or for a subset set complete to false"
        counts = Counter(path.parent.name for path in clips.values())
        for number, expected in enumerate(FOLDS, 1):
            what = f"{base / f'fold{number}'}: clips"
            check_total(counts[f"fold{number}"], expected, what, remedy)
    noises = []
    for name, path in clips.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{path}: the name is not <source>-<class>-<occurrence>-<slice>; rename, move or "
                "remove it"
            )
        if CLASSES[int(match[2])] in classes:
            noises.append(Noise(f"us8k-{name}", str(path), f"fs{match[1]}"))
    return part_of(noises, parts, part)
