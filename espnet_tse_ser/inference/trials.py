"""Trials of a set of mixtures: with the target, without it, and with the enrollment of another."""

import zlib
from dataclasses import dataclass

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE, TALKER
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.mixing import draw_offset, place
from espnet_tse_ser.progress import progress
from espnet_tse_ser.training.batches import inference_batches

PRESENT, WRONG, ABSENT = CONDITIONS = ("present", "wrong", "absent")


@dataclass(frozen=True)
class Voice:
    """A speaker in a mixture of the set: its target (``number`` None), or an interferer."""

    utt: str
    number: int | None
    speaker: str
    gender: str


@dataclass(frozen=True)
class Trial:
    """A mixture of the set, or what is made of it.

    "present": the mixture and its enrollment. "wrong": with that of ``other``, who is not in it;
    speech of an interferer is one as well. "absent": without the target, with the speech of
    ``other`` instead, or None. ``gender_state``: whether ``other`` ("wrong"), or all who speak
    ("absent"), have the target's gender, "same" or "different". ``seed``: where that speech begins.
    """

    utt: str
    condition: str
    other: Voice | None = None
    gender_state: str = ""
    seed: int = 0


def draw_trials(mixtures, draws=2, seed=0):
    """Draw the trials of a set: of each mixture one with the target, others ``draws`` times.

    Speakers of either gender and kind (target, interferer) are equally likely, as far as there are.
    The draws of a mixture depend on the set, the seed and its id.

    Args:
        mixtures: list of `Mixture`.

    Returns:
        list of `Trial`.

    Raises:
        UserError: all mixtures have the same speakers, so that nobody else can be enrolled.
    """
    voices = [voice for mixture in mixtures for voice in _voices(mixture)]
    trials = []
    for mixture in mixtures:
        trials.append(Trial(mixture.mixture, PRESENT))
        own = _voices(mixture)
        inside = {voice.speaker for voice in own}
        others = [voice for voice in voices if voice.speaker not in inside]
        if not others:
            raise UserError(
                f"mixture '{mixture.mixture}': there is nobody in the set who is not in it, to be "
                "enrolled instead; give more mixtures, of other speakers"
            )
        for number in range(draws):
            rng = np.random.default_rng([seed, number, zlib.crc32(mixture.mixture.encode())])
            other = _draw(rng, others)
            state = "same" if other.gender == mixture.gender else "different"
            trials.append(Trial(mixture.mixture, WRONG, other, state))
            # Of three, one is those alone who are there anyway.
            other = _draw(rng, others) if len(own) == 1 or rng.random() < 2 / 3 else None
            there = [*own[1:], *([other] if other else [])]
            state = "same" if all(v.gender == mixture.gender for v in there) else "different"
            start = int(rng.integers(2**31))
            trials.append(Trial(mixture.mixture, ABSENT, other, state, start))
    return trials


def signals_of(data, trial):
    """The mixture and the enrollment of a `Trial`, ``(num_samples,)`` each.

    Args:
        data: `MixtureSet` that has the mixtures.
    """
    utt, other = trial.utt, trial.other
    if trial.condition == PRESENT:
        return data.audio("mix", utt), data.audio("enroll", utt)
    if trial.condition == WRONG and other.number is None:
        return data.audio("mix", utt), data.audio("enroll", other.utt)
    if trial.condition == WRONG:
        return data.audio("mix", utt), data.interferers(other.utt)[other.number]
    mixture = np.sum([*data.interferers(utt), np.zeros(data.lengths[utt])], axis=0)
    if other is not None:
        speech = data.audio("ref", other.utt)
        if other.number is not None:
            speech = data.interferers(other.utt)[other.number]
        offset = draw_offset(
            np.random.default_rng(trial.seed), len(speech), len(mixture), kind=NOISE
        )
        mixture = mixture + place(speech, offset, len(mixture), kind=NOISE)
    return mixture.astype(np.float32), data.audio("enroll", utt)


def recognize_trials(model, data, trials, batch_size):
    """Recognise trials.

    Args:
        model: `TSESER` that extracts with enrollments. data: `MixtureSet`. batch_size: at a time.

    Yields:
        each `Trial` and its `Recognition`, with evidence.
    """
    embeddings = model.embeddings()
    lengths = {number: data.lengths[trial.utt] for number, trial in enumerate(trials)}
    for batch in progress(inference_batches(lengths, batch_size, data.fs), "recognise"):
        chosen = [trials[number] for number in batch]
        mixtures, enrollments = zip(*(signals_of(data, trial) for trial in chosen), strict=True)
        names = [f"{trial.utt} ({trial.condition})" for trial in chosen]
        results = model.recognize(
            list(mixtures),
            list(enrollments),
            embeddings=embeddings,
            names=names,
            with_evidence=True,
        )
        for trial, result, *signals, name in zip(
            chosen, results, mixtures, enrollments, names, strict=True
        ):
            yield trial, model.without_silence(result, signals, name)


def _voices(mixture):
    """The target, then the talkers in the order of their signals."""
    talkers = mixture.of_kind(TALKER)
    return [
        Voice(mixture.mixture, None, mixture.speaker, mixture.gender),
        *(Voice(mixture.mixture, k, t.group, t.gender) for k, t in enumerate(talkers)),
    ]


def _draw(rng, voices):
    """One of them: a gender and a kind first, then who."""
    groups = {}
    for voice in voices:
        groups.setdefault((voice.gender, voice.number is None), []).append(voice)
    group = groups[sorted(groups)[rng.integers(len(groups))]]
    return group[rng.integers(len(group))]
