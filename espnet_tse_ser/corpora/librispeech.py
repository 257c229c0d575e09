"""LibriSpeech (openslr.org/12): read English speech of many speakers, without emotion labels."""

import re
from pathlib import Path

from espnet_tse_ser.corpora import Utterance, check_total
from espnet_tse_ser.corpora.parts import PARTS, check_parts, choose_part
from espnet_tse_ser.corpora.sounds import cut
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files, read_text
from espnet_tse_ser.progress import progress
from espnet_tse_ser.values.kinds import Choice, Either, Flag, Id, Several, Text
from espnet_tse_ser.values.numbers import COUNT, SECONDS

TOTALS = {  # subset: (speakers, utterances) of the official distribution
    "train-clean-100": (251, 28539),
    "train-clean-360": (921, 104014),
    "train-other-500": (1166, 148688),
    "dev-clean": (40, 2703),
    "dev-other": (33, 2864),
    "test-clean": (40, 2620),
    "test-other": (33, 2939),
}


def prepare_librispeech(
    root: Text(),
    subsets: Several(Id()) = ("train-clean-100",),
    complete: Either(Flag(), Choice("speakers")) = False,
    piece_seconds: SECONDS = 0.0,
    min_piece_seconds: SECONDS = 2.0,
    parts: PARTS = (100.0,),
    part: COUNT = 1,
):
    """Read LibriSpeech (``SPEAKERS.TXT`` and ``<subset>/<speaker>/<chapter>/*.flac``).

    Args:
        root: the directory ``LibriSpeech``.
        subsets: names of the subsets to take.
        complete: speakers: assert that every speaker whom SPEAKERS.TXT has for a subset is there;
            true: the known numbers of speakers and utterances as well.
        piece_seconds: cut every utterance into consecutive pieces of this length; 0: do not cut.
        min_piece_seconds: with ``piece_seconds``, drop a rest (or a whole utterance) shorter
            than this.
        parts: proportions (e.g. 70,30) by which the speakers of each gender are divided.
        part: which of these parts to take, from 1. Calls with the same ``subsets`` and ``parts``
            and another ``part`` share no speaker.

    Returns:
        list of `Utterance` without emotion and fold, sorted; speaker ids are ``ls<reader>``.

    Raises:
        UserError: wrong root, missing subset, unknown speaker, speakers without audio, wrong
            totals or options.
    """
    root = Path(root).absolute()
    check_parts(parts, part)
    genders, subset_of = _read_speakers(root / "SPEAKERS.TXT")
    files = [path for subset in subsets for path in _find_files(root, subset, complete)]
    for path in files:
        if path.parent.parent.name not in genders:
            raise UserError(
                f"{path}: speaker '{path.parent.parent.name}' is not in {root / 'SPEAKERS.TXT'}; "
                "take that file from the same distribution"
            )
    speakers = {path.parent.parent.name for path in files}
    missing = [spk for spk in subset_of if subset_of[spk] in subsets and spk not in speakers]
    if complete and missing:
        raise UserError(
            f"{root / subset_of[missing[0]]}: no audio of {len(missing)} speaker(s) that "
            f"SPEAKERS.TXT has for it, '{missing[0]}' among them: the download is not complete; "
            "get it again, or set complete to false"
        )
    chosen = choose_part({spk: genders[spk] for spk in speakers}, parts, part, "speaker")
    utterances = [
        Utterance(f"ls{path.stem}", str(path), f"ls{reader}", genders[reader])
        for path in files
        if (reader := path.parent.parent.name) in chosen
    ]
    utterances = cut(progress(utterances, "LibriSpeech"), piece_seconds, min_piece_seconds)
    return sorted(utterances, key=lambda u: u.utt)


def _read_speakers(path):
    """Gender and subset of every reader.

    Lines are ``14 | F | train-clean-360 | 25.03 | Name``, comments begin with ``;``.
    """
    if not path.is_file():
        raise UserError(
            f"{path.parent}: is not a LibriSpeech root, SPEAKERS.TXT is missing; "
            "give the directory 'LibriSpeech' that the official archives unpack to"
        )
    genders, subsets = {}, {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith(";"):
            continue
        match = re.match(r"\s*(\d+)\s*\|\s*([FM])\s*\|\s*([^|\s]+)\s*\|", line)
        if match is None:
            raise UserError(
                f"{path}: line {number}: expected 'reader | F or M | subset | ...', got {line!r}"
            )
        genders[match[1]], subsets[match[1]] = match[2].lower(), match[3]
    return genders, subsets


def _find_files(root, subset, complete):
    if not (root / subset).is_dir():
        present = sorted(name for name in TOTALS if (root / name).is_dir())
        raise UserError(
            f"{root}: has no subset '{subset}' (present: {' '.join(present) or 'none'}); "
            f"download {subset}.tar.gz from openslr.org/12 and unpack it there"
        )
    files = find_files(root / subset, "*/*/*.flac")
    for path in files:
        if not path.stem.startswith(f"{path.parent.parent.name}-{path.parent.name}-"):
            raise UserError(f"{path}: name is not <speaker>-<chapter>-<number>; unpack it again")
    if not files:
        raise UserError(f"{root / subset}: holds no <speaker>/<chapter>/*.flac; unpack it again")
    if complete is True:
        if subset not in TOTALS:
            raise UserError(f"subset '{subset}': no totals are known; set complete to false")
        remedy = (
            f"the download of {subset} is not complete or was changed: compare the md5 sum of "
            f"{subset}.tar.gz with openslr.org/12 and unpack it again, or set complete to false"
        )
        speakers, utterances = TOTALS[subset]
        check_total(len(files), utterances, f"{root / subset}: utterances", remedy)
        found = len({path.parent.parent.name for path in files})
        check_total(found, speakers, f"{root / subset}: speakers", remedy)
    return files
