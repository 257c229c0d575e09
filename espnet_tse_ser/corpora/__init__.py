"""Corpora as tables of recordings: utterances of talkers, or noise.

Each corpus has one function ``prepare_x(root, **options) -> list[Utterance]`` (or of `Noise`),
sorted by id, which writes nothing; `write_data_dir` turns its result into a Kaldi data directory. A
new corpus is one more such function, and a line in `registry`.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.audio.kaldi_dir import GROUP_TABLES, NOISE, TALKER, invert, write_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_json
from espnet_tse_ser.values.ids import check_fold, check_id
from espnet_tse_ser.values.numbers import Number

logger = logging.getLogger(__name__)

LABELS = ("ang", "hap", "neu", "sad")  # the default classes, in the order used everywhere
TOTAL = Number(0, 10**9, whole=True)  # of files or utterances; 0: not known


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


@dataclass(frozen=True)
class Noise:
    """One recording of noise, or a piece of one.

    Attributes:
        utt: unique id.
        wav: absolute path of the recording.
        group: the original recording, of which there may be several pieces; no fold divides it.
        fold: test group of the recording ("1", "2", ...), or None in a corpus without folds.
        start, end: seconds within ``wav``, or None for the whole recording.
    """

    utt: str
    wav: str
    group: str
    fold: str | None = None
    start: float | None = None
    end: float | None = None


def check_labels(labels, known, corpus):
    """Raise `UserError` if one of ``labels`` is not among the ``known`` ones of a corpus."""
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise UserError(
            f"--labels '{' '.join(labels)}': unknown {corpus} label(s) {' '.join(unknown)}; known: "
            f"{' '.join(known)}"
        )


def write_data_dir(utterances, directory):
    """Write a table of `Utterance` or of `Noise` as a Kaldi data directory; ``wav.scp`` comes last.

    Files: ``wav.scp``, ``utt2spk spk2utt spk2gender`` of talkers, ``utt2group`` of noise, and where
    the table has them ``segments``, ``utt2emo`` and ``utt2fold``. Such files of an earlier run are
    removed where it has not.

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
    tables = dict.fromkeys([*GROUP_TABLES.values(), "spk2utt", "spk2gender", "segments"])
    tables |= {"utt2emo": None, "utt2fold": None}
    if any(cut):
        wavs, tables["segments"] = _segments(utterances)
    else:
        wavs = {u.utt: u.wav for u in utterances}
    if isinstance(utterances[0], Noise):
        tables[GROUP_TABLES[NOISE]] = {u.utt: u.group for u in utterances}
    else:
        tables[GROUP_TABLES[TALKER]] = {u.utt: u.spk for u in utterances}
        tables["spk2utt"] = invert(tables[GROUP_TABLES[TALKER]])
        tables["spk2gender"] = {u.spk: u.gender for u in utterances}
        if all(u.emo is not None for u in utterances):
            tables["utt2emo"] = {u.utt: u.emo for u in utterances}
    if all(u.fold is not None for u in utterances):
        tables["utt2fold"] = {u.utt: u.fold for u in utterances}
    for name, table in tables.items():
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


def is_made(marker, made):
    """Whether a synthetic corpus is there, as its ``marker`` says: JSON, last written.

    Raises:
        UserError: it was made as something else than ``made``.
    """
    if not marker.is_file():
        return False
    if read_json(marker) != made:
        raise UserError(
            f"{marker}: made as {read_json(marker)}, not as {made}; remove {marker.parent} or give "
            "another output directory"
        )
    logger.info("%s: is made already", marker.parent)
    return True


def _check_ids(utterances):
    seen, groups = set(), {}
    for u in utterances:
        names = (u.utt, u.group) if isinstance(u, Noise) else (u.utt, u.spk, u.emo)
        for name in filter(None, names):
            check_id(name, u.wav)
        if u.fold is not None:
            check_fold(u.fold, u.wav)
        if u.utt in seen:
            raise UserError(f"{u.wav}: duplicate utterance id '{u.utt}'; remove one of the files")
        seen.add(u.utt)
        group, traits = _group(u)
        known = groups.setdefault(group, traits)
        if known != traits:
            what = "recording" if isinstance(u, Noise) else "speaker"
            raise UserError(
                f"utterance '{u.utt}': {what} '{group}' has {' and '.join(traits)} "
                f"{tuple(traits.values())} here but {tuple(known.values())} before; a {what} has "
                "one of each"
            )


def _group(u):
    """The group of a recording, and what all recordings of the group have to share."""
    if isinstance(u, Noise):
        return u.group, {"fold": u.fold}
    if not u.utt.startswith(u.spk):
        raise UserError(f"utterance id '{u.utt}' must begin with its speaker id '{u.spk}'")
    if u.gender not in ("m", "f"):
        raise UserError(f"speaker '{u.spk}': gender '{u.gender}' is neither 'm' nor 'f'")
    return u.spk, {"gender": u.gender, "fold": u.fold}


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
    if isinstance(utterances[0], Noise):
        count = len({u.group for u in utterances})
        logger.info("%s: %d pieces of noise, %d recordings", directory, len(utterances), count)
        return
    genders = Counter({u.spk: u.gender for u in utterances}.values())
    classes = Counter(u.emo for u in utterances if u.emo is not None)
    counts = "".join(f", {label} {classes[label]}" for label in sorted(classes))
    logger.info(
        "%s: %d utterances, %d speakers (%d f, %d m)%s",
        *(directory, len(utterances), genders.total(), genders["f"], genders["m"], counts),
    )
