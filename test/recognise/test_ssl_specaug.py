"""SSLSpecAugment: numbers and places of the spans, the learned vector, what is left alone."""

import random

import pytest
import torch

from espnet_tse_ser.recognise.ssl_specaug import SSLSpecAugment, draw_spans


def _rule(length, prob, width, min_masks, u):
    """Number of spans by the rule in words, one utterance at a time."""
    number = int(prob * length / width + u)
    number = max(number, min_masks)
    return min(number, length // width)


def test_number_of_spans():
    torch.manual_seed(0)
    # Spans of one position do not overlap, so that they can be counted.
    lengths = torch.tensor([374, 100, 30, 1]).repeat(800)
    for prob, min_masks in ((0.01, 2), (0.013, 0), (0.9, 1)):
        counts = draw_spans(lengths, 374, prob, 1, min_masks).sum(1).view(800, 4)
        draws = random.Random(0)
        for column, length in zip(counts.T, (374, 100, 30, 1), strict=True):
            expected = [_rule(length, prob, 1, min_masks, draws.random()) for _ in range(800)]
            assert set(column.tolist()) == set(expected)
            assert column.float().mean() == pytest.approx(sum(expected) / 800, abs=0.06)


def test_spans_of_the_paper():
    torch.manual_seed(0)
    lengths = torch.tensor([374, 29, 15, 14]).repeat(800)
    masked = draw_spans(lengths, 400, 0.08, 15, 2).view(800, 4, 400)
    assert not any(masked[:, i, n:].any() for i, n in enumerate((374, 29, 15, 14)))
    totals = masked.sum(2)
    # 374 frames: two spans (three never, as 0.08 x 374 / 15 < 2), which may overlap.
    assert totals[:, 0].min() > 15 and totals[:, 0].max() == 30
    # One span in 29 or 15 frames, where two do not fit, and none in 14.
    assert (totals[:, 1:3] == 15).all() and (totals[:, 3] == 0).all()
    # Starts are uniform: every frame is masked, those in the middle as often as they should be.
    share = masked[:, 0, :374].float().mean(0)
    assert share.min() > 0 and share[15:359].mean() == pytest.approx(2 * 15 / 360, abs=0.004)
    starts = masked[:, 1, :29].int().argmax(1)
    assert sorted(set(starts.tolist())) == list(range(15))
    channels = draw_spans(torch.full((300,), 768), 768, 0.05, 64, 1).sum(1)
    assert set(channels.tolist()) == {64}  # 0.05 x 768 / 64 + u < 2


def test_vector_and_zeros():
    torch.manual_seed(0)
    augment = SSLSpecAugment(12, time_width=3, channel_width=4)
    assert ((augment.mask_vector >= 0) & (augment.mask_vector < 1)).all()
    lengths = torch.tensor([20, 7, 2])
    feats = torch.full((3, 20, 12), 5.0) * (torch.arange(20) < lengths[:, None])[..., None]
    before = feats.clone()
    out, out_lengths = augment(feats, lengths)
    assert out_lengths is lengths and torch.equal(feats, before)
    for row, whole, length in zip(out, feats, lengths.tolist(), strict=True):
        zeros = (row[:length] == 0).all(0)
        assert zeros.sum() == 4 and zeros.int().diff().abs().sum() <= 2
        frames = (row != whole)[:, ~zeros].any(1)
        assert frames.sum() == 0 if length < 3 else 3 <= frames.sum() <= 6
        vector = augment.mask_vector.detach()[~zeros]
        assert all(torch.equal(frame[~zeros], vector) for frame in row[frames])
        assert (row[length:] == 0).all()


def test_the_vector_is_trained_and_saved():
    torch.manual_seed(0)
    augment = SSLSpecAugment(6, time_width=2, channel_width=1)
    assert list(augment.state_dict()) == ["mask_vector"]
    optimizer = torch.optim.SGD(augment.parameters(), lr=0.1)
    before = augment.mask_vector.detach().clone()
    augment(torch.zeros(4, 10, 6), torch.full((4,), 10))[0].sum().backward()
    optimizer.step()
    assert (augment.mask_vector < before).all()
    # Where no span fits, it has a gradient all the same: zero.
    augment.zero_grad(set_to_none=True)
    augment(torch.ones(1, 1, 6), torch.tensor([1]))[0].sum().backward()
    assert (augment.mask_vector.grad == 0).all()
