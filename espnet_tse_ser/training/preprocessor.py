"""From what ESPnet's dataset reads to what the models take."""

import zlib

import numpy as np

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.streams import STREAMS

UNLABELLED = -1  # the index of the emotion of an example that has none


class EmotionPreprocessor:
    """Turn the emotion's name into its index, and optionally crop the streams in training.

    Args:
        labels: the classes, in the order of their indices.
        max_samples: longest speech in training; a longer one is cropped at a random place, which
            is the same in all streams that are aligned.
        train: crop at all.
        max_frames: the same for features that are given instead of speech.
        seed: of the training.

    The place depends on the seed, the epoch (``epoch``, to be set) and the utterance alone, so that
    neither the number of workers nor a training that goes on changes it.
    """

    def __init__(self, labels, max_samples=None, train=False, max_frames=None, seed=0):
        self.labels = list(labels)
        self.max_samples = max_samples if train else None
        self.max_frames = max_frames if train else None
        self.seed, self.epoch = seed, 0

    def __call__(self, uid, data):
        """Map ``{speech: (T,), emotion: str}`` to ``{speech: (T,) float32, emotion: (1,) int64}``.

        Any streams may be there. ``speech`` may be features ``(F, D)`` of any precision instead.

        Raises:
            UserError: the label is unknown.
        """
        data = dict(data)
        for name in STREAMS.keys() & data.keys():
            stream = np.asarray(data[name], np.float32)
            data[name] = self._crop(uid, stream) if STREAMS[name].aligned else stream
        if "emotion" in data:
            data["emotion"] = np.array([label_index(uid, data["emotion"], self.labels)], np.int64)
        return data

    def rng(self, uid, *further):
        """A generator that depends on the seed, the epoch, an id and ``further`` numbers alone."""
        return np.random.default_rng([self.seed, self.epoch, zlib.crc32(uid.encode()), *further])

    def _crop(self, uid, stream):
        longest = self.max_samples if stream.ndim == 1 else self.max_frames
        if longest is None or len(stream) <= longest:
            return stream
        # Drawn anew for each stream of an utterance: they have one length, and so one start.
        start = int(self.rng(uid).integers(len(stream) - longest + 1))
        return stream[start : start + longest]


def check_emotions(emotions, labels, path, train):
    """Check that emotions are among ``labels`` and, of a ``train``ing, that each label is theirs.

    Args:
        emotions: dict id -> emotion. path: of the list of these ids.

    Raises:
        UserError: one is not.
    """
    for uid, emotion in emotions.items():
        label_index(uid, emotion, labels)
    for label in sorted(set(labels) - set(emotions.values())) if train else ():
        raise UserError(
            f"{path}: has no utterance of class '{label}' to train on; leave it out of --labels "
            "or add utterances"
        )


def label_index(uid, label, labels):
    """Index of ``label`` in ``labels``; an unknown one is a `UserError` that names ``uid``."""
    if label not in labels:
        raise UserError(
            f"utterance '{uid}': unknown emotion '{label}'; known: {' '.join(labels)}; correct "
            "utt2emo or --labels"
        )
    return list(labels).index(label)
