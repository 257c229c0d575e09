"""Batches for inference: bounded by their padded audio, otherwise those of `length_batches`."""

import numpy as np
import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.batches import MAX_SECONDS, inference_batches
from espnet_tse_ser.training.dynamic import length_batches


def test_short_utterances_are_batched_as_ever():
    lengths = {f"u{i}": 16000 * (1 + i % 9) for i in range(50)}
    assert inference_batches(lengths, 8, 16000) == length_batches(lengths, 8)


def test_no_batch_is_too_large():
    rng = np.random.default_rng(0)
    lengths = {f"u{i}": int(rng.integers(100, 100000)) for i in range(200)}
    batches = inference_batches(lengths, 16, 1000)
    assert sorted(utt for batch in batches for utt in batch) == sorted(lengths)
    for batch in batches:
        assert len(batch) <= 16
        assert len(batch) * max(lengths[utt] for utt in batch) <= MAX_SECONDS * 1000
    alone = {"a": 10, "b": int(MAX_SECONDS * 1000) + 1, "c": 11}
    assert inference_batches(alone, 4, 1000) == [["a", "c"], ["b"]]


def test_a_bad_size():
    with pytest.raises(UserError, match="--batch_size must be 1 or more, got 0"):
        inference_batches({"a": 1}, 0, 16000)
