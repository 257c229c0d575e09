"""Reading the mixture directory that stage 4 wrote (or one of a user's own, in the same form)."""

import functools
import os
import re
from pathlib import Path

import numpy as np

from espnet_tse_ser.data.checks import MIN_SAMPLES
from espnet_tse_ser.data.id_list import select
from espnet_tse_ser.data.kaldi_dir import read_table
from espnet_tse_ser.data.signals import read_lengths, read_signal
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.metrics.signal import signal_scores


class MixtureDir:
    """Rendered mixtures of some ids.

    Args:
        directory: has wav.scp, spk1.scp, enroll_spk1.scp, utt2emo, utt2num_samples.
        ids: the mixtures wanted. fs: sampling rate in Hz. scp: another file for wav.scp.
        scored: whether `score` is going to be called, so that what it needs has to be there.

    Raises:
        UserError: a table is missing, or lacks one of the ids.
    """

    def __init__(self, directory, ids, fs=16000, scp=None, scored=False):
        directory = Path(directory)
        self.directory, self.ids, self.fs = directory, list(ids), fs
        paths = {
            "mix": Path(scp) if scp else directory / "wav.scp",
            "ref": directory / "spk1.scp",
            "enroll": directory / "enroll_spk1.scp",
            "emotion": directory / "utt2emo",
        }
        self.tables = {n: select(read_table(p), self.ids, p) for n, p in paths.items()}
        self.lengths = read_lengths(directory / "utt2num_samples", self.ids)
        if scored:
            self._interferers  # noqa: B018

    def emotion(self, utt):
        """Label of the target."""
        return self.tables["emotion"][utt]

    def audio(self, kind, utt):
        """Samples ``(num_samples,)`` of "mix", "ref" (the target) or "enroll" of ``utt``."""
        length = None if kind == "enroll" else self.lengths[utt]
        return read_signal(utt, self.tables[kind][utt], self.fs, length, MIN_SAMPLES)

    def stream(self, name, utt):
        """What a stream (data/streams.py) has of ``utt``: ``(num_samples,)``."""
        if name == "mixture":
            path = self._mixtures[utt]
            return read_signal(utt, path, self.fs, self.lengths[utt], MIN_SAMPLES)
        return self.audio({"speech": "mix", "clean": "ref", "enrollment": "enroll"}[name], utt)

    @functools.cached_property
    def _mixtures(self):
        path = self.directory / "wav.scp"
        return select(read_table(path), self.ids, path)

    def interferers(self, utt):
        """The interferers as they are in the mixture, list of ``(num_samples,)``.

        None in a directory of a user's own that has none of them.
        """
        if self._interferers is None:
            return None
        return [
            read_signal(utt, path, self.fs, self.lengths[utt]) for path in self._interferers[utt]
        ]

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

    @functools.cached_property
    def _interferers(self):
        return find_interferers(self.directory, self.ids)


def find_interferers(directory, ids):
    """The audio files of the interferers in mixtures: spk2.scp, spk3.scp, ... of their directory.

    All must be there that protocol.tsv names; a directory of a user's own, which has no such table,
    needs one of each mixture at least.

    Returns:
        dict id -> list of files; None if there are neither protocol.tsv nor interferers, and so
        nobody knows whether a wrong speaker was extracted.

    Raises:
        UserError: one is missing, or there are more than protocol.tsv names.
    """
    directory = Path(directory)
    names = [p.name for p in directory.glob("spk*.scp") if re.fullmatch(r"spk\d+\.scp", p.name)]
    last = max([int(name[3:-4]) for name in names], default=1)
    paths = [directory / f"spk{number}.scp" for number in range(2, last + 1)]
    tables = [read_table(path) for path in paths]
    protocol = directory / "protocol.tsv"
    if not os.path.lexists(protocol):
        if not tables:
            return None
        counts = {utt: max(sum(utt in table for table in tables), 1) for utt in ids}
    else:
        rows = read_tsv(protocol, ("mixture", "interferers"))
        counts = {r["mixture"]: len(list(filter(None, r["interferers"].split(",")))) for r in rows}
        counts = select(counts, ids, protocol)
    for utt in ids:
        count = counts[utt]
        if count > len(tables):
            raise UserError(
                f"{directory / f'spk{len(tables) + 2}.scp'}: no such file, but '{utt}' has {count} "
                f"interferer(s) by {protocol}; run stage 4: without them nobody knows whether a "
                "wrong speaker was extracted"
            )
        for number, (path, table) in enumerate(zip(paths, tables, strict=True), 1):
            if (number <= count) != (utt in table):
                what = "has no line for" if number <= count else "has a line too many, of"
                raise UserError(
                    f"{path}: {what} '{utt}', which has {count} interferer(s); run stage 4 again, "
                    "or correct the table"
                )
    return {utt: [table[utt] for table in tables[: counts[utt]]] for utt in ids}
