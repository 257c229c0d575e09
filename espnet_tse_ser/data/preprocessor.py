"""From what ESPnet's dataset reads to what the models take."""

import zlib

import numpy as np

from espnet_tse_ser.errors import UserError


class EmotionPreprocessor:
    """Turn the emotion's name into its index, and optionally crop speech in training.

    Args:
        labels: the classes, in the order of their indices.
        max_samples: longest speech in training; a longer one is cropped at a random place.
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

        ``speech`` may be features ``(F, D)`` of any precision instead.

        Raises:
            UserError: the label is unknown.
        """
        data = dict(data)
        data["speech"] = self._crop(uid, np.asarray(data["speech"], np.float32))
        if "emotion" in data:
            data["emotion"] = np.array([label_index(uid, data["emotion"], self.labels)], np.int64)
        return data

    def _crop(self, uid, speech):
        longest = self.max_samples if speech.ndim == 1 else self.max_frames
        if longest is None or len(speech) <= longest:
            return speech
        rng = np.random.default_rng([self.seed, self.epoch, zlib.crc32(uid.encode())])
        start = int(rng.integers(len(speech) - longest + 1))
        return speech[start : start + longest]


def label_index(uid, label, labels):
    """Index of ``label`` in ``labels``; an unknown one is a `UserError` that names ``uid``."""
    if label not in labels:
        raise UserError(
            f"utterance '{uid}': unknown emotion '{label}'; known: {' '.join(labels)}; correct "
            "utt2emo or --labels"
        )
    return list(labels).index(label)
