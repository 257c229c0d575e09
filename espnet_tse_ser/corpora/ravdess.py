"""RAVDESS speech (zenodo.org/record/1188976): 24 actors, two statements, eight emotions."""

import re
from pathlib import Path

from espnet_tse_ser.audio.amplitudes import check_not_silent
from espnet_tse_ser.audio.reading import mix_down, read_audio
from espnet_tse_ser.audio.silence import sound_span
from espnet_tse_ser.corpora import LABELS, TOTAL, Utterance, check_labels, check_total
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files
from espnet_tse_ser.progress import progress
from espnet_tse_ser.values.kinds import Flag, Id, Maybe, Several, Text
from espnet_tse_ser.values.numbers import SECONDS, Number

EMOTIONS = {  # third field of a file name
    "01": "neu",
    "02": "cal",
    "03": "hap",
    "04": "sad",
    "05": "ang",
    "06": "fea",
    "07": "dis",
    "08": "sur",
}
ALL_LABELS = tuple(sorted(EMOTIONS.values()))
NUM_FILES = 1440
NUM_FOLDS = 5

# modality-channel-emotion-intensity-statement-repetition-actor; 03-01 is audio-only speech
_NAME = re.compile(r"03-01-(0[1-8])-0[12]-0[12]-0[12]-(\d\d)")
_SUBDIRECTORY = "Audio_Speech_Actors_01-24"


def prepare_ravdess(
    root: Text(),
    labels: Several(Id()) = LABELS,
    merge_calm: Maybe(Flag()) = None,
    trim_silence: Flag() = False,
    threshold_db: Number(-200, 0, below=True) = -35.0,
    margin: SECONDS = 0.1,
    expected_total: TOTAL = NUM_FILES,
):
    """Read RAVDESS speech (``[Audio_Speech_Actors_01-24/]Actor_NN/*.wav`` or ``.flac``).

    Args:
        root: the directory that holds ``Audio_Speech_Actors_01-24`` or ``Actor_01`` ...
        labels: the classes to take, of ang cal dis fea hap neu sad sur.
        merge_calm: count calm as neutral; None does so unless ``labels`` has ``cal``.
        trim_silence: cut leading and trailing silence off (about 40 % of the corpus).
        threshold_db: level of a frame's energy relative to the loudest frame, in dB, above which
            it counts as speech.
        margin: seconds kept on each side of the speech.
        expected_total: assert this number of files in all 8 classes; 0: do not.

    Returns:
        list of `Utterance`, sorted. Speakers are ``rav01`` ... ``rav24``; the folds are five
        groups of 6, 6, 4, 4 and 4 actors with as many women as men.

    Raises:
        UserError: wrong root, wrong total, unknown label, or audio that cannot be trimmed.
    """
    root = Path(root).absolute()
    check_labels(labels, ALL_LABELS, "RAVDESS")
    if merge_calm is None:
        merge_calm = "cal" not in labels
    if merge_calm and "cal" in labels:
        raise UserError("label 'cal' and merge_calm exclude each other; drop one of them")
    files = _find_files(root)
    if expected_total:
        remedy = (
            "the download is not complete or has extra files: fetch Audio_Speech_Actors_01-24.zip "
            "from zenodo.org/record/1188976 again and unpack it to an empty directory"
        )
        check_total(len(files), expected_total, f"{root}: RAVDESS speech files", remedy)
    utterances = []
    for path in progress(files, "RAVDESS"):
        code, actor = _NAME.fullmatch(path.stem).groups()
        emo = "neu" if merge_calm and EMOTIONS[code] == "cal" else EMOTIONS[code]
        if emo not in labels:
            continue
        start, end = _speech_span(path, threshold_db, margin) if trim_silence else (None, None)
        spk = f"rav{actor}"
        gender = "m" if int(actor) % 2 else "f"
        utterances.append(
            Utterance(
                utt=f"{spk}-{path.stem}",
                wav=str(path),
                spk=spk,
                gender=gender,
                emo=emo,
                fold=_fold(int(actor)),
                start=start,
                end=end,
            )
        )
    return sorted(utterances, key=lambda u: u.utt)


def _find_files(root):
    base = root / _SUBDIRECTORY if (root / _SUBDIRECTORY).is_dir() else root
    if not find_files(base, "Actor_[0-9][0-9]"):
        raise UserError(
            f"{root}: is not a RAVDESS root, it has neither {_SUBDIRECTORY} nor Actor_01; "
            f"give the directory where {_SUBDIRECTORY}.zip was unpacked"
        )
    files = {}
    for path in find_files(base, "Actor_[0-9][0-9]/*"):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.suffix not in (".wav", ".flac"):
            continue
        if f"Actor_{match[2]}" != path.parent.name:
            raise UserError(f"{path}: is a file of actor {match[2]}; move it to Actor_{match[2]}")
        if path.stem in files:
            raise UserError(f"{path}: {files[path.stem].name} is there too; remove one of the two")
        files[path.stem] = path
    return sorted(files.values())


def _fold(actor):
    """Fold of an actor: the twelve pairs of one man and one woman are dealt out in turn."""
    return str((actor - 1) // 2 % NUM_FOLDS + 1)


def _speech_span(path, threshold_db, margin):
    """Start and end, in seconds, of the speech in a file with a margin on both sides."""
    samples, rate = read_audio(path)
    signal = mix_down(samples, path)
    check_not_silent(signal, path)
    start, end = sound_span(signal, rate, threshold_db, margin)
    return round(start, 3), round(end, 3)
