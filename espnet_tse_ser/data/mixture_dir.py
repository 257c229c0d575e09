"""Reading the mixture directory that stage 4 wrote (or one of a user's own, in the same form)."""

from pathlib import Path

import numpy as np

from espnet_tse_ser.data.audio import read_mono
from espnet_tse_ser.data.checks import MIN_SAMPLES
from espnet_tse_ser.data.id_list import select
from espnet_tse_ser.data.kaldi_dir import read_table
from espnet_tse_ser.metrics.signal import signal_scores


class MixtureDir:
    """Rendered mixtures of some ids.

    Args:
        directory: has wav.scp, spk1.scp, enroll_spk1.scp, utt2emo, utt2num_samples.
        ids: the mixtures wanted. fs: sampling rate in Hz. scp: another file for wav.scp.

    Raises:
        UserError: a table is missing, or lacks one of the ids.
    """

    def __init__(self, directory, ids, fs=16000, scp=None):
        directory = Path(directory)
        self.directory, self.ids, self.fs = directory, list(ids), fs
        paths = {
            "mix": Path(scp) if scp else directory / "wav.scp",
            "ref": directory / "spk1.scp",
            "enroll": directory / "enroll_spk1.scp",
            "emotion": directory / "utt2emo",
            "num_samples": directory / "utt2num_samples",
        }
        self.tables = {n: select(read_table(p), self.ids, p) for n, p in paths.items()}
        number = 2
        while (directory / f"spk{number}.scp").is_file():
            self.tables[f"spk{number}"] = read_table(directory / f"spk{number}.scp")
            number += 1

    @property
    def lengths(self):
        """dict id -> samples of the mixture."""
        return {utt: int(n) for utt, n in self.tables["num_samples"].items()}

    def emotion(self, utt):
        """Label of the target."""
        return self.tables["emotion"][utt]

    def audio(self, kind, utt):
        """Samples ``(num_samples,)`` of "mix", "ref" (the target) or "enroll" of ``utt``."""
        return read_mono(self.tables[kind][utt], self.fs, MIN_SAMPLES)

    def interferers(self, utt):
        """The interferers as they are in the mixture, list of ``(num_samples,)``."""
        tables = [t for name, t in self.tables.items() if name.startswith("spk")]
        return [read_mono(t[utt], self.fs) for t in tables if utt in t]

    def score(self, utt, estimate):
        """`signal_scores` of what was extracted of ``utt``."""
        return signal_scores(
            *(self.audio("ref", utt), estimate, self.audio("mix", utt)),
            *(self.interferers(utt), self.fs),
        )

    def example(self, rng, utt):
        """``(id, {speech_mix, speech_ref1, enroll_ref1, emotion})``, like `EmotionMixtures`."""
        return utt, {
            "speech_mix": self.audio("mix", utt),
            "speech_ref1": self.audio("ref", utt),
            "enroll_ref1": self.audio("enroll", utt),
            "emotion": np.array(self.emotion(utt)),
        }
