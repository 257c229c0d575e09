"""Sets of mixtures as others use them, wherever the signals are: on disk or in memory."""

import abc
import copy

import numpy as np

from espnet_tse_ser.audio.amplitudes import check_not_silent
from espnet_tse_ser.audio.reading import as_stored
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.simulation import enrollment_audio, is_composed, render


class MixtureSet(abc.ABC):
    """Mixtures of some ids: their signals, and what follows from these.

    Attributes:
        ids: list, of the mixtures. lengths: dict id -> samples. fs: rate in Hz.
        input: name of the signal that is recognised.
    """

    input = "mix"

    @abc.abstractmethod
    def emotion(self, utt):
        """Label of the target."""

    @abc.abstractmethod
    def audio(self, name, utt):
        """Samples ``(num_samples,)`` of "mix", "ref" (the target) or "enroll" of ``utt``."""

    @abc.abstractmethod
    def interferers(self, utt):
        """The talkers beside the target as they are in the mixture, list of ``(num_samples,)``.

        None where they are not known.
        """

    def stream(self, name, utt):
        """What a stream (training/streams.py) has of ``utt``: ``(num_samples,)``."""
        names = {"speech": self.input, "mixture": "mix", "clean": "ref", "enrollment": "enroll"}
        return self.audio(names[name], utt)

    def example(self, rng, utt):
        """``(id, {speech_mix, speech_ref1, enroll_ref1, emotion})``, like `EmotionMixtures`."""
        return utt, {
            "speech_mix": self.audio("mix", utt),
            "speech_ref1": self.audio("ref", utt),
            "enroll_ref1": self.audio("enroll", utt),
            "emotion": np.array(self.emotion(utt)),
        }


class MixturesInMemory(MixtureSet):
    """Rendered mixtures, sample by sample those that stage 4 writes.

    Args:
        mixtures: list of `Mixture`. targets, sources: `Pool`, see `render`.
    """

    def __init__(self, mixtures, targets, sources):
        self.fs = targets.fs
        self.mixtures = {m.mixture: m for m in mixtures}
        self.ids = list(self.mixtures)
        self.signals = {}
        for utt, mixture in self.mixtures.items():
            rendered = render(mixture, targets, sources)
            for name, signal in rendered.items():
                check_not_silent(signal, f"mixture '{utt}': {name}")
            signals = {name: as_stored(signal, self.fs) for name, signal in rendered.items()}
            signals["ref"] = signals.pop("spk1")
            if mixture.enrollment:
                enrollment = enrollment_audio(mixture, targets)
                if is_composed(mixture):  # else it is a file of the corpus, of whatever precision
                    enrollment = as_stored(enrollment, self.fs)
                signals["enroll"] = enrollment
            self.signals[utt] = signals
        self.lengths = {utt: len(signals["mix"]) for utt, signals in self.signals.items()}

    def of(self, name):
        """The same set, of which another signal is recognised."""
        other = copy.copy(self)
        other.input = name
        return other

    def emotion(self, utt):
        return self.mixtures[utt].emotion

    def audio(self, name, utt):
        if name == "enroll" and name not in self.signals[utt]:
            raise UserError(
                f"mixture '{utt}': has no enrollment, which extraction needs; draw mixtures with "
                "enrollments (stage 2)"
            )
        return self.signals[utt][name]

    def interferers(self, utt):
        return [s for name, s in self.signals[utt].items() if name.startswith("spk")]
