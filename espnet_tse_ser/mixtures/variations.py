"""Variations of the test mixtures: what a sweep changes about them.

A sweep asks how trained systems do on other mixtures than those they were trained on: louder
sources, more talkers, a worse enrollment. Each of its points is a small file in ``conf/sweeps``.
What a variation does not name stays what it is in the mixture table, as far as it fits, so that its
results are paired with the main ones, utterance by utterance. New sources are as loud as those of
the mixture table.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import TALKER
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.mixtures.drawing import describe
from espnet_tse_ser.mixtures.mixing import Levels, amplitude, draw_placed, guard_gains, place, snr
from espnet_tse_ser.mixtures.sources import GENDER_STATES, draw_sources
from espnet_tse_ser.mixtures.table import CLEAN
from espnet_tse_ser.values.kinds import Choice, Either, Id, Maybe, Text, check_options
from espnet_tse_ser.values.numbers import SHARE, UTTERANCE_SECONDS, Number


@dataclass(frozen=True)
class Variation:
    """What a sweep changes; None leaves it as it is in the mixture table.

    Args:
        about: one sentence for the table. sweep: the table. value: the row's label in it.
        snr: energy ratio of target to sources over the whole mixture, in dB, or "clean": none.
        talkers: target and interferers together.
        overlap: share of the target, at its end, during which the interferers speak; they go on
            after it for the rest of its length, so that at 0 they only follow it. One whose
            utterance is shorter than the target ends before; `Mixture.overlap` has what there is.
        gender_state: "same" or "different".
        sources: another set of sources, a directory beside that of the usual ones; "emo" is the
            emotional corpus itself (other speakers of the fold).
        enrollment: "neutral", "emotional" (any other emotion), one emotion, or "wrong" (of another
            speaker of the fold, who is not in the mixture, neutral).
        enrollment_seconds: cut the enrollment to this; a longer one is put together from several
            utterances of the speaker.
    """

    about: Text()
    sweep: Text()
    value: Either(Text(), Number())
    snr: Maybe(Either(Number(-100, 100), Choice(CLEAN))) = None
    talkers: Maybe(Number(2, 100, whole=True)) = None
    overlap: Maybe(SHARE) = None
    gender_state: Maybe(Choice(*GENDER_STATES[1:])) = None
    sources: Maybe(Id()) = None
    enrollment: Maybe(Id()) = None
    enrollment_seconds: Maybe(UTTERANCE_SECONDS) = None


def read_variation(path):
    """Read a file of ``conf/sweeps``.

    Raises:
        UserError: no such file, an unknown or missing key, or a value that does not fit.
    """
    path = Path(path)
    if not re.fullmatch(r"[-\w.+]+", path.stem):
        raise UserError(f"{path}: the name of a sweep has only letters, digits and - _ . +; rename")
    variation = Variation(**check_options(read_yaml(path), Variation, path))
    for name in ("sources", *_OF_TALKERS):
        if variation.snr == CLEAN and getattr(variation, name) is not None:
            raise UserError(f"{path}: with snr {CLEAN} there is no source; leave {name} out")
    return variation


_OF_TALKERS = ("talkers", "overlap", "gender_state")


def vary(
    mixture,
    variation,
    targets,
    sources,
    fold_of,
    seed,
    neutral="neu",
    gender_state="random",
    levels=Levels(),  # noqa: B008 - frozen
    num_sources=1,
):
    """Change a mixture.

    Args:
        mixture: `Mixture` of the table. targets: `Pool`.
        sources: the `Pool` that the variation draws from: the table's own unless
            ``variation.sources`` names another; None where nothing has any.
        fold_of: fold of each group in it (see `sources.group_folds`).
        seed: of the new draws, which depend on it and on the target's id alone.
        gender_state, levels: of the table, which hold where the variation says nothing else:
            new interferers have that gender state and its loudness (`Levels`), and with levels in
            the mode "snr" the mixture keeps its SNR.
        num_sources: of a clean mixture that is not to be clean.

    Returns:
        `Mixture`.

    Raises:
        UserError: there is no source or enrollment of the kind that is asked for.
    """
    # Of the target: its mixtures at other levels get the same sources.
    rng = np.random.default_rng([seed, 3, zlib.crc32(mixture.target.encode())])
    entry = targets[mixture.target]
    state = variation.gender_state or gender_state
    count = _count(mixture, variation, sources, num_sources)
    found = _sources(
        rng,
        mixture,
        variation,
        entry,
        sources,
        fold_of,
        state=state,
        count=count,
        loudness=levels.loudness,
    )
    tail = 0
    if variation.overlap is not None and found:
        tail = round((1 - variation.overlap) * entry.num_samples)
        found = [(utt, tail, gain) for utt, _, gain in found]
    chosen = [sources[utt] for utt, _, _ in found]
    offsets = [offset for _, offset, _ in found]
    gains = [mixture.gain_db, *(gain for _, _, gain in found)]
    signals = [np.pad(targets.audio(entry.utt), (0, tail))]
    signals += [
        place(sources.audio(e.utt), offset, len(signals[0]), e.kind)
        for e, offset in zip(chosen, offsets, strict=True)
    ]
    wanted = variation.snr
    is_new = [f[:2] for f in found] != [(s.utt, s.offset) for s in mixture.sources]
    if wanted is None and levels.mode == "snr" and is_new:
        wanted = mixture.snr_db
    if wanted is not None and found:
        scaled = [amplitude(g) * s for g, s in zip(gains, signals, strict=True)]
        if not all(np.any(s) for s in signals[1:]):
            raise UserError(f"mixture '{mixture.mixture}': a source is silent in it")
        change = snr(scaled[0], scaled[1:]) - wanted
        gains = [gains[0], *(g + change for g in gains[1:])]
    present = {mixture.speaker, *(e.group for e in chosen)}
    enrollment, samples = _enroll(rng, mixture, variation, targets, neutral, present)
    return describe(
        entry,
        chosen,
        signals,
        offsets=offsets,
        gains=guard_gains(gains, signals),
        enrollment=enrollment,
        seed=seed,
        mixture=mixture.mixture,
        tail=tail,
        enrollment_samples=samples,
        level=_level(mixture, variation),
    )


def _count(mixture, variation, sources, num_sources):
    """How many sources the changed mixture has; of a clean one only its level can be changed."""
    if variation.snr == CLEAN or (mixture.level == CLEAN and variation.snr is None):
        return 0
    count = len(mixture.sources)
    if not count and (variation.snr is not None or variation.sources is not None):
        count = num_sources
    for name in _OF_TALKERS:
        if getattr(variation, name) is not None and not (count and sources.kind == TALKER):
            raise UserError(
                f"mixture '{mixture.mixture}': {name} is of talkers, but its sources are "
                f"{'noise' if count else 'none'}; leave the sweep out, or take sources that talk"
            )
    return count if variation.talkers is None else variation.talkers - 1


def _level(mixture, variation):
    """Of a table with levels the one that the mixture has now."""
    if not mixture.level or variation.snr is None:
        return mixture.level
    return variation.snr if variation.snr == CLEAN else f"{variation.snr:g}"


def _sources(rng, mixture, variation, entry, sources, fold_of, *, state, count, loudness):
    """Id, offset and gain of each source: those of the mixture if they fit, then new ones."""
    kept = mixture.sources[:count]
    like = {s.gender == mixture.gender for s in kept}
    wrong = state != "random" and like != {state == "same"}
    if variation.sources is not None or wrong:
        kept = ()
    found = [(s.utt, s.offset, s.gain_db) for s in kept]
    taken = [s.group for s in kept]
    for utt in draw_sources(rng, sources, fold_of, entry, count - len(kept), state, taken):
        new = sources[utt]
        offset, _ = draw_placed(rng, sources.audio(utt), entry.num_samples, new.lufs, new.kind)
        found.append((utt, offset, rng.uniform(*loudness) - new.lufs))
    return found


def _enroll(rng, mixture, variation, targets, neutral, present):
    """Ids of the enrollment's utterances and the samples to cut it to (0: none).

    ``present`` are the speakers in the mixture.
    """
    if not mixture.enrollment:
        if variation.enrollment is not None or variation.enrollment_seconds is not None:
            raise UserError(
                f"mixture '{mixture.mixture}': has no enrollment to change; leave the sweep out"
            )
        return (), 0
    kind, seconds = variation.enrollment or "neutral", variation.enrollment_seconds
    if kind == "wrong":
        choices = [
            e.utt
            for e in targets.entries.values()
            if e.fold == mixture.fold and e.speaker not in present and e.emotion == neutral
        ]
        choices = _of_one_speaker(rng, choices, targets)
    else:
        others = [u for u in targets.by_group[mixture.speaker] if u != mixture.target]
        choices = [u for u in others if _is_kind(targets[u].emotion, kind, neutral)]
    order = [str(u) for u in rng.permutation(choices)]
    if kind == "neutral":  # that of the mixture table, and others only if it is too short
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
