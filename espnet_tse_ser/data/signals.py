"""Signals and features by id, for those who read them as they need them: tasks and mixtures."""

import collections.abc

import numpy as np

from espnet_tse_ser.data.ark import read_array
from espnet_tse_ser.data.audio import read_mono
from espnet_tse_ser.data.id_list import select
from espnet_tse_ser.data.kaldi_dir import read_table
from espnet_tse_ser.errors import UserError


def read_lengths(path, ids):
    """Read ``utt2num_samples`` as dict id -> int, of ``ids``.

    Raises:
        UserError: the table is missing, lacks one of them, or has what is no length.
    """
    return {utt: int(text) for utt, text in select(read_table(path), ids, path).items()}


def read_signal(utt, path, fs, num_samples=None, min_samples=1):
    """Read a signal that must be as `read_mono` wants it.

    Args:
        utt: its id, for errors. num_samples: how long it must be; None: any length.

    Raises:
        UserError: as `read_mono`, or its length is another one.
    """
    try:
        samples = read_mono(path, fs, min_samples)
    except UserError as error:
        raise UserError(f"'{utt}': {error}") from None
    if num_samples is not None and len(samples) != num_samples:
        raise UserError(
            f"'{utt}': {path}: has {len(samples)} samples, but utt2num_samples says {num_samples}; "
            "run the stages that write them again, or correct utt2num_samples"
        )
    return samples


class _Table(collections.abc.Mapping):
    """A mapping from the ids of a table to what `read` gives."""

    def __init__(self, paths):
        self.paths = paths

    def __iter__(self):
        return iter(self.paths)

    def __len__(self):
        return len(self.paths)


class Signals(_Table):
    """A mapping id -> samples ``(num_samples,)``, read whenever they are asked for.

    Args:
        paths: dict id -> audio file. fs: their rate in Hz. lengths: id -> samples they must have.
    """

    def __init__(self, paths, fs, lengths):
        super().__init__(paths)
        self.fs, self.lengths = fs, lengths

    def __getitem__(self, utt):
        return read_signal(utt, self.paths[utt], self.fs, self.lengths[utt])


class Features(_Table):
    """A mapping id -> features ``(frames, size)`` float32 in archives (``file.ark:offset``)."""

    def __getitem__(self, utt):
        try:
            feats = read_array(self.paths[utt])
        except UserError as error:
            raise UserError(f"'{utt}': {error}") from None
        if feats.ndim != 2 or not np.isfinite(feats).all():
            raise UserError(
                f"'{utt}': {self.paths[utt]}: no features (frames, size), or not all are finite; "
                "run stage 9 again"
            )
        return feats
