"""Reading the mixture directory that stage 4 wrote (or one of a user's own, in the same form)."""

import functools
import os
import re
from pathlib import Path

from espnet_tse_ser.audio.id_list import select
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.audio.signals import read_lengths, read_signal
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
from espnet_tse_ser.mixtures.mixture_set import MixtureSet


class MixtureDir(MixtureSet):
    """Rendered mixtures of some ids.

    Args:
        directory: has wav.scp, spk1.scp, utt2emo, utt2num_samples, and enroll_spk1.scp where there
            are enrollments.
        ids: the mixtures wanted. fs: sampling rate in Hz.
        scp: the file of what is recognised; None: the mixtures. mixtures: another file for wav.scp.
        scored: whether extracted targets are going to be scored, so that what this needs has to be
            there.

    Raises:
        UserError: a table is missing, or lacks one of the ids.
    """

    def __init__(self, directory, ids, fs=16000, scp=None, mixtures=None, scored=False):
        self.directory, self.ids, self.fs = Path(directory), list(ids), fs
        self.paths = {
            "mix": Path(mixtures or self.directory / "wav.scp"),
            "ref": self.directory / "spk1.scp",
            "enroll": self.directory / "enroll_spk1.scp",
            "emotion": self.directory / "utt2emo",
        }
        if scp is not None:
            self.input, self.paths["input"] = "input", Path(scp)
        self.tables = {}
        for name in (self.input, "ref", "emotion", *(["mix"] if scored else [])):
            self.table(name)
        self.lengths = read_lengths(self.directory / "utt2num_samples", self.ids)
        if scored:  # what is missing is said now, before anything is computed
            self._interferers  # noqa: B018

    def table(self, name):
        """Files (or labels) by id, of "mix", "ref", "enroll", "emotion", or of what is recognised.

        Raises:
            UserError: the table is missing, or lacks one of the ids.
        """
        if name not in self.tables:
            path = self.paths[name]
            self.tables[name] = select(read_table(path), self.ids, path)
        return self.tables[name]

    def emotion(self, utt):
        return self.tables["emotion"][utt]

    def audio(self, name, utt):
        length = None if name == "enroll" else self.lengths[utt]
        return read_signal(utt, self.table(name)[utt], self.fs, length, MIN_SAMPLES)

    def interferers(self, utt):
        if self._interferers is None:
            return None
        return [
            read_signal(utt, path, self.fs, self.lengths[utt]) for path in self._interferers[utt]
        ]

    @functools.cached_property
    def _interferers(self):
        return find_interferers(self.directory, self.ids)


def find_interferers(directory, ids):
    """The audio files of the interferers in mixtures: spk2.scp, spk3.scp, ... of their directory.

    All must be there that mixtures.tsv names; a directory of a user's own, which has no such table,
    needs one of each mixture at least.

    Returns:
        dict id -> list of files; None if there are neither mixtures.tsv nor interferers, and so
        wrong speakers cannot be counted.

    Raises:
        UserError: one is missing, or there are more than mixtures.tsv names.
    """
    directory = Path(directory)
    names = [p.name for p in directory.glob("spk*.scp") if re.fullmatch(r"spk\d+\.scp", p.name)]
    last = max([int(name[3:-4]) for name in names], default=1)
    paths = [directory / f"spk{number}.scp" for number in range(2, last + 1)]
    tables = [read_table(path) for path in paths]
    named = directory / "mixtures.tsv"
    if not os.path.lexists(named):
        if not tables:
            return None
        counts = {utt: max(sum(utt in table for table in tables), 1) for utt in ids}
    else:
        rows = read_tsv(named, ("mixture", "interferers"))
        counts = {r["mixture"]: len(list(filter(None, r["interferers"].split(",")))) for r in rows}
        counts = select(counts, ids, named)
    for utt in ids:
        count = counts[utt]
        if count > len(tables):
            raise UserError(
                f"{directory / f'spk{len(tables) + 2}.scp'}: no such file, but '{utt}' has {count} "
                f"interferer(s) by {named}; run stage 4: without them wrong speakers "
                "cannot be counted"
            )
        for number, (path, table) in enumerate(zip(paths, tables, strict=True), 1):
            if (number <= count) != (utt in table):
                what = "has no line for" if number <= count else "has a line too many, of"
                raise UserError(
                    f"{path}: {what} '{utt}', which has {count} interferer(s); run stage 4 again, "
                    "or correct the table"
                )
    return {utt: [table[utt] for table in tables[: counts[utt]]] for utt in ids}
