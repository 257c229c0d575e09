"""Pooling over valid frames against NumPy, one utterance at a time."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.pooling import AttentiveStatsPooling, StatsPooling


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


def test_attentive_statistics_are_weighted_over_the_valid_frames():
    torch.manual_seed(0)
    x, lengths = torch.randn(3, 9, 5), [9, 4, 1]
    pooling = AttentiveStatsPooling(5, size=6).eval()
    torch.nn.init.normal_(pooling.vector.weight)
    out = pooling(x, torch.tensor(lengths))
    assert out.shape == (3, pooling.output_size()) == (3, 10)
    for row, frames, length in zip(out.detach(), x, lengths, strict=True):
        frames = frames[:length].double()
        logits = torch.tanh(frames.float() @ pooling.hidden.weight.T + pooling.hidden.bias)
        weights = (logits @ pooling.vector.weight[0]).double().softmax(0)[:, None]
        mean = (weights * frames).sum(0)
        std = ((weights * frames**2).sum(0) - mean**2).clamp(min=0).sqrt()
        expected = torch.cat([mean, std]).detach().float()
        torch.testing.assert_close(row, expected, atol=1.1e-3, rtol=0)
    mean, std = out.chunk(2, 1)
    assert not torch.allclose(mean[0], x[0].mean(0), atol=1e-3)


def test_attentive_statistics_drop_pooled_channels():
    pooling = AttentiveStatsPooling(50, size=6, dropout=0.5)
    dropped = pooling(torch.randn(2, 9, 50), torch.tensor([9, 9])) == 0
    assert 0.3 < dropped.float().mean() < 0.7 and not torch.equal(*dropped)


def test_attentive_statistics_start_as_statistics():
    torch.manual_seed(0)
    x, lengths = torch.randn(3, 9, 5), torch.tensor([9, 4, 1])
    pooled = AttentiveStatsPooling(5, size=6).eval()(x, lengths)
    torch.testing.assert_close(pooled, StatsPooling(5, std=True)(x, lengths), atol=1e-3, rtol=0)


def test_standardized_statistics():
    torch.manual_seed(0)
    pooling = AttentiveStatsPooling(5, size=6, standardize=True)
    x, lengths = 3 + 2 * torch.randn(64, 9, 5), torch.full((64,), 9)
    for _ in range(60):
        pooled = pooling(x, lengths)
    torch.testing.assert_close(pooled.mean(0), torch.zeros(10), atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled.std(0), torch.ones(10), atol=0.02, rtol=0)
    torch.testing.assert_close(pooling(x[:1], lengths[:1]), pooled[:1], atol=0.1, rtol=0.05)
    torch.testing.assert_close(pooling.eval()(x, lengths), pooled, atol=0.1, rtol=0.02)
