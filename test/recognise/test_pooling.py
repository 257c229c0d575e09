"""Pooling over valid frames against NumPy, one utterance at a time."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.pooling import StatsPooling


@pytest.mark.parametrize("std", [False, True])
def test_equals_numpy_of_the_valid_frames(std):
    torch.manual_seed(0)
    x, lengths = torch.randn(3, 9, 5), [9, 4, 1]
    pooling = StatsPooling(5, std)
    out = pooling(x, torch.tensor(lengths))
    assert out.shape == (3, pooling.output_size())
    for row, frames, length in zip(out.numpy(), x.numpy(), lengths, strict=True):
        frames = frames[:length]
        expected = [frames.mean(0), frames.std(0)] if std else [frames.mean(0)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1.1e-3)


def test_gradient_is_finite_for_a_constant_channel():
    x = torch.ones(1, 4, 2, requires_grad=True)
    StatsPooling(2, std=True)(x, torch.tensor([3])).sum().backward()
    assert torch.isfinite(x.grad).all()
