"""Muon against PyTorch's Muon and AdamW, and what a checkpoint keeps of it."""

import copy

import pytest
import torch

from espnet_tse_ser.training.interruption import restore
from espnet_tse_ser.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_singular_values_become_about_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert 0.5 < values.min() and values.max() < 1.3


def _steps(optimizer, parameters, count=5):
    torch.manual_seed(1)
    for _ in range(count):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()


@pytest.mark.parametrize(
    "shape, theirs",
    [
        ((5, 8), lambda p: torch.optim.Muon(p, 0.01, 0.1, adjust_lr_fn="match_rms_adamw")),
        ((5,), lambda p: torch.optim.AdamW(p, 0.01, (0.9, 0.98), weight_decay=0.1)),
        ((5, 1), lambda p: torch.optim.AdamW(p, 0.01, (0.9, 0.98), weight_decay=0.1)),
        ((3, 4, 2), lambda p: torch.optim.AdamW(p, 0.01, (0.9, 0.98), weight_decay=0.1)),
    ],
)
def test_equals_pytorch(shape, theirs):
    torch.manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(shape))
    other = torch.nn.Parameter(mine.detach().clone())
    before = mine.detach().clone()
    _steps(Muon([mine], lr=0.01, weight_decay=0.1), [mine])
    _steps(theirs([other]), [other])
    # Both have products in bfloat16, of 8 bits.
    tolerance = 0.03 * (other - before).abs().max().item()
    torch.testing.assert_close(mine, other, atol=tolerance, rtol=0)


def test_what_it_keeps_is_all_it_needs():
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(4, 6)), torch.nn.Parameter(torch.randn(3))]
    optimizer = Muon(parameters)
    _steps(optimizer, parameters)
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    resumed = Muon(copies)
    restore(resumed, copy.deepcopy(optimizer.state_dict()))
    _steps(optimizer, parameters)
    _steps(resumed, copies)
    assert all(torch.equal(a, b) for a, b in zip(parameters, copies, strict=True))
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0], state["state"][1] = state["state"][1], state["state"][0]
    with pytest.raises(ValueError):
        restore(resumed, state)
