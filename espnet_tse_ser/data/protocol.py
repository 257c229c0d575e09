"""The mixture protocol: which utterance is mixed with which, how loud, and who enrolls.

One `Mixture` is one line of ``protocol.tsv``. With the formatted corpora the protocol fixes the
audio bit for bit.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from espnet_tse_ser.data.mixing import amplitude, draw_gains, draw_placed, overlap, snr
from espnet_tse_ser.data.splits import fold_of_speakers
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.ids import check_fold, check_id
from espnet_tse_ser.numbers import Number

GENDER_STATES = ("random", "same", "different")


@dataclass(frozen=True)
class Mixture:
    """One mixture. Lists are tuples; gains are in dB, the target's first; offsets in samples.

    ``gender_state`` is "same" when every interferer has the target's gender, else "different".
    ``snr_db`` is over the whole mixture, ``overlap`` the share of the target during which an
    interferer speaks. The mixture goes on for ``tail`` samples after the target. The enrollment
    is its utterances one after the other, cut to ``enrollment_samples`` (0: whole).
    """

    mixture: str
    target: str
    speaker: str
    gender: str
    emotion: str
    interferers: tuple
    interferer_speakers: tuple
    interferer_genders: tuple
    interferer_emotions: tuple
    gains_db: tuple
    offsets: tuple
    snr_db: float
    overlap: float
    gender_state: str
    enrollment: tuple
    fold: str
    seed: int
    tail: int = 0
    enrollment_samples: int = 0


COLUMNS = [f.name for f in fields(Mixture)]
_NAMES = ("mixture", "target", "speaker", "gender", "emotion", "gender_state")
_LISTS = {  # column -> how to read one of its items
    "interferers": str,
    "interferer_speakers": str,
    "interferer_genders": str,
    "interferer_emotions": str,
    "gains_db": Number(-1000, 1000),
    "offsets": Number(-(10**10), 10**10, whole=True),
    "enrollment": str,
}
_NUMBERS = {
    "snr_db": Number(-1000, 1000),
    "overlap": Number(0, 1),
    "seed": Number(0, whole=True),
    "tail": Number(0, 10**10, whole=True),
    "enrollment_samples": Number(0, 10**10, whole=True),
}


def write_protocol(path, mixtures):
    """Write the mixtures, sorted by id, as a tab-separated table.

    Raises:
        UserError: what is to be an id is none.
    """
    rows = []
    for mixture in sorted(mixtures, key=lambda m: m.mixture):
        row = {c: getattr(mixture, c) for c in COLUMNS}
        _check_ids(row, f"{path}: mixture '{mixture.mixture}'")
        rows.append(row | {c: ",".join(map(str, row[c])) for c in _LISTS})
    write_tsv(path, rows, COLUMNS)


def read_protocol(path):
    """Read a protocol.

    Raises:
        UserError: the table is missing or malformed, what is to be an id is none, or a mixture id
            occurs twice.
    """
    path = Path(path)
    mixtures, seen = [], set()
    for number, row in enumerate(read_tsv(path, COLUMNS), 2):
        where = f"{path}: line {number}"
        for column, kind in (_LISTS | _NUMBERS).items():
            try:
                if column in _LISTS:
                    row[column] = tuple(kind(item) for item in row[column].split(","))
                else:
                    row[column] = kind(row[column])
            except ValueError as error:
                raise UserError(f"{where}: {column}: {error}; {_REMEDY}") from None
        _check_ids(row, where)
        others = len(row["interferers"])
        for column in _LISTS.keys() - {"enrollment"}:
            expected = others + (column == "gains_db")
            if len(row[column]) != expected:
                raise UserError(
                    f"{where}: {column} has {len(row[column])} item(s), but with {others} "
                    f"interferer(s) it has {expected}; {_REMEDY}"
                )
        if row["mixture"] in seen:
            raise UserError(f"{where}: duplicate mixture id '{row['mixture']}'; remove one")
        seen.add(row["mixture"])
        mixtures.append(Mixture(**{c: row[c] for c in COLUMNS}))
    return mixtures


_REMEDY = "correct it, or delete the table and run stage 2 again"


def _check_ids(row, where):
    """Check all of a row that is an id, or a list of them."""
    for column in _NAMES:
        check_id(row[column], f"{where}: {column}")
    check_fold(row["fold"], f"{where}: fold")
    for column, kind in _LISTS.items():
        for item in row[column] if kind is str else ():
            check_id(item, f"{where}: {column}")


def speaker_folds(targets, interferers, seed):
    """The fold of every interferer speaker: its own where it is a target too, else drawn.

    Args:
        targets, interferers: `Pool`; the same one for interferers from the emotional corpus.

    Returns:
        dict speaker -> fold.
    """
    if interferers is targets:
        return fold_of_speakers(targets.entries.values(), "loso")
    folds = sorted({entry.fold for entry in targets.entries.values()})
    return interferer_folds(interferers, folds, seed)


def interferer_folds(interferers, folds, seed):
    """Split the interferer speakers by fold, each gender evenly.

    Returns:
        dict speaker -> fold.

    Raises:
        UserError: a gender has fewer speakers than there are folds.
    """
    rng = np.random.default_rng([seed, 1])
    assignment = {}
    for gender in sorted(set(interferers.gender.values())):
        speakers = sorted(s for s, g in interferers.gender.items() if g == gender)
        if len(speakers) < len(folds):
            raise UserError(
                f"{len(speakers)} interferer speaker(s) of gender '{gender}' cannot be split over "
                f"{len(folds)} folds; add interferer speakers"
            )
        for index, speaker in enumerate(rng.permutation(speakers)):
            assignment[str(speaker)] = folds[index % len(folds)]
    return assignment


def make_protocol(
    targets, interferers, levels, seed, num_interferers=1, gender_state="random", neutral="neu"
):
    """Draw one mixture for every emotional utterance.

    Args:
        targets, interferers: `Pool`; the targets have emotions and folds. The same pool twice
            takes the interferers from the emotional corpus: other speakers of the target's fold,
            so that nobody crosses the line between training and test.
        levels: `Levels`. seed: of all draws; each mixture depends on it and its own id order.
        num_interferers: of each mixture, different speakers.
        gender_state: of the mixtures: "random", "same" or "different".
        neutral: the label of the enrollment utterances.

    Returns:
        list of `Mixture` in the order of their ids.

    Raises:
        UserError: speakers in both pools, no interferer to choose from, no enrollment.
    """
    if gender_state not in GENDER_STATES:
        raise UserError(
            f"--gender_state must be one of {', '.join(GENDER_STATES)}, got '{gender_state}'"
        )
    if num_interferers < 1 or seed < 0:
        raise UserError(
            f"--num_interferers {num_interferers} --seed {seed}: at least 1 and at least 0 wanted"
        )
    shared = sorted(set(targets.gender) & set(interferers.gender))
    if shared and interferers is not targets:
        raise UserError(f"speaker(s) {', '.join(shared)} are targets and interferers; remove one")
    unlabelled = [e.utt for e in targets.entries.values() if e.emotion is None or e.fold is None]
    if unlabelled:
        raise UserError(f"target '{unlabelled[0]}' has no emotion or fold; see utt2emo, utt2fold")
    fold_of = speaker_folds(targets, interferers, seed)
    enrollments = enrollment_choices(targets, neutral)
    mixtures = []
    for index, (utt, entry) in enumerate(targets.entries.items()):
        rng = np.random.default_rng([seed, 2, index])
        chosen = draw_interferers(rng, interferers, fold_of, entry, gender_state, num_interferers)
        target = targets.audio(utt)
        offsets, placed = zip(
            *(
                draw_placed(rng, interferers.audio(o), entry.num_samples, interferers[o].lufs)
                for o in chosen
            ),
            strict=True,
        )
        lufs = [entry.lufs, *(interferers[o].lufs for o in chosen)]
        try:
            gains = draw_gains(rng, levels, target, placed, lufs)
        except UserError as error:
            raise UserError(f"mixture '{utt}' with {', '.join(chosen)}: {error}") from None
        enrollment = (str(rng.choice(enrollments[utt])),)
        mixtures.append(
            describe(entry, interferers, chosen, offsets, gains, target, placed, enrollment, seed)
        )
    return mixtures


def describe(
    entry, interferers, chosen, offsets, gains, target, placed, enrollment, seed, **further
):
    """The `Mixture` of what was drawn: fills in all that follows from it.

    Args:
        entry: of the target. chosen: ids of the interferers, in the `Pool` ``interferers``.
        offsets, gains: as in `Mixture`. enrollment: ids.
        target, placed: the sources before their gains, all of the mixture's length.
        further: ``tail``, ``enrollment_samples``.
    """
    scaled = [amplitude(g) * s for g, s in zip(gains, [target, *placed], strict=True)]
    others = [interferers[o] for o in chosen]
    genders = tuple(other.gender for other in others)
    return Mixture(
        mixture=entry.utt,
        target=entry.utt,
        speaker=entry.speaker,
        gender=entry.gender,
        emotion=entry.emotion,
        interferers=tuple(chosen),
        interferer_speakers=tuple(other.speaker for other in others),
        interferer_genders=genders,
        interferer_emotions=tuple(other.emotion or "none" for other in others),
        gains_db=tuple(gains),
        offsets=tuple(offsets),
        snr_db=round(snr(scaled[0], scaled[1:]), 4),
        overlap=round(overlap(offsets, [o.num_samples for o in others], entry.num_samples), 4),
        gender_state="same" if set(genders) == {entry.gender} else "different",
        enrollment=enrollment,
        fold=entry.fold,
        seed=seed,
        **further,
    )


def draw_interferers(rng, interferers, fold_of, entry, gender_state, count, taken=()):
    """Draw ``count`` interferer utterances of different speakers of the target's fold.

    Args:
        fold_of: from `speaker_folds`. entry: of the target, whose speaker is never drawn.
        taken: further speakers that are not to be drawn.
    """
    wanted = {
        "random": ["m", "f"],
        "same": [entry.gender],
        "different": [g for g in ("m", "f") if g != entry.gender],
    }[gender_state]
    taken = {entry.speaker, *taken}
    chosen = []
    for _ in range(count):
        free = sorted(s for s in fold_of if fold_of[s] == entry.fold and s not in taken)
        genders = [g for g in wanted if any(interferers.gender[s] == g for s in free)]
        if not genders:
            remedy = "add interferer speakers or take fewer interferers"
            if entry.speaker in fold_of:
                members = " ".join(sorted(s for s in fold_of if fold_of[s] == entry.fold))
                remedy = (
                    "interferers are other target speakers of that fold, which has only "
                    f"{members}: make larger folds, take another gender_state or other interferers"
                )
            raise UserError(
                f"target '{entry.utt}': no interferer speaker of gender '{' or '.join(wanted)}' is "
                f"left in fold '{entry.fold}'; {remedy}"
            )
        gender = str(rng.choice(genders))
        speaker = str(rng.choice([s for s in free if interferers.gender[s] == gender]))
        taken.add(speaker)
        chosen.append(str(rng.choice(interferers.by_speaker[speaker])))
    return chosen


def enrollment_choices(targets, neutral="neu"):
    """For each utterance of the pool, the neutral utterances of its speaker apart from itself.

    Raises:
        UserError: there is none.
    """
    neutral_of = {
        speaker: [u for u in utts if targets[u].emotion == neutral]
        for speaker, utts in targets.by_speaker.items()
    }
    choices = {}
    for utt, entry in targets.entries.items():
        choices[utt] = [u for u in neutral_of[entry.speaker] if u != utt]
        if not choices[utt]:
            raise UserError(
                f"target '{utt}': speaker '{entry.speaker}' has no other '{neutral}' utterance to "
                "enroll with; drop the speaker or give another neutral label"
            )
    return choices
