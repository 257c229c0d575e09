"""IEMOCAP (sail.usc.edu/iemocap): acted dialogs of ten speakers in five sessions."""

import re
from collections import Counter
from pathlib import Path

from espnet_tse_ser.corpora import TOTAL, Utterance
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files, read_text
from espnet_tse_ser.values.kinds import Text

CLASSES = {"ang": "ang", "hap": "hap", "exc": "hap", "neu": "neu", "sad": "sad"}
NUM_UTTERANCES = 5531
# Utterances of these classes in sessions 1 to 5, to say which session of a download is short.
SESSION_TOTALS = {"1": 1085, "2": 1023, "3": 1151, "4": 1031, "5": 1241}

_EVALUATION = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(\S+)\t(\w+)\t\[")
_ID = re.compile(r"Ses(\d\d)[FM]_\w+_([FM])[^_]*")


def prepare_iemocap(root: Text(), expected_total: TOTAL = NUM_UTTERANCES):
    """Read IEMOCAP, four classes with excited merged into happy, one fold a session.

    An id such as ``Ses01F_impro01_M003`` names the dialog (recorded by the woman's sensors) and
    then who speaks: the letter before the number. The speaker is ``Ses01M`` here and the
    utterance id ``Ses01M-Ses01F_impro01_M003``.

    Args:
        root: the directory ``IEMOCAP_full_release`` with ``Session1`` ... ``Session5``.
        expected_total: assert this number of utterances of the 4 classes; 0: do not.

    Returns:
        list of `Utterance`, sorted; the fold is the session.

    Raises:
        UserError: wrong root, a wave file or an evaluation file is missing, or a wrong total.
    """
    root = Path(root).absolute()
    if not (root / "Session1").is_dir():
        inner = root / "IEMOCAP_full_release"
        hint = f"did you mean {inner}?" if inner.is_dir() else "it holds Session1 to Session5"
        raise UserError(
            f"{root}: is not an IEMOCAP root, Session1 is missing; "
            f"give the directory IEMOCAP_full_release ({hint})"
        )
    utterances = {}
    for session in find_files(root, "Session[1-5]"):
        for utterance in _read_session(session):
            if utterance.utt in utterances:
                raise UserError(f"{session}: '{utterance.utt}' is evaluated twice; unpack it again")
            utterances[utterance.utt] = utterance
    if expected_total and len(utterances) != expected_total:
        raise UserError(_total_message(root, utterances.values(), expected_total))
    return [utterances[utt] for utt in sorted(utterances)]


def _read_session(session):
    fold = session.name.removeprefix("Session")
    evaluations = find_files(session / "dialog" / "EmoEvaluation", "*.txt")
    if not evaluations:
        raise UserError(
            f"{session / 'dialog' / 'EmoEvaluation'}: holds no *.txt; the release is not "
            "completely unpacked: unpack IEMOCAP_full_release.tar.gz again"
        )
    for path in evaluations:
        for utt, label in _EVALUATION.findall(read_text(path)):
            if label not in CLASSES:
                continue
            match = _ID.fullmatch(utt)
            if match is None or int(match[1]) != int(fold):
                raise UserError(f"{path}: '{utt}' is not an utterance id of session {fold}")
            wav = session / "sentences" / "wav" / utt.rsplit("_", 1)[0] / f"{utt}.wav"
            if not wav.is_file():
                raise UserError(
                    f"{wav}: no such file, but {path} evaluates it; the release is not completely "
                    "unpacked: unpack IEMOCAP_full_release.tar.gz again"
                )
            spk = f"Ses{match[1]}{match[2]}"
            gender = match[2].lower()
            yield Utterance(f"{spk}-{utt}", str(wav), spk, gender, CLASSES[label], fold)


def _total_message(root, utterances, expected_total):
    counts = Counter(u.fold for u in utterances)
    message = f"{root}: {counts.total()} utterances found, {expected_total} expected"
    if expected_total == NUM_UTTERANCES:
        wrong = [
            f"Session{fold} has {counts[fold]} of {total}"
            for fold, total in SESSION_TOTALS.items()
            if counts[fold] != total
        ]
        message += f" ({', '.join(wrong)})"
    return (
        f"{message}; the release is not complete or was changed: unpack "
        "IEMOCAP_full_release.tar.gz again, or for a subset set expected_total to 0"
    )
