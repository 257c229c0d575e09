"""Padding into batches."""

import numpy as np
import torch

from espnet_tse_ser.training.collate import pad_collate


def test_padding():
    data = [
        ("a", {"speech": np.array([1, 2, 3], np.float32), "emotion": np.array([2])}),
        ("b", {"speech": np.array([4], np.float32), "emotion": np.array([0])}),
    ]
    ids, batch = pad_collate(data)
    assert ids == ["a", "b"]
    assert batch["speech"].dtype == torch.float32
    assert batch["speech"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch["speech_lengths"].tolist() == [3, 1]
    assert batch["emotion"].tolist() == [[2], [0]] and batch["emotion"].dtype == torch.int64
    assert batch["speech_lengths"].dtype == torch.int64


def test_features_keep_their_last_axis():
    _, batch = pad_collate([("a", {"x": np.ones((2, 5))}), ("b", {"x": np.ones((4, 5))})])
    assert batch["x"].shape == (2, 4, 5)
    assert batch["x"][0, 2:].abs().max() == 0 and batch["x"].sum() == 30
