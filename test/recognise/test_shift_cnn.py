"""ShiftCNN: an independent composition, padding, and options that take effect."""

import pytest
import torch
import torch.nn.functional as F

from espnet_tse_ser.recognise.shift_cnn import ConvNeXtBlock, ShiftCNN


def _layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + (
        norm.bias
    )


def _block_by_hand(block, x, ndiv):
    """``x`` is ``(F, D)``: a loop over frames and taps, and matrix products."""
    num_frames, size = x.shape
    kernel = block.depthwise.weight.shape[2]
    h = block.depthwise.bias.repeat(num_frames, 1)
    for f in range(num_frames):
        for k in range(kernel):
            if 0 <= f + k - kernel // 2 < num_frames:
                h[f] = h[f] + block.depthwise.weight[:, 0, k] * x[f + k - kernel // 2]
    h = _layer_norm(h, block.norm) @ block.expand.weight.T + block.expand.bias
    h = 0.5 * h * (1 + torch.erf(h / 2**0.5))
    h = h @ block.project.weight.T + block.project.bias
    residual = x.clone()
    if ndiv is not None:
        residual[1:, : size // ndiv] = x[:-1, : size // ndiv]
        residual[0, : size // ndiv] = 0
    return residual + h


@torch.no_grad()
@pytest.mark.parametrize("ndiv", [None, 4])
def test_block_equals_an_independent_composition(ndiv):
    torch.manual_seed(0)
    block = ConvNeXtBlock(8, ndiv=ndiv, dropout=0.5).eval()
    torch.nn.init.normal_(block.norm.weight)
    torch.nn.init.normal_(block.norm.bias)
    x = torch.randn(1, 9, 8)
    out = block(x, torch.ones(1, 9, dtype=torch.bool))
    torch.testing.assert_close(out[0], _block_by_hand(block, x[0], ndiv), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shift", [True, False])
def test_model_shifts_in_the_last_block_only(shift):
    torch.manual_seed(0)
    model = ShiftCNN(16, shift=shift).eval()
    x = torch.randn(1, 12, 16)
    out, lengths, _ = model(x, torch.tensor([12]))
    expected = _block_by_hand(model.blocks[0], x[0], None)
    expected = _block_by_hand(model.blocks[1], expected, 16 if shift else None)
    expected = _layer_norm(expected, model.norm)
    torch.testing.assert_close(out[0], expected, atol=1e-5, rtol=1e-5)
    assert lengths.tolist() == [12] and model.output_size() == 16


@torch.no_grad()
def test_paper_size():
    model = ShiftCNN(768)
    assert model.blocks[0].depthwise.weight.shape == (768, 1, 7)
    assert model.blocks[1].expand.weight.shape == (3072, 768)
    assert [b.ndiv for b in model.blocks] == [None, 16]


@torch.no_grad()
def test_independent_of_padding():
    torch.manual_seed(0)
    model = ShiftCNN(32).eval()
    lengths = [20, 13, 2, 1]
    x = torch.randn(4, 20, 32)  # noise beyond the lengths
    out, _, _ = model(x, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, _, _ = model(x[i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(out[i, :length], alone[0], atol=1e-5, rtol=0)
        assert (out[i, length:] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("option", [{"dropout": 0.3}, {"drop_path": 0.5}])
def test_regularisation_is_effective_in_training_only(option):
    torch.manual_seed(0)
    model = ShiftCNN(16, **option)
    x, lengths = torch.randn(8, 10, 16), torch.full((8,), 10)
    assert not torch.equal(model.train()(x, lengths)[0], model(x, lengths)[0])
    assert torch.equal(model.eval()(x, lengths)[0], model(x, lengths)[0])


@torch.no_grad()
def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    block = ConvNeXtBlock(8, drop_path=0.25).train()
    x = torch.randn(1, 5, 8).repeat(4000, 1, 1)
    mask = torch.ones(4000, 5, dtype=torch.bool)
    branch = block(x, mask) - x
    skipped = (branch.abs().amax(dim=(1, 2)) < 1e-6).float().mean()
    assert 0.22 < skipped < 0.28
    expected = block.eval()(x[:1], mask[:1]) - x[:1]
    torch.testing.assert_close(branch.mean(0), expected[0], atol=0.05, rtol=0.1)
    assert F.cosine_similarity(branch.mean(0).flatten(), expected.flatten(), dim=0) > 0.999
