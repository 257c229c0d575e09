"""Any folder of sounds, for noise that no other corpus' layout fits."""

import logging
import re
import unicodedata
from collections import Counter
from pathlib import Path

from espnet_tse_ser.corpora import Noise
from espnet_tse_ser.corpora.parts import PARTS, part_of
from espnet_tse_ser.corpora.sounds import SUFFIXES, find_sounds
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import checksum, find_files
from espnet_tse_ser.values.kinds import Text
from espnet_tse_ser.values.numbers import COUNT

logger = logging.getLogger(__name__)


def prepare_folder(root: Text(), parts: PARTS = (100.0,), part: COUNT = 1):
    """Read all sounds in a folder and in the folders in it, each a recording of its own.

    Only copies of a file are one recording, as a fold must not divide them. What no format of
    sound has as the end of its name is left out, and counted in the log.

    Args:
        root: the folder.
        parts: proportions (e.g. 30,70) by which the recordings are divided.
        part: which of these parts to take, from 1.

    Returns:
        list of `Noise` without folds, sorted. Ids (and groups, but for copies) are the paths
        below ``root`` without their ends, with ``-`` between folders and ``_`` for what an id
        cannot have.

    Raises:
        UserError: there is no sound, or two files would have the same id.
    """
    root = Path(root).absolute()
    sounds = find_sounds(root, "**/*", lambda path: _id(path.relative_to(root).with_suffix("")))
    if not sounds:
        raise UserError(
            f"{root}: is not a folder of sounds, it has no file *{', *'.join(SUFFIXES[:6])} ...; "
            "give the one that holds them"
        )
    others = Counter(p.suffix for p in find_files(root, "**/*") if p.is_file())
    others = {suffix: n for suffix, n in others.items() if suffix.lower() not in SUFFIXES}
    if others:
        counts = ", ".join(f"{others[suffix]} *{suffix}" for suffix in sorted(others))
        logger.warning("%s: left out, as no sounds: %s", root, counts)
    group_of = _groups(sounds)
    noises = [Noise(name, str(path), group_of[name]) for name, path in sounds.items()]
    return part_of(noises, parts, part)


def _groups(sounds):
    """Id -> id of the first file with the same bytes; files of a size of their own are not read."""
    sizes = Counter(path.stat().st_size for path in sounds.values())
    first, groups = {}, {}
    for name, path in sounds.items():
        content = checksum(path) if sizes[path.stat().st_size] > 1 else name
        groups[name] = first.setdefault(content, name)
        if groups[name] != name:
            logger.info("%s: is a copy of %s, and of its group", path, sounds[groups[name]])
    return groups


def _id(path):
    """An id made from a relative path."""
    text = unicodedata.normalize("NFC", "-".join(path.parts))
    return re.sub(r"[^\w+=:@.-]", "_", text)
