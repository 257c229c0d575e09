"""The block's values and gradients against autograd's of its definition."""

import pytest
import torch
import torch.nn.functional as F

from espnet_tse_ser.tse.cpu_block import EPS, Block

NAMES = "x expand slope1 gamma1 beta1 taps slope2 gamma2 beta2 project".split()


def _tensors(num_taps, num_frames, valid):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.double, generator=generator)

    tensors = [draw(3, num_frames), draw(5, 3), torch.tensor([0.25]).double(), draw(5), draw(5)]
    tensors += [draw(5, num_taps), torch.tensor([-0.1]).double(), draw(5), draw(5), draw(4, 5)]
    tensors[0][:, valid:] = 0
    return [tensor.requires_grad_() for tensor in tensors]


def _norm(x, gamma, beta):
    centred = x - x.mean()
    return gamma[:, None] * centred / (centred.square().mean() + EPS).sqrt() + beta[:, None]


def _define(x, expand, slope1, gamma1, beta1, taps, slope2, gamma2, beta2, project, shifts, valid):
    normed = _norm(F.prelu(expand @ x[:, :valid], slope1), gamma1, beta1)
    ends = max(map(abs, shifts))
    normed = F.pad(normed, (ends, ends))
    parts = [
        taps[:, k, None] * normed[:, ends + shift : ends + shift + valid]
        for k, shift in enumerate(shifts)
    ]
    return project @ _norm(F.prelu(sum(parts), slope2), gamma2, beta2)


@pytest.mark.parametrize("valid", [12, 9, 1])
@pytest.mark.parametrize(
    "shifts",
    [(-2, 0, 2), (-4, -2, 0), (-20, 0, 20), (0,), (-1, 1), (-6, -3, 0, 3, 6)],
    ids=["centred", "causal", "longer than the utterance", "1", "2", "5"],
)
def test_values_and_gradients(shifts, valid):
    tensors = _tensors(len(shifts), 12, valid)
    out = Block.apply(*tensors, list(shifts), valid)
    expected = _define(*tensors, shifts, valid)
    torch.testing.assert_close(out[:, :valid], expected)
    assert (out[:, valid:] == 0).all()
    weight = torch.randn_like(expected)
    mine = torch.autograd.grad((out[:, :valid] * weight).sum(), tensors)
    autograds = torch.autograd.grad((expected * weight).sum(), tensors)
    for name, gradient, autograd in zip(NAMES, mine, autograds, strict=True):
        scale = max(1.0, float(autograd.abs().max()))
        torch.testing.assert_close(gradient / scale, autograd / scale, msg=name)


def test_a_constant_hidden_layer_has_no_variance_to_divide_by():
    tensors = [torch.full_like(tensor, 3.7).float() for tensor in _tensors(3, 12, 12)]
    assert Block.apply(*tensors, [-1, 0, 1], 12).isfinite().all()


def test_single_precision_is_as_precise_as_autograds():
    tensors = _tensors(3, 400, 390)
    singles = [tensor.detach().float().requires_grad_() for tensor in tensors]
    shifts, valid = [-4, 0, 4], 390
    exact = _define(*tensors, shifts, valid)
    weight = torch.randn_like(exact)
    exact_gradients = torch.autograd.grad((exact * weight).sum(), tensors)
    errors = []
    for function in (_define, lambda *a: Block.apply(*a)[:, :valid]):
        out = function(*singles, shifts, valid)
        gradients = torch.autograd.grad((out * weight.float()).sum(), singles)
        pairs = zip((out, *gradients), (exact, *exact_gradients), strict=True)
        errors.append([((a - b).norm() / b.norm()).item() for a, b in pairs])
    for autograds, mine in zip(*errors, strict=True):
        assert mine < max(4 * autograds, 1e-6)
