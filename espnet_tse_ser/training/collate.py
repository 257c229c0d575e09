"""Padding a list of examples into one batch."""

import numpy as np
import torch


def pad_collate(data):
    """Pad and stack examples; the interface of ESPnet's ``CommonCollateFn``.

    (ESPnet's own class is not used because importing it loads NLTK and takes seconds.)

    Args:
        data: list of ``(id, {name: array of shape (length, ...)})``.

    Returns:
        the ids, and a dict with, for each name, a tensor ``(B, max_length, ...)`` padded with
        zeros at the end and ``<name>_lengths`` ``(B,)`` int64.
    """
    ids = [uid for uid, _ in data]
    batch = {}
    for name in data[0][1]:
        arrays = [np.asarray(example[name]) for _, example in data]
        lengths = [len(array) for array in arrays]
        padded = np.empty((len(arrays), max(lengths), *arrays[0].shape[1:]), arrays[0].dtype)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)], row[len(array) :] = array, 0
        batch[name] = torch.from_numpy(padded)
        batch[f"{name}_lengths"] = torch.tensor(lengths, dtype=torch.long)
    return ids, batch
