"""From what ESPnet's dataset reads to what the models take."""

import numpy as np

from espnet_tse_ser.errors import UserError


class EmotionPreprocessor:
    """Turn the emotion's name into its index, and optionally crop speech in training.

    Args:
        labels: the classes, in the order of their indices.
        max_samples: longest speech in training; a longer one is cropped at a random place.
        train: crop at all.
        max_frames: the same for features that are given instead of speech.

    ``generator`` (`np.random.RandomState`) draws these places; at first it is NumPy's global one,
    which ESPnet seeds for every epoch and worker.
    """

    def __init__(self, labels, max_samples=None, train=False, max_frames=None):
        self.labels = list(labels)
        self.max_samples = max_samples if train else None
        self.max_frames = max_frames if train else None
        self.generator = np.random

    def __call__(self, uid, data):
        """Map ``{speech: (T,), emotion: str}`` to ``{speech: (T,) float32, emotion: (1,) int64}``.

        ``speech`` may be features ``(F, D)`` of any precision instead.

        Raises:
            UserError: the label is unknown.
        """
        data = dict(data)
        data["speech"] = self._crop(np.asarray(data["speech"], np.float32))
        if "emotion" in data:
            data["emotion"] = np.array([label_index(uid, data["emotion"], self.labels)], np.int64)
        return data

    def _crop(self, speech):
        longest = self.max_samples if speech.ndim == 1 else self.max_frames
        if longest is None or len(speech) <= longest:
            return speech
        start = self.generator.randint(len(speech) - longest + 1)
        return speech[start : start + longest]


def label_index(uid, label, labels):
    """Index of ``label`` in ``labels``; an unknown one is a `UserError` that names ``uid``."""
    if label not in labels:
        raise UserError(
            f"utterance '{uid}': unknown emotion '{label}'; known: {' '.join(labels)}; correct "
            "utt2emo or --labels"
        )
    return list(labels).index(label)
