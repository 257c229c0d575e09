"""Mixtures of TSE pretraining: pieces of speech, disturbed by other speakers or by noise."""

from dataclasses import dataclass

import numpy as np

from espnet_tse_ser.audio.reading import resample
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
from espnet_tse_ser.mixtures.mixing import (
    DRAWS,
    LOUDNESS,
    MODES,
    SNR,
    Levels,
    draw_gains,
    happens,
    is_pause,
    mix,
)
from espnet_tse_ser.mixtures.sources import disturb, draw_noise
from espnet_tse_ser.mixtures.splits import hold_out_speakers, share_of_speakers
from espnet_tse_ser.mixtures.table import CLEAN, LEVELS
from espnet_tse_ser.values.kinds import Flag, Maybe
from espnet_tse_ser.values.numbers import Number

SAMPLES = Number(MIN_SAMPLES, 10**8, whole=True)  # of a piece of speech
SHARE = Number(0, 1)  # of the examples that are drawn

_NORMAL = 20  # speeds are in twentieths


@dataclass(frozen=True)
class PretrainingOptions:
    """``mixing_conf`` of TSE pretraining.

    Args:
        levels, snr, snr_set, loudness: see `Levels`.
        segment: samples of a mixture; enroll_segment: of an enrollment, None: without one.
        steps_per_epoch: batches that make an "epoch" of dynamic mixing.
        valid_examples: fixed mixtures of held-out speakers.
        valid_share: share of the pool's speakers that is held out.
        speaker_share: share of the others that is trained on: how much data is needed.
        cache_gb: decoded audio kept in memory, 0.115 GB an hour, for all workers together.
        alone_share, absent_share: see `PretrainingMixtures`.
        both: train on `pairs` of mixtures, of talkers only; needs a range of ``snr`` around 0.
        speed: of these, see `PretrainingMixtures`.
    """

    levels: MODES = "snr"
    snr: SNR = (-5.0, 5.0)
    snr_set: Maybe(LEVELS) = None
    loudness: LOUDNESS = (-33.0, -25.0)
    segment: SAMPLES = 32000
    enroll_segment: Maybe(SAMPLES) = 32000
    steps_per_epoch: Number(1, 10**5, whole=True) = 100
    valid_examples: Number(1, 10**6, whole=True) = 200
    valid_share: Number(0, 1, above=True, below=True) = 0.05
    speaker_share: Number(0, 1, above=True) = 1.0
    cache_gb: Number(0, 10**4) = 1.0
    alone_share: SHARE = 0.0
    absent_share: SHARE = 0.0
    both: Flag() = False
    speed: Number(0, 0.5) = 0.0


class PretrainingMixtures:
    """Mixtures of pieces of a pool of speech with one another or with noise.

    Args:
        pool: `Pool`; every speaker is target and, without noise, interferer.
        levels: `Levels`.
        segment: samples of a mixture; enroll_segment: samples of an enrollment, None: without one.
        speakers: ordered list; the index in it is the label of the speaker-identification loss.
        noise: `Pool` of what disturbs; None: other speakers of ``pool``.
        alone_share: of the mixtures that nothing disturbs, 0 to 1.
        absent_share: of those whose enrollment is of a speaker who is not in them, so that nothing
            is to be extracted, 0 to 1; of those that nothing disturbs and of the others alike.
        speed: of pairs, how much faster or slower talkers speak at most, in steps of a twentieth.
            Voices become higher or lower with it, enrollments alike: those of more speakers than
            the pool has (Ko et al., "Audio augmentation for speech recognition", Interspeech 2015).

    Raises:
        UserError: fewer than two speakers can give a segment and an enrollment, or than three if
            one of them is to be absent.
    """

    def __init__(
        self,
        pool,
        levels,
        segment,
        enroll_segment,
        speakers,
        noise=None,
        alone_share=0.0,
        absent_share=0.0,
        speed=0.0,
    ):
        self.pool, self.levels = pool, levels
        self.sources = pool if noise is None else noise
        for one in (self.pool, self.sources):
            one.share()
        self.segment, self.enroll_segment = segment, enroll_segment
        self.faster = round(_NORMAL * speed)
        self.labels = {speaker: label for label, speaker in enumerate(speakers)}
        self.usable = sorted(s for s, utts in pool.by_group.items() if self._can_be_target(utts))
        self.left_out = sorted(set(pool.by_group) - set(self.usable))
        self.alone_share, self.absent_share = alone_share, absent_share
        needed = 3 if absent_share > 0 and self.sources is self.pool else 2
        if len(self.usable) < needed:
            wanted = f"a segment of {segment} samples"
            if enroll_segment is not None:
                wanted += f" and an enrollment of {enroll_segment} apart from it"
            raise UserError(
                f"{pool.name}: {len(self.usable)} speaker(s) have {wanted}; "
                f"{'two' if needed == 2 else 'three'} are needed: add "
                "speech or shorten segment and enroll_segment"
                + (", give a higher valid_share or no absent_share" if needed == 3 else "")
            )

    def example(self, rng, item=None):
        """Draw ``(id, {speech_mix, speech_ref1, enroll_ref1, speaker})``; the last is enrolled.

        Where targets can be absent the example says whether this one is: ``absent``.

        Args:
            item: of `pairs`, which is drawn in place of another mixture.
        """
        if item is not None:
            seed, side = item
            return self._one_of_both(np.random.default_rng(seed), side)
        absent = happens(rng, self.absent_share)
        count = 2 if self.sources is self.pool else 1
        target_speaker, *others = rng.choice(self.usable, size=count + absent, replace=False)
        interferers, enrolled = others[: count - 1], others[-1] if absent else target_speaker
        utt, target, enrollment = self._draw_loud(rng, target_speaker)
        if absent:
            enrollment = self._draw_loud(rng, enrolled)[2]
        name, levels = self.levels.draw(rng)
        chosen = [str(rng.choice(self.pool.by_group[s])) for s in interferers]
        if self.sources is not self.pool:
            chosen = [*draw_noise(rng, self.sources, 1, self.sources.by_group)]
        if name == CLEAN or happens(rng, self.alone_share):
            chosen = []
        lufs = self.pool[utt].lufs
        mixture, (target, *_), _ = disturb(rng, levels, target, lufs, self.sources, chosen)
        uid = "-".join([utt, *chosen])
        return uid, self._example(mixture, target, enrollment, enrolled, absent)

    def _one_of_both(self, rng, side):
        absent = happens(rng, 2 * self.absent_share)  # one of the two
        gone = int(rng.integers(2)) if absent else None
        talkers = rng.choice(self.usable, size=2 + absent, replace=False)
        speeds = rng.integers(-self.faster, self.faster + 1, size=len(talkers)) + _NORMAL
        drawn = [self._draw_loud(rng, *each) for each in zip(talkers, speeds, strict=True)]
        name, levels = self.levels.draw(rng)
        alone = name == CLEAN or happens(rng, self.alone_share)
        inside = [side] if alone else [0, 1]
        utts, (target, *placed), _ = zip(*(drawn[k] for k in inside), strict=True)
        lufs = [self.pool[utt].lufs for utt in utts]
        mixture, scaled = mix(target, placed, draw_gains(rng, levels, target, placed, lufs))
        enrolled = 2 if side == gone else side
        target, enrollment = scaled[inside.index(side)], drawn[enrolled][2]
        example = self._example(mixture, target, enrollment, talkers[enrolled], enrolled == 2)
        return "-".join(utts), example

    def _example(self, mixture, target, enrollment, enrolled, absent):
        reference = np.zeros_like(target) if absent else target
        example = {"speech_mix": mixture, "speech_ref1": reference}
        if enrollment is not None:
            example["enroll_ref1"] = enrollment
        example["speaker"] = np.array([self.labels.get(enrolled, 0)], np.int64)
        if self.absent_share > 0:
            example["absent"] = np.array([absent], np.int64)
        return example

    def _draw_loud(self, rng, speaker, speed=_NORMAL):
        """As `_draw_target`, without the enrollment's utterance; drawn again if it is a pause."""
        for _ in range(DRAWS):
            utt, target, enroll_utt, enrollment = self._draw_target(rng, speaker, speed)
            if not is_pause(target, self.pool[utt].lufs) and not (
                enroll_utt and is_pause(enrollment, self.pool[enroll_utt].lufs)
            ):
                break
        if speed != _NORMAL:
            target = resample(target, int(speed), _NORMAL)[: self.segment]
            enrollment = resample(enrollment, int(speed), _NORMAL)[: self.enroll_segment]
        return utt, target, enrollment

    def _can_be_target(self, utts):
        lengths = sorted(self.pool[u].num_samples for u in utts)
        segment, enroll_segment = self._needed(_NORMAL + self.faster)
        if enroll_segment is None:
            return lengths[-1] >= segment
        if lengths[-1] >= segment + enroll_segment:
            return True
        return (
            len(lengths) > 1
            and lengths[-1] >= max(segment, enroll_segment)
            and lengths[-2] >= min(segment, enroll_segment)
        )

    def _needed(self, speed):
        """Samples of a talker at this speed that become a segment, and an enrollment (or None)."""
        sizes = self.segment, self.enroll_segment
        return [None if size is None else -(-size * int(speed) // _NORMAL) for size in sizes]

    def _draw_target(self, rng, speaker, speed):
        """Two pieces of one speaker that share no sample: of two utterances where possible.

        Args:
            speed: in twentieths of what it is.

        Returns:
            the target's utterance and samples, the enrollment's utterance and samples (or None).
        """
        segment, enroll_segment = self._needed(speed)
        lengths = {u: self.pool[u].num_samples for u in self.pool.by_group[speaker]}
        if enroll_segment is None:
            utt = str(rng.choice([u for u in lengths if lengths[u] >= segment]))
            start = self._draw_start(rng, utt, segment)
            return utt, self.pool.audio(utt, start, segment), None, None
        enrollable = [u for u in lengths if lengths[u] >= enroll_segment]
        both = segment + enroll_segment
        # An utterance that is the only one to enroll with has to give both pieces.
        needed = {u: both if enrollable == [u] else segment for u in lengths}
        utt = str(rng.choice([u for u in lengths if lengths[u] >= needed[u]]))
        others = [u for u in enrollable if u != utt]
        if others:
            enroll_utt = str(rng.choice(others))
            start = self._draw_start(rng, utt, segment)
            enroll_start = self._draw_start(rng, enroll_utt, enroll_segment)
        else:
            enroll_utt = utt
            room = lengths[utt] - both
            first, second = np.sort(rng.integers(0, room + 1, size=2))
            if rng.random() < 0.5:
                start, enroll_start = int(first), int(second) + segment
            else:
                enroll_start, start = int(first), int(second) + enroll_segment
        source = self.pool.audio(utt, start, segment)
        enrollment = self.pool.audio(enroll_utt, enroll_start, enroll_segment)
        return utt, source, enroll_utt, enrollment

    def _draw_start(self, rng, utt, num_samples):
        return int(rng.integers(0, self.pool[utt].num_samples - num_samples + 1))


def pretraining_mixtures(pool, options, seed, noise=None):
    """The training and validation mixtures of a pretraining pool.

    Args:
        pool: `Pool`. options: `PretrainingOptions`. seed: of the training.
        noise: `Pool` of what disturbs, of which the same share of recordings is held out as of
            speakers; None: other speakers disturb.

    Returns:
        `PretrainingMixtures` of the training speakers and of the held-out ones.
    """
    levels = Levels(options.levels, options.loudness, options.snr, options.snr_set)
    cache_bytes = int(options.cache_gb * 1e9)
    sides = pretraining_speakers(pool, options, seed)
    noises = (None, None) if noise is None else _noises(noise, options, seed, cache_bytes)
    return tuple(
        PretrainingMixtures(
            pool.subset(lambda e, side=side: e.speaker in side, cache_bytes),
            levels,
            options.segment,
            options.enroll_segment,
            sorted(sides[0]),
            own,
            options.alone_share,
            options.absent_share,
            options.speed if side is sides[0] else 0.0,
        )
        for side, own in zip(sides, noises, strict=True)
    )


def pairs(rng, count):
    """Items of ``count`` examples (even) for `PretrainingMixtures.example`, two of each mixture.

    They are of one talker as the target and then of the other, each with an enrollment. An
    extractor that does not obey the enrollment cannot do well at both. The second has minus the SNR
    of the first. Where a target is absent, it is one of both.

    >>> [side for _, side in pairs(np.random.default_rng(0), 4)]
    [0, 1, 0, 1]
    """
    return [(int(seed), side) for seed in rng.integers(2**63, size=count // 2) for side in (0, 1)]


def _noises(noise, options, seed, cache_bytes):
    """The recordings of noise for training and the held-out ones, a `Pool` each."""
    if len(noise.by_group) < 2:
        raise UserError(
            f"{noise.name}: noise of one recording cannot be divided for validation; add noise"
        )
    held_out = hold_out_speakers(noise.gender, options.valid_share, seed, noise.name)
    return (
        noise.subset(lambda e: e.group not in held_out, cache_bytes),
        noise.subset(lambda e: e.group in held_out, cache_bytes),
    )


def pretraining_speakers(pool, options, seed):
    """The training and the held-out speakers of a pretraining pool, as two sets.

    The same speakers are held out whatever ``speaker_share`` is, so that the validation losses of
    different shares can be compared.
    """
    held_out = hold_out_speakers(pool.gender, options.valid_share, seed, pool.name)
    rest = {s: g for s, g in pool.gender.items() if s not in held_out}
    return share_of_speakers(rest, options.speaker_share, seed), held_out
