"""Temporal shift against a loop over every element."""

import pytest
import torch

from espnet_tse_ser.recognise.shift import temporal_shift


def _by_loop(x, ndiv, stride, bidirectional, lengths):
    out = torch.zeros_like(x)
    part = x.shape[2] // ndiv
    for b in range(x.shape[0]):
        for f in range(lengths[b]):
            for d in range(x.shape[2]):
                source = f
                if d < part:
                    source = f - stride
                elif bidirectional and d < 2 * part:
                    source = f + stride
                if 0 <= source < lengths[b]:
                    out[b, f, d] = x[b, source, d]
    return out


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 50])
@pytest.mark.parametrize("ndiv", [2, 4, 16])
def test_equals_a_loop(ndiv, stride, bidirectional):
    torch.manual_seed(0)
    x = torch.randn(3, 7, 16)
    whole = temporal_shift(x, ndiv, stride, bidirectional)
    assert torch.equal(whole, _by_loop(x, ndiv, stride, bidirectional, [7, 7, 7]))
    lengths = [7, 3, 1]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    masked = temporal_shift(x, ndiv, stride, bidirectional, mask)
    assert torch.equal(masked, _by_loop(x, ndiv, stride, bidirectional, lengths))


def test_parts_must_fit():
    with pytest.raises(ValueError, match="ndiv 1 is too small"):
        temporal_shift(torch.zeros(1, 2, 4), 1, bidirectional=True)
