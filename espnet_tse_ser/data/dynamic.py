"""Dynamic mixing: fresh mixtures every epoch, drawn from pools, the same for the same seed.

Example ``index`` of epoch ``epoch`` depends on ``(seed, epoch, index)`` alone, so neither the
number of workers or processes nor a resumed training changes it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_tse_ser.data.checks import MIN_SAMPLES
from espnet_tse_ser.data.collate import pad_collate
from espnet_tse_ser.data.mixing import (
    DRAWS,
    LOUDNESS,
    MODES,
    SNR,
    Levels,
    draw_gains,
    draw_placed,
    is_pause,
    mix,
)
from espnet_tse_ser.data.prefetching import PrefetchingLoader
from espnet_tse_ser.data.protocol import enrollment_choices
from espnet_tse_ser.data.splits import hold_out_speakers, share_of_speakers
from espnet_tse_ser.distributed import divisible
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.kinds import Flag, Mapping, Maybe, check_option, check_options
from espnet_tse_ser.numbers import Number

_SAMPLES = Number(MIN_SAMPLES, 10**8, whole=True)


@dataclass(frozen=True)
class PretrainingOptions:
    """``mixing_conf`` of TSE pretraining.

    Args:
        levels, snr, loudness: see `Levels`.
        segment: samples of a mixture; enroll_segment: of an enrollment.
        steps_per_epoch: batches that make an "epoch" of dynamic mixing.
        valid_examples: fixed mixtures of held-out speakers.
        valid_share: share of the pool's speakers that is held out.
        speaker_share: share of the others that is trained on: how much data is needed.
        cache_gb: decoded audio kept in memory, 0.115 GB an hour, for all workers together.
    """

    levels: MODES = "snr"
    snr: SNR = (-5.0, 5.0)
    loudness: LOUDNESS = (-33.0, -25.0)
    segment: _SAMPLES = 32000
    enroll_segment: _SAMPLES = 32000
    steps_per_epoch: Number(1, 10**5, whole=True) = 100
    valid_examples: Number(1, 10**6, whole=True) = 200
    valid_share: Number(0, 1, above=True, below=True) = 0.05
    speaker_share: Number(0, 1, above=True) = 1.0
    cache_gb: Number(0, 10**4) = 1.0


@dataclass(frozen=True)
class EmotionOptions:
    """``mixing_conf`` of joint training.

    Args:
        dynamic: fresh interferers, levels and enrollments each epoch; False: the protocol's.
        levels, snr, loudness: see `Levels`.
        max_samples: crop longer targets in training; None: never.
    """

    dynamic: Flag() = True
    levels: MODES = "loudness"
    snr: SNR = (-5.0, 5.0)
    loudness: LOUDNESS = (-33.0, -25.0)
    max_samples: Maybe(_SAMPLES) = None


def mixing_options(taker, conf, where="mixing_conf"):
    """``taker`` (a class of options) with what a ``mixing_conf`` says.

    Raises:
        UserError: it is no mapping, has an unknown key or a value that does not fit.
    """
    return taker(**check_options(check_option(conf, Mapping(), where), taker, where))


class PretrainingMixtures:
    """Mixtures of a pool with itself, for TSE pretraining.

    Args:
        pool: `Pool`; every speaker is target and interferer.
        levels: `Levels`.
        segment: samples of a mixture; enroll_segment: samples of an enrollment.
        speakers: ordered list; the index in it is the label of the speaker-identification loss.

    Raises:
        UserError: fewer than two speakers can give a segment and an enrollment.
    """

    def __init__(self, pool, levels, segment, enroll_segment, speakers):
        self.pool, self.levels = pool, levels
        pool.share()
        self.segment, self.enroll_segment = segment, enroll_segment
        self.labels = {speaker: label for label, speaker in enumerate(speakers)}
        self.usable = sorted(s for s, utts in pool.by_speaker.items() if self._can_be_target(utts))
        self.left_out = sorted(set(pool.by_speaker) - set(self.usable))
        if len(self.usable) < 2:
            raise UserError(
                f"{len(self.usable)} speaker(s) of the pool have a segment of {segment} "
                f"samples and an enrollment of {enroll_segment} apart from it; two are needed: add "
                "speech or shorten segment and enroll_segment"
            )

    def example(self, rng, _item=None):
        """Draw ``(id, {speech_mix, speech_ref1, enroll_ref1, speaker})``."""
        target_speaker, interferer_speaker = rng.choice(self.usable, size=2, replace=False)
        for _ in range(DRAWS):
            utt, source, enroll_utt, enrollment = self._draw_target(rng, target_speaker)
            if not is_pause(source, self.pool[utt].lufs) and not is_pause(
                enrollment, self.pool[enroll_utt].lufs
            ):
                break
        other = str(rng.choice(self.pool.by_speaker[interferer_speaker]))
        lufs = [self.pool[utt].lufs, self.pool[other].lufs]
        _, placed = draw_placed(rng, self.pool.audio(other), self.segment, lufs[1])
        gains = draw_gains(rng, self.levels, source, [placed], lufs)
        mixture, sources = mix(source, [placed], gains)
        return f"{utt}-{other}", {
            "speech_mix": mixture,
            "speech_ref1": sources[0],
            "enroll_ref1": enrollment,
            "speaker": np.array([self.labels.get(target_speaker, 0)], np.int64),
        }

    def _can_be_target(self, utts):
        lengths = sorted(self.pool[u].num_samples for u in utts)
        if lengths[-1] >= self.segment + self.enroll_segment:
            return True
        return (
            len(lengths) > 1
            and lengths[-1] >= max(self.segment, self.enroll_segment)
            and lengths[-2] >= min(self.segment, self.enroll_segment)
        )

    def _draw_target(self, rng, speaker):
        """Two pieces of one speaker that share no sample: of two utterances where possible.

        Returns:
            the target's utterance and samples, the enrollment's utterance and samples.
        """
        lengths = {u: self.pool[u].num_samples for u in self.pool.by_speaker[speaker]}
        enrollable = [u for u in lengths if lengths[u] >= self.enroll_segment]
        both = self.segment + self.enroll_segment
        # An utterance that is the only one to enroll with has to give both pieces.
        needed = {u: both if enrollable == [u] else self.segment for u in lengths}
        utt = str(rng.choice([u for u in lengths if lengths[u] >= needed[u]]))
        others = [u for u in enrollable if u != utt]
        if others:
            enroll_utt = str(rng.choice(others))
            start = self._draw_start(rng, utt, self.segment)
            enroll_start = self._draw_start(rng, enroll_utt, self.enroll_segment)
        else:
            enroll_utt = utt
            room = lengths[utt] - both
            first, second = np.sort(rng.integers(0, room + 1, size=2))
            if rng.random() < 0.5:
                start, enroll_start = int(first), int(second) + self.segment
            else:
                enroll_start, start = int(first), int(second) + self.enroll_segment
        source = self.pool.audio(utt, start, self.segment)
        enrollment = self.pool.audio(enroll_utt, enroll_start, self.enroll_segment)
        return utt, source, enroll_utt, enrollment

    def _draw_start(self, rng, utt, num_samples):
        return int(rng.integers(0, self.pool[utt].num_samples - num_samples + 1))


def pretraining_mixtures(pool, options, seed):
    """The training and validation mixtures of a pretraining pool.

    Args:
        pool: `Pool`. options: `PretrainingOptions`. seed: of the training.

    Returns:
        `PretrainingMixtures` of the training speakers and of the held-out ones.
    """
    levels = Levels(options.levels, options.loudness, options.snr)
    cache_bytes = int(options.cache_gb * 1e9)
    sides = pretraining_speakers(pool, options, seed)
    return tuple(
        PretrainingMixtures(
            pool.subset(lambda e, side=side: e.speaker in side, cache_bytes),
            *(levels, options.segment, options.enroll_segment, sorted(sides[0])),
        )
        for side in sides
    )


def pretraining_speakers(pool, options, seed):
    """The training and the held-out speakers of a pretraining pool, as two sets.

    The same speakers are held out whatever ``speaker_share`` is, so that the validation losses of
    different shares can be compared.
    """
    held_out = hold_out_speakers(pool.gender, options.valid_share, seed)
    rest = {s: g for s, g in pool.gender.items() if s not in held_out}
    return share_of_speakers(rest, options.speaker_share, seed), held_out


class EmotionMixtures:
    """Mixtures of whole emotional utterances with fresh interferers, levels and enrollments.

    Args:
        targets: `Pool` of the training side of a fold; its neutral utterances are enrollments.
        interferers: `Pool` of the interferers that the training side may use.
        levels: `Levels`; neutral: label of neutral speech; num_interferers: of each mixture.
        max_samples: longer targets are cropped at random (None: never).

        gender_state: of the mixtures: "random", "same" or "different".

    Raises:
        UserError: a target speaker has no neutral utterance besides the target, or there are
            fewer interferer speakers (of the gender wanted) than ``num_interferers``.
    """

    def __init__(
        self,
        targets,
        interferers,
        levels,
        neutral="neu",
        num_interferers=1,
        max_samples=None,
        gender_state="random",
    ):
        self.targets, self.interferers, self.levels = targets, interferers, levels
        for pool in (targets, interferers):
            pool.share()
        self.num_interferers, self.max_samples = num_interferers, max_samples
        self.utts = list(targets.entries)
        self.interferer_speakers = {
            speaker: [
                s
                for s in sorted(interferers.by_speaker)
                if s != speaker
                and (gender_state, interferers.gender[s] == gender)
                not in (("same", False), ("different", True))
            ]
            for speaker, gender in targets.gender.items()
        }
        for speaker, others in self.interferer_speakers.items():
            if not 1 <= num_interferers <= len(others):
                raise UserError(
                    f"{num_interferers} interferer(s) a mixture of '{speaker}' cannot be drawn "
                    f"from {len(others)} interferer speaker(s); add interferer speakers"
                )
        self.enrollments = enrollment_choices(targets, neutral)

    def example(self, rng, utt):
        """Draw the mixture of target ``utt``: ``(id, {speech_mix, ..., emotion})``."""
        source = self.targets.audio(utt)
        if self.max_samples and len(source) > self.max_samples:
            start = int(rng.integers(0, len(source) - self.max_samples + 1))
            source = source[start : start + self.max_samples]
        speakers = self.interferer_speakers[self.targets[utt].speaker]
        chosen = rng.choice(speakers, size=self.num_interferers, replace=False)
        placed, lufs = [], [self.targets[utt].lufs]
        for speaker in chosen:
            other = str(rng.choice(self.interferers.by_speaker[speaker]))
            lufs.append(self.interferers[other].lufs)
            audio = self.interferers.audio(other)
            placed.append(draw_placed(rng, audio, len(source), lufs[-1])[1])
        mixture, sources = mix(source, placed, draw_gains(rng, self.levels, source, placed, lufs))
        return utt, {
            "speech_mix": mixture,
            "speech_ref1": sources[0],
            "enroll_ref1": self.targets.audio(str(rng.choice(self.enrollments[utt]))),
            "emotion": np.array(self.targets[utt].emotion),
        }


class MixingIterFactory(AbsIterFactory):
    """ESPnet iterator factory over dynamic mixtures.

    Args:
        draw: ``draw(rng, item) -> (id, arrays)``; with workers it is sent to them.
        batches: ``batches(rng) -> list of lists of items`` for one epoch.
        seed: of the whole training. fixed: the same mixtures every epoch (validation).
        preprocess: ESPnet preprocessor ``(id, arrays) -> arrays``, or None.
        num_workers: processes that mix; 0 mixes in a thread of the training process.
        part: ``(rank, number of processes)`` of a training whose processes divide each batch.
    """

    def __init__(
        self, draw, batches, seed, fixed=False, preprocess=None, num_workers=0, part=(0, 1)
    ):
        self.draw, self.batches, self.seed = draw, batches, seed
        self.fixed, self.preprocess, self.num_workers = fixed, preprocess, num_workers
        self.rank, self.processes = part

    def build_iter(self, epoch, shuffle=None):
        """Return the batches of ``epoch`` as a DataLoader."""
        epoch = 0 if self.fixed else epoch
        batches = self.batches(np.random.default_rng([self.seed, epoch]))
        batches = divisible(batches, self.processes)
        dataset = _EpochMixtures(
            self.draw, self.preprocess, [self.seed, epoch], batches, self.rank, self.processes
        )
        loader = torch.utils.data.DataLoader if self.num_workers else PrefetchingLoader
        return loader(dataset, batch_size=None, num_workers=self.num_workers, collate_fn=_identity)


class _EpochMixtures(torch.utils.data.Dataset):
    """What workers need of a `MixingIterFactory`, which is sent to them."""

    def __init__(self, draw, preprocess, seed, batches, rank, processes):
        self.draw, self.preprocess, self.seed, self.batches_ = draw, preprocess, seed, batches
        self.rank, self.processes = rank, processes
        self.starts = np.cumsum([0, *(len(b) for b in batches)])

    def __len__(self):
        return len(self.batches_)

    def __getitem__(self, number):
        if number >= len(self):
            raise IndexError(number)
        examples = []
        batch = list(enumerate(self.batches_[number], int(self.starts[number])))
        for index, item in batch[self.rank :: self.processes]:
            rng = np.random.default_rng([*self.seed, index])
            uid, arrays = self.draw(rng, item)
            if self.preprocess is not None:
                arrays = self.preprocess(uid, arrays)
            examples.append((uid, arrays))
        return pad_collate(examples)


def _identity(batch):
    return batch


def length_batches(lengths, batch_size, rng=None):
    """Batch ids of similar length; with ``rng``, jitter the order and shuffle the batches.

    Args:
        lengths: dict id -> length. batch_size: ids a batch.

    Returns:
        list of lists of ids.

    Raises:
        UserError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size must be 1 or more, got {batch_size}")
    keys = sorted(lengths, key=lambda k: (lengths[k], k))
    if rng is not None:
        jitter = {k: lengths[k] * rng.uniform(0.85, 1.15) for k in keys}
        keys.sort(key=lambda k: jitter[k])
    batches = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
