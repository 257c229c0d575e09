"""Streams: what a recogniser gets of an utterance, and what it is trained towards."""

import collections.abc
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.audio.decoded import DecodedOnce
from espnet_tse_ser.audio.signals import Features, Signals
from espnet_tse_ser.errors import UserError


@dataclass(frozen=True)
class Stream:
    """A kind of stream.

    Args:
        table: that lists it in a mixture directory; None: the option of a command does.
        option: which.
        aligned: it has the samples of the mixture, and is cropped with it.
    """

    table: str | None = None
    option: str | None = None
    aligned: bool = True


STREAMS = {
    "speech": Stream(option="--scp"),  # of the condition: clean, noisy, or a front-end's output
    "mixture": Stream("wav.scp"),
    "clean": Stream("spk1.scp"),  # the target alone, as it is in the mixture
    "enrollment": Stream("enroll_spk1.scp", aligned=False),
    "embedding": Stream(option="--embeddings", aligned=False),  # a vector: a teacher's
}


def streams_of(model, where):
    """The names of the streams that a class of models is trained with.

    Args:
        model: `ESPnetSERModel`, or a class in its place. where: beginning of the message.

    Raises:
        UserError: one is not known, or the speech of the condition is not among the inputs.
    """
    names = dict.fromkeys([*model.inputs, *model.targets])
    unknown = [name for name in names if name not in STREAMS]
    if unknown:
        known = ", ".join(STREAMS)
        raise UserError(f"{where}: there is no stream '{unknown[0]}'; inputs and targets: {known}")
    if "speech" not in model.inputs:
        raise UserError(f"{where}: has no input 'speech', which is what its system is trained on")
    return tuple(names)


def find_table(name, data_dir, given, where):
    """The file that lists a stream.

    Args:
        data_dir: mixture directory. given: name -> file, or None, of those that options name.
        where: beginning of the message.

    Raises:
        UserError: the option is missing.
    """
    stream = STREAMS[name]
    table = given[name] if stream.table is None else Path(data_dir) / stream.table
    if table is None:
        raise UserError(f"{where}: is trained towards '{name}', and needs {stream.option}")
    return table


def open_stream(name, path, table, fs, lengths):
    """A mapping from ids to what a stream has of them.

    Args:
        path, table: the file that lists it, and what is in it. fs: rate in Hz.
        lengths: id -> samples of the mixture.

    Returns:
        id -> ``(num_samples,)``, decoded once if it is aligned; of embeddings ``(size,)``; of a
        file feats.scp ``(frames, size)``. All are float32.
    """
    if Path(path).name == "feats.scp":
        return Features(table)
    if name == "embedding":
        return Features(table, ndim=1)
    if not STREAMS[name].aligned:
        return Signals(table, fs)
    return DecodedOnce(Signals(table, fs, lengths), lengths)


class OneOfTarget(collections.abc.Mapping):
    """A mapping from targets to what a stream has of one of their mixtures, drawn in each epoch.

    Args:
        stream: id of a mixture -> array. target_of: id of a mixture -> its target.
        preprocessor: `EmotionPreprocessor`, which knows the seed and the epoch. The draw depends on
            these and the target alone, so that all streams have the same mixture.
    """

    def __init__(self, stream, target_of, preprocessor):
        self.stream, self.preprocessor = stream, preprocessor
        self.mixtures_of = {}
        for utt in sorted(target_of):
            self.mixtures_of.setdefault(target_of[utt], []).append(utt)

    def __getitem__(self, target):
        ids = self.mixtures_of[target]
        return self.stream[ids[self.preprocessor.rng(target, 1).integers(len(ids))]]

    def __iter__(self):
        return iter(self.mixtures_of)

    def __len__(self):
        return len(self.mixtures_of)


def of_streams(batch, names):
    """What a batch has of these streams: each ``name`` and ``<name>_lengths``, as a dict."""
    return {key: batch[key] for name in names for key in (name, f"{name}_lengths")}
