"""Variations of the test mixtures: one thing about them changed, all else as in the protocol.

A sweep asks how trained systems bear other mixtures than those they were trained on: louder
interferers, more talkers, a worse enrollment. Each of its points is a small file in ``conf/tests``.
What a variation does not name stays what it is in the protocol, so that its results are paired with
the main ones, utterance by utterance.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_ser.data.mixing import Levels, amplitude, draw_placed, guard_gains, place, snr
from espnet_tse_ser.data.protocol import GENDER_STATES, describe, draw_interferers
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.kinds import Choice, Either, Id, Maybe, Text, check_options
from espnet_tse_ser.numbers import SHARE, UTTERANCE_SECONDS, Number


@dataclass(frozen=True)
class Variation:
    """What a test changes; None leaves it as it is in the protocol.

    Args:
        about: one sentence for the table. sweep: the table. value: the row's label in it.
        snr: energy ratio of target to interferers over the whole mixture, in dB.
        talkers: target and interferers together.
        overlap: share of the target, at its end, during which the interferers speak; they go on
            after it for the rest of its length, so that at 0 they only follow it. One whose
            utterance is shorter than the target ends before; `Mixture.overlap` has what there is.
        gender_state: "same" or "different".
        interferers: another set of interferers, a directory beside that of the usual ones; "emo"
            is the emotional corpus itself (other speakers of the fold).
        enrollment: "neutral", "emotional" (any other emotion), one emotion, or "wrong" (of another
            speaker of the fold, who is not in the mixture, neutral).
        enrollment_seconds: cut the enrollment to this; a longer one is put together from several
            utterances of the speaker.
    """

    about: Text()
    sweep: Text()
    value: Either(Text(), Number())
    snr: Maybe(Number(-100, 100)) = None
    talkers: Maybe(Number(2, 100, whole=True)) = None
    overlap: Maybe(SHARE) = None
    gender_state: Maybe(Choice(*GENDER_STATES[1:])) = None
    interferers: Maybe(Id()) = None
    enrollment: Maybe(Id()) = None
    enrollment_seconds: Maybe(UTTERANCE_SECONDS) = None


def read_variation(path):
    """Read a file of ``conf/tests``.

    Raises:
        UserError: no such file, an unknown or missing key, or a value that does not fit.
    """
    path = Path(path)
    if not re.fullmatch(r"[-\w.+]+", path.stem):
        raise UserError(f"{path}: the name of a test has only letters, digits and - _ . +; rename")
    return Variation(**check_options(read_yaml(path), Variation, path))


def vary(
    mixture,
    variation,
    targets,
    interferers,
    fold_of,
    seed,
    neutral="neu",
    gender_state="random",
    levels="loudness",
):
    """Change a mixture.

    Args:
        mixture: `Mixture` of the protocol. targets: `Pool`.
        interferers: the `Pool` that the variation draws from: the protocol's own unless
            ``variation.interferers`` names another.
        fold_of: fold of each speaker in it (see `protocol.speaker_folds`).
        seed: of the new draws, which depend on it and on the mixture's id alone.
        gender_state, levels: of the protocol, which hold where the variation says nothing else:
            new interferers have that gender state, and with levels "snr" the mixture keeps its SNR.

    Returns:
        `Mixture`.

    Raises:
        UserError: there is no interferer or enrollment of the kind that is asked for.
    """
    rng = np.random.default_rng([seed, 3, zlib.crc32(mixture.mixture.encode())])
    entry = targets[mixture.target]
    state = variation.gender_state or gender_state
    chosen, offsets, gains = _sources(rng, mixture, variation, entry, interferers, fold_of, state)
    tail = 0
    if variation.overlap is not None:
        tail = round((1 - variation.overlap) * entry.num_samples)
        offsets = [tail] * len(chosen)
    target = np.pad(targets.audio(entry.utt), (0, tail))
    placed = [
        place(interferers.audio(o), offset, len(target))
        for o, offset in zip(chosen, offsets, strict=True)
    ]
    wanted = variation.snr
    is_new = (tuple(chosen), tuple(offsets)) != (mixture.interferers, mixture.offsets)
    if wanted is None and levels == "snr" and is_new:
        wanted = mixture.snr_db
    if wanted is not None:
        scaled = [amplitude(g) * s for g, s in zip(gains, [target, *placed], strict=True)]
        if not all(np.any(p) for p in placed):
            raise UserError(f"mixture '{mixture.mixture}': an interferer is silent in it")
        change = snr(scaled[0], scaled[1:]) - wanted
        gains = [gains[0], *(g + change for g in gains[1:])]
    heard = {mixture.speaker, *(interferers[o].speaker for o in chosen)}
    enrollment, samples = _enroll(rng, mixture, variation, targets, neutral, heard)
    return describe(
        entry,
        interferers,
        chosen,
        offsets,
        guard_gains(gains, [target, *placed]),
        target,
        placed,
        enrollment,
        seed,
        tail=tail,
        enrollment_samples=samples,
    )


def _sources(rng, mixture, variation, entry, interferers, fold_of, state):
    """Ids, offsets and gains (the target's first) of the interferers: those of the mixture as far
    as they fit, else new ones."""
    count = len(mixture.interferers) if variation.talkers is None else variation.talkers - 1
    kept = min(count, len(mixture.interferers))
    like = {g == mixture.gender for g in mixture.interferer_genders[:kept]}
    if variation.interferers is not None or (state != "random" and like != {state == "same"}):
        kept = 0
    chosen = list(mixture.interferers[:kept])
    offsets = list(mixture.offsets[:kept])
    gains = list(mixture.gains_db[: 1 + kept])
    new = draw_interferers(
        rng,
        interferers,
        fold_of,
        entry,
        state,
        count - kept,
        mixture.interferer_speakers[:kept],
    )
    for utt in new:
        offset, _ = draw_placed(
            rng, interferers.audio(utt), entry.num_samples, interferers[utt].lufs
        )
        offsets.append(offset)
        gains.append(rng.uniform(*Levels().loudness) - interferers[utt].lufs)
    return chosen + new, offsets, gains


def _enroll(rng, mixture, variation, targets, neutral, heard):
    """Ids of the enrollment's utterances and the samples to cut it to (0: none).

    ``heard`` are the speakers in the mixture.
    """
    kind, seconds = variation.enrollment or "neutral", variation.enrollment_seconds
    if kind == "wrong":
        choices = [
            e.utt
            for e in targets.entries.values()
            if e.fold == mixture.fold and e.speaker not in heard and e.emotion == neutral
        ]
        choices = _of_one_speaker(rng, choices, targets)
    else:
        others = [u for u in targets.by_speaker[mixture.speaker] if u != mixture.target]
        choices = [u for u in others if _is_kind(targets[u].emotion, kind, neutral)]
    order = [str(u) for u in rng.permutation(choices)]
    if kind == "neutral":  # that of the protocol, and others only if it is too short
        first = list(mixture.enrollment)
        order = first + [u for u in order if u not in first]
    if not order:
        raise UserError(
            f"mixture '{mixture.mixture}': there is no '{kind}' enrollment for it; take a kind of "
            "enrollment that every speaker has"
        )
    if seconds is None:
        whole = len(mixture.enrollment) if kind == "neutral" else 1
        return tuple(order[:whole]), mixture.enrollment_samples
    wanted, had, used = round(seconds * targets.fs), 0, []
    for utt in order:
        used.append(utt)
        had += targets[utt].num_samples
        if had >= wanted:
            return tuple(used), wanted
    raise UserError(
        f"mixture '{mixture.mixture}': its speaker has only {had / targets.fs:.1f} s of '{kind}' "
        f"enrollment, {seconds} s are asked for; ask for less"
    )


def _of_one_speaker(rng, utts, targets):
    speakers = sorted({targets[u].speaker for u in utts})
    if not speakers:
        return []
    speaker = str(rng.choice(speakers))
    return [u for u in utts if targets[u].speaker == speaker]


def _is_kind(emotion, kind, neutral):
    if kind == "emotional":
        return emotion != neutral
    return emotion == (neutral if kind == "neutral" else kind)
