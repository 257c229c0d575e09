"""Corpora as tables of utterances.

Each corpus has one function ``prepare_x(root, **options) -> list[Utterance]``, sorted by id, which
writes nothing; `write_data_dir` turns its result into a Kaldi data directory. A new corpus is one
more such function, and its subcommand in `bin.prepare`.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.data.kaldi_dir import invert, write_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.ids import check_fold, check_id

logger = logging.getLogger(__name__)

LABELS = ("ang", "hap", "neu", "sad")  # the default classes, in the order used everywhere


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Attributes:
        utt: unique id; it begins with ``spk``, so that sorting by either agrees (Kaldi's rule).
        wav: absolute path of the recording.
        spk: speaker id, unique over all corpora of a recipe.
        gender: ``m`` or ``f``.
        emo: emotion label, or None in a corpus without emotions.
        fold: test group of the speaker ("1", "2", ...), or None in a corpus without folds.
        start, end: seconds within ``wav``, or None for the whole recording.
    """

    utt: str
    wav: str
    spk: str
    gender: str
    emo: str | None = None
    fold: str | None = None
    start: float | None = None
    end: float | None = None


def write_data_dir(utterances, directory):
    """Write a table of utterances as a Kaldi data directory; ``wav.scp`` comes last.

    Files: ``wav.scp utt2spk spk2utt spk2gender``, and where the table has them ``segments``,
    ``utt2emo`` and ``utt2fold``. Such files of an earlier run are removed where it has not.

    Raises:
        UserError: no utterance, what is no id, a duplicate id, an id that does not begin with its
            speaker, or a speaker with two genders or two folds.
    """
    directory = Path(directory)
    if not utterances:
        raise UserError(f"{directory}: no utterance to write; check the corpus root and options")
    _check_ids(utterances)
    cut = [u.start is not None for u in utterances]
    if any(cut) != all(cut):
        raise ValueError("either all utterances have start and end or none")
    optional = {"segments": None, "utt2emo": None, "utt2fold": None}
    if any(cut):
        wavs, optional["segments"] = _segments(utterances)
    else:
        wavs = {u.utt: u.wav for u in utterances}
    if all(u.emo is not None for u in utterances):
        optional["utt2emo"] = {u.utt: u.emo for u in utterances}
    if all(u.fold is not None for u in utterances):
        optional["utt2fold"] = {u.utt: u.fold for u in utterances}
    utt2spk = {u.utt: u.spk for u in utterances}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "spk2gender", {u.spk: u.gender for u in utterances})
    for name, table in optional.items():
        if table is None:
            (directory / name).unlink(missing_ok=True)
        else:
            write_table(directory / name, table)
    write_table(directory / "wav.scp", wavs)
    _log_summary(utterances, directory)


def check_total(found, expected, what, remedy):
    """Raise `UserError` unless a corpus has its known number of files or utterances."""
    if found != expected:
        raise UserError(f"{what}: {found} found, {expected} expected; {remedy}")


def _check_ids(utterances):
    seen, speakers = set(), {}
    for u in utterances:
        for name in filter(None, (u.utt, u.spk, u.emo)):
            check_id(name, u.wav)
        if u.fold is not None:
            check_fold(u.fold, u.wav)
        if u.utt in seen:
            raise UserError(f"{u.wav}: duplicate utterance id '{u.utt}'; remove one of the files")
        seen.add(u.utt)
        if not u.utt.startswith(u.spk):
            raise UserError(f"utterance id '{u.utt}' must begin with its speaker id '{u.spk}'")
        if u.gender not in ("m", "f"):
            raise UserError(f"speaker '{u.spk}': gender '{u.gender}' is neither 'm' nor 'f'")
        traits = (u.gender, u.fold)
        if speakers.setdefault(u.spk, traits) != traits:
            raise UserError(
                f"utterance '{u.utt}': speaker '{u.spk}' has gender and fold {traits} here but "
                f"{speakers[u.spk]} before; a speaker has one of each"
            )


def _segments(utterances):
    """Tables of recordings (id -> path) and of segments (utt -> 'recording start end')."""
    recordings, segments = {}, {}
    for u in utterances:
        recording = Path(u.wav).stem
        if recordings.setdefault(recording, u.wav) != u.wav:
            raise UserError(
                f"{u.wav} and {recordings[recording]} have the same name; rename or remove one"
            )
        segments[u.utt] = f"{recording} {u.start:.3f} {u.end:.3f}"
    return recordings, segments


def _log_summary(utterances, directory):
    genders = Counter({u.spk: u.gender for u in utterances}.values())
    classes = Counter(u.emo for u in utterances if u.emo is not None)
    counts = "".join(f", {label} {classes[label]}" for label in sorted(classes))
    logger.info(
        "%s: %d utterances, %d speakers (%d f, %d m)%s",
        *(directory, len(utterances), genders.total(), genders["f"], genders["m"], counts),
    )
