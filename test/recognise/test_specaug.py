"""SpecAugment: spans stay within each utterance and are as many and as wide as asked for."""

import torch

from espnet_tse_ser.recognise.specaug import SpecAugment


def _runs(row):
    """Lengths of the runs of True in a bool sequence."""
    return [len(r) for r in "".join("x" if v else " " for v in row.tolist()).split()]


def test_fixed_widths():
    torch.manual_seed(0)
    augment = SpecAugment(10, 1, 5, 1.0, 1, 3, random_width=False)
    lengths = torch.tensor([40, 11, 5])
    feats, out_lengths = augment(torch.ones(3, 40, 10), lengths)
    assert out_lengths is lengths
    for row, length in zip(feats, lengths, strict=True):
        masked = (row == 0).all(dim=1)
        assert _runs(masked[:length]) == [5] and not masked[length:].any()
        if length > 5:
            assert _runs((row[: int(length)] == 0).all(dim=0)) == [3]


def test_share_limits_the_spans_of_short_utterances():
    torch.manual_seed(0)
    augment = SpecAugment(4, 1, 100, 0.2, 0, 0, random_width=False)
    feats, _ = augment(torch.ones(2, 50, 4), torch.tensor([50, 10]))
    assert (feats[:, :, 0] == 0).sum(1).tolist() == [10, 2]


def test_random_widths_and_places_cover_everything():
    torch.manual_seed(0)
    augment = SpecAugment(8, 2, 6, 1.0, 2, 4)
    feats, _ = augment(torch.ones(2000, 12, 8), torch.full((2000,), 12))
    masked = (feats == 0).all(dim=2)
    assert masked.any(0).all()
    assert masked.sum(1).min() == 0 and masked.sum(1).max() == 12
    share = masked.float().mean().item()
    assert 0.3 < share < 0.5  # two spans of 3 frames on average, some overlap


def test_input_is_left_alone_and_gradients_pass():
    feats = torch.ones(1, 20, 8, requires_grad=True)
    out, _ = SpecAugment(8, 1, 5, 1.0, 0, 0, random_width=False)(feats, torch.tensor([20]))
    out.sum().backward()
    assert (feats == 1).all() and feats.grad.sum() == 15 * 8
