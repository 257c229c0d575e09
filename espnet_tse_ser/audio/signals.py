"""Signals and features by id, for those who read them as they need them: tasks and mixtures."""

import collections.abc

import numpy as np

from espnet_tse_ser.audio.ark import read_array
from espnet_tse_ser.audio.id_list import select
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.audio.reading import read_mono
from espnet_tse_ser.errors import UserError


def read_lengths(path, ids):
    """Read ``utt2num_samples`` as dict id -> int, of ``ids``.

    Raises:
        UserError: the table is missing, lacks one of them, or has what is no length.
    """
    return {utt: int(text) for utt, text in select(read_table(path), ids, path).items()}


def read_signal(utt, path, fs, num_samples=None, min_samples=1):
    """Read a signal that must be as `read_mono` takes it.

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
        paths: dict id -> audio file. fs: their rate in Hz.
        lengths: id -> samples they must have; None: they may have any number of them.
    """

    def __init__(self, paths, fs, lengths=None):
        super().__init__(paths)
        self.fs, self.lengths = fs, lengths

    def __getitem__(self, utt):
        length = None if self.lengths is None else self.lengths[utt]
        return read_signal(utt, self.paths[utt], self.fs, length)


class Features(_Table):
    """A mapping id -> features ``(frames, size)`` float32 in archives (``file.ark:offset``).

    Args:
        paths: dict id -> place in an archive. ndim: 1 for vectors ``(size,)`` in their stead.
    """

    def __init__(self, paths, ndim=2):
        super().__init__(paths)
        self.ndim = ndim

    def __getitem__(self, utt):
        try:
            feats = read_array(self.paths[utt])
        except UserError as error:
            raise UserError(f"'{utt}': {error}") from None
        if feats.ndim != self.ndim or not np.isfinite(feats).all():
            what = "features (frames, size)" if self.ndim == 2 else "vector (size)"
            raise UserError(
                f"'{utt}': {self.paths[utt]}: holds no {what}, or not all of it is finite; run the "
                "stage that writes it again"
            )
        return feats
