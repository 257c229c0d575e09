"""ASED v1 (github.com/Ethio2021/ASED_V1): Amharic, 65 speakers, five emotions.

Retta et al., "A new Amharic speech emotion dataset and classification benchmark", ACM Transactions
on Asian and Low-Resource Language Information Processing, 2022. Most of its sentences are spoken
with one emotion only, so that a recogniser can profit from the words.
"""

import logging
import re
from collections import Counter, defaultdict
from pathlib import Path

from espnet_tse_ser.corpora import LABELS, TOTAL, Utterance, check_labels, check_total
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files
from espnet_tse_ser.values.kinds import Id, Several, Text
from espnet_tse_ser.values.numbers import Number

logger = logging.getLogger(__name__)

EMOTIONS = {"n": "neu", "f": "fea", "h": "hap", "s": "sad", "a": "ang"}
ALL_LABELS = tuple(sorted(EMOTIONS.values()))
NUM_FILES = 2474
NUM_FOLDS = 5

# emotion and folder, sentence, repetition, gender, speaker; one file has a capital S
_NAME = re.compile(r"([nfhsaS])[1-5]-(\d\d)-(\d\d)-(0[12])-(\d\d)")


def prepare_ased(
    root: Text(),
    labels: Several(Id()) = LABELS,
    least_neutral: Number(0, 1000, whole=True) = 2,
    expected_total: TOTAL = NUM_FILES,
):
    """Read ASED (``01Neutral`` ... ``05Angry``, with ``n1-01-01-01-01.wav`` and the like).

    A file says the gender of its speaker. Of a few speakers single files say another one: theirs is
    that of most of their files.

    Args:
        root: the directory that holds ``01Neutral`` ... ``05Angry``.
        labels: the classes to take, of ang fea hap neu sad.
        least_neutral: leave out speakers with fewer neutral utterances: with 2 each utterance has
            another one to be enrolled with.
        expected_total: assert this number of files in all 5 classes; 0: do not.

    Returns:
        list of `Utterance`, sorted. Speakers are ``ased01`` ... ``ased65``; the folds are five
        groups of 5 women and 8 men, dealt out by how many files they have.

    Raises:
        UserError: wrong root, wrong total, a name that is none of the corpus, or an unknown label.
    """
    root = Path(root).absolute()
    check_labels(labels, ALL_LABELS, "ASED")
    files = find_files(root, "0[1-5][A-Z]*/*.wav")
    if not files:
        raise UserError(
            f"{root}: is not an ASED root, it has no 01Neutral/*.wav; give the clone of "
            "github.com/Ethio2021/ASED_V1"
        )
    if expected_total:
        remedy = "fetch github.com/Ethio2021/ASED_V1 again, or give --expected_total 0"
        check_total(len(files), expected_total, f"{root}: ASED files", remedy)
    said, found = defaultdict(Counter), []
    for path in files:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise UserError(
                f"{path}: is not named as n1-01-01-02-01 (emotion and folder, sentence, "
                "repetition, gender, speaker); remove it"
            )
        code, _, _, gender, number = match.groups()
        said[number]["f" if gender == "01" else "m"] += 1
        found.append((path, EMOTIONS[code.lower()], number))
    genders = {number: max("fm", key=counts.__getitem__) for number, counts in said.items()}
    folds = _folds(said, genders)
    neutral = Counter(number for _, emo, number in found if emo == "neu")
    left_out = sorted(number for number in said if neutral[number] < least_neutral)
    if left_out:
        logger.info(
            "ASED: %d speakers left out, with fewer than %d neutral utterances: %s",
            *(len(left_out), least_neutral, " ".join(left_out)),
        )
    return sorted(
        (
            Utterance(
                utt=f"ased{number}-{path.stem}",
                wav=str(path),
                spk=f"ased{number}",
                gender=genders[number],
                emo=emo,
                fold=folds[number],
            )
            for path, emo, number in found
            if emo in labels and number not in left_out
        ),
        key=lambda u: u.utt,
    )


def _folds(said, genders):
    """Fold of each speaker: those of a gender, most files first, are dealt out to and fro."""
    folds, turns = {}, [*range(1, NUM_FOLDS + 1), *range(NUM_FOLDS, 0, -1)]
    for gender in "fm":
        speakers = [number for number in said if genders[number] == gender]
        speakers.sort(key=lambda number: (-sum(said[number].values()), number))
        for place, number in enumerate(speakers):
            folds[number] = str(turns[place % len(turns)])
    return folds
