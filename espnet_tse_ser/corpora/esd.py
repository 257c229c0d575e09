"""ESD, the Emotional Speech Dataset (Zhou et al., doi 10.1016/j.specom.2021.11.006): 20 speakers.

Ten speakers of Mandarin and ten of English act 350 sentences each in five emotions, in a studio,
at 16 kHz: 29 hours.
"""

import re
from pathlib import Path

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.corpora import Utterance, check_labels, check_total
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files
from espnet_tse_ser.values.kinds import Choice, Flag, Id, Maybe, Several, Text

EMOTIONS = {"Neutral": "neu", "Angry": "ang", "Happy": "hap", "Sad": "sad", "Surprise": "sur"}
ALL_LABELS = tuple(sorted(EMOTIONS.values()))
NUM_SENTENCES = 350  # of a speaker, each in every emotion
SPEAKERS = {
    "mandarin": tuple(f"{number:04d}" for number in range(1, 11)),
    "english": tuple(f"{number:04d}" for number in range(11, 21)),
}
SPEAKERS["all"] = SPEAKERS["mandarin"] + SPEAKERS["english"]
# As the ReadMe.txt of the distribution lists them.
_WOMEN = ("0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019")
GENDERS = {spk: "f" if spk in _WOMEN else "m" for spk in SPEAKERS["all"]}

_NAME = re.compile(r"(\d{4})_(\d{6})")
_PARTS = ("train", "evaluation", "test")  # of an emotion, in one of the layouts that circulate


def prepare_esd(
    root: Text(),
    language: Choice("english", "mandarin", "all") = "english",
    labels: Several(Id()) = ALL_LABELS,
    complete: Flag() = True,
    spk2gender: Maybe(Text()) = None,
):
    """Read ESD (``<speaker>/<Emotion>/[train|evaluation|test/]<speaker>_<6 digits>.wav``).

    The directory tells the emotion. ``<speaker>/<speaker>.txt`` repeats it beside the words, but
    its character encoding differs from speaker to speaker (UTF-8, UTF-16, GB 2312, Latin-1), so
    it is not read. The numbers of the files repeat it too: 1 to 350 are neutral, the next 350
    angry, then happy, sad and surprise. ``complete`` asserts that.

    The genders are those of the distribution's ReadMe.txt, five women and five men a language. No
    copy of the distribution was at hand: they are taken from public repositories that quote the
    list (three agree on the English speakers, two on all; one with alternating genders and no
    source does not). Compare them with your ReadMe.txt; ``spk2gender`` corrects them.

    Args:
        root: the directory that holds ``0001`` ... ``0020`` (those of ``language`` suffice).
        language: english (speakers 0011 to 0020), mandarin (0001 to 0010) or all.
        labels: the classes to take, of ang hap neu sad sur.
        complete: assert the speakers of the language, 350 utterances of each emotion, and the
            numbers.
        spk2gender: file of lines "0011 m" whose genders win over the known ones.

    Returns:
        list of `Utterance` without folds, sorted; speakers are ``esd0011`` ...

    Raises:
        UserError: wrong root, option or name, a missing speaker, emotion or gender, or a wrong
            total.
    """
    root = Path(root).absolute()
    if language not in SPEAKERS:
        raise UserError(f"language must be one of {' '.join(SPEAKERS)}, got '{language}'")
    check_labels(labels, ALL_LABELS, "ESD")
    if not labels:
        raise UserError(f"--labels '': no ESD label; known: {' '.join(ALL_LABELS)}")
    genders = GENDERS | (_read_genders(spk2gender) if spk2gender is not None else {})
    utterances = []
    for speaker in _speakers(root, language, complete):
        for directory, label in EMOTIONS.items():
            files = _find_utterances(root / speaker / directory, speaker)
            if complete:
                _check_complete(root / speaker / directory, files)
            if label in labels:
                utterances += [
                    Utterance(
                        f"esd{speaker}-{stem}", str(path), f"esd{speaker}", genders[speaker], label
                    )
                    for stem, path in files.items()
                ]
    return sorted(utterances, key=lambda u: u.utt)


def _read_genders(path):
    table = read_table(path)
    for speaker, gender in table.items():
        if speaker not in GENDERS or gender not in ("m", "f"):
            raise UserError(
                f"{path}: '{speaker} {gender}': expected a speaker of 0001 to 0020 and m or f"
            )
    return table


def _speakers(root, language, complete):
    """The speakers of the language that are there."""
    found = [spk for spk in SPEAKERS[language] if (root / spk).is_dir()]
    if not found:
        inner = [path.parent for path in find_files(root, f"*/{SPEAKERS[language][0]}")]
        hint = f"did you mean {inner[0]}?" if inner else "and they are unpacked from one archive"
        raise UserError(
            f"{root}: is not an ESD root, it has no speaker {SPEAKERS[language][0]} to "
            f"{SPEAKERS[language][-1]}; give the directory that holds one directory a speaker "
            f"({hint})"
        )
    missing = [spk for spk in SPEAKERS[language] if spk not in found]
    if complete and missing:
        raise UserError(
            f"{root}: speaker(s) {' '.join(missing)} are missing; unpack the archive again, or "
            "for a subset set complete to false"
        )
    return found


def _find_utterances(directory, speaker):
    """The wave files of one speaker and emotion, as a sorted dict name without suffix -> path."""
    if not directory.is_dir():
        raise UserError(
            f"{directory}: no such directory; every speaker has "
            f"{' '.join(EMOTIONS)}: unpack the archive again"
        )
    files = {}
    for path in sorted(find_files(directory, "**/*.wav"), key=lambda p: (p.stem, str(p))):
        inner = path.parent.relative_to(directory).parts
        if inner and (len(inner) > 1 or inner[0] not in _PARTS):
            raise UserError(
                f"{path}: lies neither in {directory} nor in its {', '.join(_PARTS)}; move it"
            )
        match = _NAME.fullmatch(path.stem)
        if match is None or match[1] != speaker:
            raise UserError(
                f"{path}: the name is not {speaker}_<6 digits>.wav; rename, move or remove it"
            )
        if path.stem in files:
            raise UserError(f"{path}: {files[path.stem]} has the same id; remove one of the two")
        files[path.stem] = path
    return files


def _check_complete(directory, files):
    remedy = "unpack the archive again, or for a subset set complete to false"
    check_total(len(files), NUM_SENTENCES, f"{directory}: utterances", remedy)
    first = 1 + NUM_SENTENCES * list(EMOTIONS).index(directory.name)
    numbers = range(first, first + NUM_SENTENCES)
    for stem, path in files.items():
        if int(stem[5:]) not in numbers:
            belongs = _emotion_of(int(stem[5:]))
            raise UserError(
                f"{path}: number {stem[5:]} is not {directory.name} ({first} to {numbers[-1]}) but "
                f"{belongs}; move it, or unpack the archive again"
            )


def _emotion_of(number):
    index = (number - 1) // NUM_SENTENCES
    return list(EMOTIONS)[index] if 0 <= index < len(EMOTIONS) else "of no emotion"
