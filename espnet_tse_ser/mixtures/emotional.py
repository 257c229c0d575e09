"""Mixtures of joint training: whole emotional utterances, freshly disturbed."""

from dataclasses import dataclass

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.drawing import enrollment_choices
from espnet_tse_ser.mixtures.mixing import LOUDNESS, MODES, SNR, happens
from espnet_tse_ser.mixtures.pretraining import SAMPLES, SHARE
from espnet_tse_ser.mixtures.sources import disturb, draw_noise
from espnet_tse_ser.mixtures.table import CLEAN, LEVELS
from espnet_tse_ser.values.kinds import Flag, Maybe

_ENROLLABLE = 0.5  # seconds of half an utterance, at least


@dataclass(frozen=True)
class EmotionOptions:
    """``mixing_conf`` of joint training.

    Args:
        dynamic: fresh sources, levels and enrollments each epoch; False: those of the table.
        levels, snr, snr_set, loudness: see `Levels`.
        max_samples: crop longer targets in training; None: never.
        emo_share: of the talkers that disturb, how many are other speakers of the emotional corpus
            on the fold's training side; the others are of ``--sources``.
        swap_share: of the mixtures with a source, of how many the interferer is to be extracted:
            the emotion is trained on where it is a speaker of the emotional corpus.
        alone_share: of the mixtures, of how many there is no source.
        absent_share: of the mixtures, of how many somebody else is enrolled, so that nothing is to
            be extracted; no emotion is trained on.
    """

    dynamic: Flag() = True
    levels: MODES = "loudness"
    snr: SNR = (-5.0, 5.0)
    snr_set: Maybe(LEVELS) = None
    loudness: LOUDNESS = (-33.0, -25.0)
    max_samples: Maybe(SAMPLES) = None
    emo_share: SHARE = 0.0
    swap_share: SHARE = 0.0
    alone_share: SHARE = 0.0
    absent_share: SHARE = 0.0


class EmotionMixtures:
    """Mixtures of whole emotional utterances with fresh sources, levels and enrollments.

    Args:
        targets: `Pool` of the training side of a fold; its neutral utterances are enrollments.
        sources: `Pool` of the sources that the training side may use; None: none.
        levels: `Levels`. neutral: label of the enrollments; None: examples have none.
        num_sources: of each mixture (but those at the level "clean"), of different groups.
        max_samples: longer targets are cropped at random (None: never).
        gender_state: of the mixtures: "random", "same" or "different".
        emo_share: of the sources that are other speakers of ``targets``, 0 to 1.
        swap_share: of the mixtures with a source, of how many the first one is the target, 0 to 1.
            A talker with a single utterance disturbs with one half of it and is enrolled with the
            other.
        alone_share: of the mixtures without sources, 0 to 1.
        absent_share: of those whose enrollment is of a speaker who is not in them, 0 to 1; of all
            others alike, and of the same pool as the target.

    Raises:
        UserError: a target speaker has no neutral utterance besides the target, or there are
            fewer groups of sources (speakers of the gender wanted) than ``num_sources``; or what
            is to be swapped cannot be extracted: noise, or a talker without an enrollment; or
            there is nobody absent to enroll.
    """

    def __init__(
        self,
        targets,
        sources,
        levels,
        neutral="neu",
        num_sources=1,
        max_samples=None,
        gender_state="random",
        emo_share=0.0,
        swap_share=0.0,
        alone_share=0.0,
        absent_share=0.0,
    ):
        if emo_share == 1:
            sources = targets
        elif swap_share > 0 and sources not in (None, targets) and sources.kind != NOISE:
            sources = sources.halved(round(_ENROLLABLE * sources.fs))
        if 0 < emo_share < 1:
            sources = sources.joined(targets)
        self.targets, self.sources, self.levels = targets, sources, levels
        self.emo_share, self.swap_share = emo_share, swap_share
        self.alone_share, self.absent_share = alone_share, absent_share
        for pool in (targets, *([] if sources is None else [sources])):
            pool.share()
        self.num_sources = 0 if sources is None else num_sources
        self.max_samples = max_samples
        self.utts = list(targets.entries)
        self.groups = {} if sources is None else self._groups(gender_state)
        for speaker, groups in self.groups.items():
            if len(groups) < self.num_sources:
                what = "recording(s)" if sources.kind == NOISE else "interferer speaker(s)"
                raise UserError(
                    f"{num_sources} source(s) a mixture of '{speaker}' cannot be drawn from "
                    f"{len(groups)} {what}; add some"
                )
            if 0 < emo_share < 1 and len(self._of_corpus(groups)) in (0, len(groups)):
                raise UserError(
                    f"emo_share {emo_share:g}: the interferers of '{speaker}' on the training side "
                    "are all of one corpus; add speakers, or give an emo_share of 0 or 1"
                )
        self.enrollments = None if neutral is None else enrollment_choices(targets, neutral)
        if swap_share > 0:
            self._check_swap()
        if absent_share > 0:
            self._check_absent()

    def example(self, rng, utt):
        """Draw the mixture of target ``utt``: ``(id, {speech_mix, ..., emotion})``.

        The emotion is empty where what is to be extracted is not of the emotional corpus, or
        nothing is; where that can be, the example says so: ``absent``.
        """
        entry, target = self.targets[utt], self.targets.audio(utt)
        if self.max_samples and len(target) > self.max_samples:
            start = int(rng.integers(0, len(target) - self.max_samples + 1))
            target = target[start : start + self.max_samples]
        name, levels = self.levels.draw(rng)
        alone = name == CLEAN or happens(rng, self.alone_share)
        chosen = self._choose(rng, entry.speaker) if self.num_sources and not alone else ()
        mixture, signals, chosen = disturb(rng, levels, target, entry.lufs, self.sources, chosen)
        wanted, reference = entry, signals[0]
        if chosen and happens(rng, self.swap_share):
            wanted, reference = self.sources[chosen[0]], signals[1]
        absent = happens(rng, self.absent_share)
        if absent:
            present = [entry.group, *(self.sources[u].group for u in chosen)]
            wanted, reference = self._draw_absent(rng, wanted, present), np.zeros_like(reference)
        example = {"speech_mix": mixture, "speech_ref1": reference}
        if self.absent_share > 0:
            example["absent"] = np.array([absent], np.int64)
        if self.enrollments is not None:
            example["enroll_ref1"] = self._enroll(rng, wanted)
        emotion = "" if absent or wanted.utt not in self.targets.entries else wanted.emotion
        return utt, example | {"emotion": np.array(emotion)}

    def _draw_absent(self, rng, wanted, present):
        """An `Entry` of another speaker than are present, from the pool of ``wanted``."""
        pool = self.targets if wanted.utt in self.targets.entries else self.sources
        speaker = rng.choice(sorted(set(pool.by_group) - set(present)))
        return pool[str(rng.choice(pool.by_group[speaker]))]

    def _enroll(self, rng, wanted):
        """Samples of another utterance of a speaker, of the emotional corpus a neutral one."""
        if wanted.utt in self.targets.entries:
            return self.targets.audio(str(rng.choice(self.enrollments[wanted.utt])))
        others = [u for u in self.sources.by_group[wanted.group] if u != wanted.utt]
        return self.sources.audio(str(rng.choice(others)))

    def _check_swap(self):
        if not self.num_sources or self.sources.kind == NOISE or self.enrollments is None:
            raise UserError(
                "swap_share: needs interferers and enrollments, to extract the one by the other; "
                "drop it"
            )
        for speaker, utts in self.sources.by_group.items():
            if len(utts) < 2:
                raise UserError(
                    f"swap_share: interferer '{speaker}' has no utterance besides '{utts[0]}' to "
                    f"enroll with, and half of it is too short for that ({_ENROLLABLE:g} s); add "
                    "one or leave the speaker out"
                )

    def _check_absent(self):
        if self.enrollments is None:
            raise UserError("absent_share: needs enrollments, of who is absent; drop it")
        pools = [self.targets, *([self.sources] if self.swap_share > 0 else [])]
        for pool in pools:
            of_pool = self.num_sources and not set(pool.by_group).isdisjoint(self.sources.by_group)
            present = (pool is self.targets) + (self.num_sources if of_pool else 0)
            if len(pool.by_group) <= present:
                raise UserError(
                    f"absent_share: all {len(pool.by_group)} speaker(s) of {pool.name} on the "
                    "training side can be in one mixture, so that nobody is absent; add speakers"
                )

    def _groups(self, gender_state):
        """The groups of sources by the target's speaker, of whom they may disturb utterances."""
        of_state = {"random": (True, False), "same": (True,), "different": (False,)}[gender_state]
        known = sorted(self.sources.gender.items())
        if self.sources.kind == NOISE:
            return dict.fromkeys(self.targets.gender, [group for group, _ in known])
        return {
            speaker: [s for s, g in known if s != speaker and (g == gender) in of_state]
            for speaker, gender in self.targets.gender.items()
        }

    def _of_corpus(self, groups):
        """Those of these groups of sources that are speakers of the corpus of the targets."""
        return [g for g in groups if g in self.targets.by_group]

    def _shares(self, groups):
        """How likely each of these groups of sources is; None: each as likely."""
        if not 0 < self.emo_share < 1:
            return None
        own = np.isin(groups, self._of_corpus(groups))
        return np.where(own, self.emo_share / own.sum(), (1 - self.emo_share) / (~own).sum())

    def _choose(self, rng, speaker):
        """Yield the ids of sources, each drawn when it is asked for."""
        groups = self.groups[speaker]
        if self.sources.kind == NOISE:
            yield from draw_noise(rng, self.sources, self.num_sources, groups)
            return
        shares = self._shares(groups)
        for other in rng.choice(groups, size=self.num_sources, replace=False, p=shares):
            yield str(rng.choice(self.sources.by_group[other]))
