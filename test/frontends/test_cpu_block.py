"""The block's values and gradients against autograd's of its definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from espnet_tse_ser.frontends.td_speakerbeam.cpu_block import EPS, run_block

NAMES = "x expand slope1 gamma1 beta1 taps slope2 gamma2 beta2 project".split()


def _tensors(num_taps, num_frames):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.double, generator=generator)

    tensors = [draw(3, num_frames), draw(5, 3), torch.tensor([0.25]).double(), draw(5), draw(5)]
    tensors += [draw(5, num_taps), torch.tensor([-0.1]).double(), draw(5), draw(5), draw(4, 5)]
    return [tensor.requires_grad_() for tensor in tensors]


def _norm(x, gamma, beta):
    centred = x - x.mean()
    return gamma[:, None] * centred / (centred.square().mean() + EPS).sqrt() + beta[:, None]


def _define(x, expand, slope1, gamma1, beta1, taps, slope2, gamma2, beta2, project, shifts, starts):
    """The block of the paper, one utterance after the other."""
    outputs = []
    for start, stop in zip(starts[:-1], starts[1:], strict=True):
        normed = _norm(F.prelu(expand @ x[:, start:stop], slope1), gamma1, beta1)
        ends = max(map(abs, shifts))
        normed = F.pad(normed, (ends, ends))
        parts = [
            taps[:, k, None] * normed[:, ends + shift : ends + shift + stop - start]
            for k, shift in enumerate(shifts)
        ]
        outputs.append(project @ _norm(F.prelu(sum(parts), slope2), gamma2, beta2))
    return F.pad(torch.cat(outputs, 1), (0, x.shape[1] - starts[-1]))


def _run(tensors, shifts, starts):
    named = dict(zip(NAMES, tensors, strict=True))
    return run_block(np.array(shifts), np.array(starts), None, **named)


def _compare(function, reference, tensors, weight, **tolerance):
    out, expected = function(*tensors), reference(*tensors)
    torch.testing.assert_close(out, expected, **tolerance)
    mine = torch.autograd.grad((out * weight).sum(), tensors)
    autograds = torch.autograd.grad((expected * weight).sum(), tensors)
    for name, gradient, autograd in zip(NAMES, mine, autograds, strict=True):
        norm = max(1.0, float(autograd.abs().max()))
        torch.testing.assert_close(gradient / norm, autograd / norm, msg=name, **tolerance)


@pytest.mark.parametrize("starts", [(0, 12), (0, 9), (0, 1), (0, 5, 6, 12), (0, 3, 10)], ids=str)
@pytest.mark.parametrize(
    "shifts",
    [(-2, 0, 2), (-4, -2, 0), (-20, 0, 20), (0,), (-1, 1), (-6, -3, 0, 3, 6)],
    ids=["centred", "causal", "longer than the utterance", "1", "2", "5"],
)
def test_values_and_gradients(shifts, starts):
    tensors = _tensors(len(shifts), 12)
    with torch.no_grad():
        tensors[0][:, starts[-1] :] = 0
    weight = torch.randn(4, 12, dtype=torch.double)
    weight[:, starts[-1] :] = 0
    _compare(
        lambda *tensors: _run(tensors, shifts, starts),
        lambda *tensors: _define(*tensors, shifts, starts),
        tensors,
        weight,
    )


def test_a_constant_hidden_layer_has_no_variance_to_divide_by():
    tensors = [torch.full_like(tensor, 3.7).float() for tensor in _tensors(3, 12)]
    assert _run(tensors, [-1, 0, 1], [0, 12]).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(value):
    tensors = [tensor.detach().float() for tensor in _tensors(3, 12)]
    tensors[0][1, 4] = value
    assert not _run(tensors, [-1, 0, 1], [0, 12]).isfinite().any()


def test_single_precision_is_as_precise_as_autograds():
    doubles = _tensors(3, 800)
    singles = [tensor.detach().float().requires_grad_() for tensor in doubles]
    shifts, starts = np.array([-4, 0, 4]), np.array([0, 390, 800])
    weight = torch.randn(4, 800, dtype=torch.double)
    results = []

    def block(*args):
        return _run(args[:-2], *args[-2:])

    for function, tensors in ((_define, doubles), (_define, singles), (block, singles)):
        out = function(*tensors, shifts, starts)
        gradients = torch.autograd.grad((out * weight.to(out.dtype)).sum(), tensors)
        results.append((out.detach(), *gradients))
    for exact, autograds, mine in zip(*results, strict=True):
        errors = [((r - exact).norm() / exact.norm()).item() for r in (autograds, mine)]
        assert errors[1] < max(4 * errors[0], 1e-6)
