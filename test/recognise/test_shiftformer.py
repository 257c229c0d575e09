"""Shiftformer: loops over frames and pairs of frames, padding, sizes of the paper."""

import math

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.shiftformer import RelativeSelfAttention, Shiftformer

LENGTHS = [9, 6, 2, 1]
_erf = np.vectorize(math.erf)


def _state(module):
    return {k: v.double().numpy() for k, v in module.state_dict().items()}


def _layer_norm(x, state, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def _attention_by_hand(state, x, num_heads, max_distance):
    """``x`` is ``(F, D)``: a loop over heads and pairs of frames."""
    num_frames, size = x.shape
    q, k, v = (x @ state[f"{n}.weight"].T + state[f"{n}.bias"] for n in ("query", "key", "value"))
    out, part = np.zeros_like(x), size // num_heads
    for head in range(num_heads):
        own = slice(head * part, (head + 1) * part)
        for i in range(num_frames):
            scores = np.zeros(num_frames)
            for j in range(num_frames):
                distance = max(-max_distance + 1, min(max_distance - 1, i - j))
                r = state["distances"][distance + max_distance - 1]
                scores[j] = q[i, own] @ k[j, own] + q[i, own] @ r + k[j, own] @ r
            weights = np.exp(scores / np.sqrt(part))
            out[i, own] = (weights / weights.sum()) @ v[:, own]
    return out


def _block_by_hand(block, x, ndiv, max_distance):
    """``x`` is ``(F, D)`` of one utterance without padding."""
    state = _state(block)
    num_frames, size = x.shape
    if block.attention is None:
        mixed = np.zeros_like(x)
        for f in range(num_frames):
            for d in range(size):
                source = f - 1 if d < size // ndiv else f + 1 if d < 2 * (size // ndiv) else f
                if 0 <= source < num_frames:
                    mixed[f, d] = x[source, d]
    else:
        heads = block.attention.num_heads
        mixed = x + _attention_by_hand(_state(block.attention), x, heads, max_distance)
        mixed = _layer_norm(mixed, state, "attention_norm")
    h = mixed @ state["expand.weight"].T + state["expand.bias"]
    h = 0.5 * h * (1 + _erf(h / np.sqrt(2)))
    return _layer_norm(mixed + h @ state["project.weight"].T + state["project.bias"], state, "norm")


def _model(**options):
    torch.manual_seed(0)
    model = Shiftformer(8, **options).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    return model, torch.randn(len(LENGTHS), 9, 8)  # noise beyond the lengths


CASES = [
    {"ndiv": 4},
    {"ndiv": 2, "num_blocks": 3, "expansion": 2},
    {"shift": False, "num_heads": 2},
    {"shift": False, "num_heads": 4, "max_distance": 3},  # the utterances are longer
]


@torch.no_grad()
@pytest.mark.parametrize("options", CASES)
def test_equals_loops_alone_and_in_a_padded_batch(options):
    model, x = _model(**options)
    out, lengths, _ = model(x, torch.tensor(LENGTHS))
    assert lengths.tolist() == LENGTHS and out.shape == (4, 9, model.output_size())
    for i, length in enumerate(LENGTHS):
        expected = x[i, :length].double().numpy()
        for block in model.blocks:
            ndiv, distance = options.get("ndiv", 4), options.get("max_distance", 512)
            expected = _block_by_hand(block, expected, ndiv, distance)
        alone, _, _ = model(x[i : i + 1, :length], torch.tensor([length]))
        np.testing.assert_allclose(alone[0].numpy(), expected, atol=2e-5)
        torch.testing.assert_close(out[i, :length], alone[0], atol=1e-5, rtol=0)
        assert (out[i, length:] == 0).all()


@torch.no_grad()
def test_order_is_heard_through_the_distances_alone():
    torch.manual_seed(0)
    attention, x = RelativeSelfAttention(8, 2), torch.randn(1, 6, 8)
    mask, order = torch.ones(1, 6, dtype=torch.bool), torch.randperm(6)
    first, second = attention(x, mask)[:, order], attention(x[:, order], mask)
    assert (first - second).abs().max() > 0.1
    attention.distances.zero_()
    first, second = attention(x, mask)[:, order], attention(x[:, order], mask)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_paper_sizes():
    shiftformer, transformer = Shiftformer(768), Shiftformer(768, shift=False)
    assert [b.ndiv for b in shiftformer.blocks] == [4, 4]
    pointwise = 768 * 3072 * 2 + 3072 + 768 + 2 * 768  # with the norm behind it
    assert sum(p.numel() for p in shiftformer.parameters()) == 2 * pointwise
    # Queries, keys and values, no output projection, 1023 distances of 64 channels, one more norm.
    attention = 3 * (768 * 768 + 768) + 1023 * 64 + 2 * 768
    assert sum(p.numel() for p in transformer.parameters()) == 2 * (pointwise + attention)


@pytest.mark.parametrize("options", CASES)
def test_gradients_and_dropout(options):
    model, x = _model(**options, dropout=0.3)
    lengths = torch.tensor(LENGTHS)
    with torch.no_grad():
        assert not torch.equal(model.train()(x, lengths)[0], model(x, lengths)[0])
        assert torch.equal(model.eval()(x, lengths)[0], model(x, lengths)[0])
    x.requires_grad_()
    out = model(x, lengths)[0]
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    for grad, length in zip(x.grad, LENGTHS, strict=True):
        assert (grad[length:] == 0).all()
        assert (
            length == 1 or grad[:length].abs().sum() > 0
        )  # a shift may leave nothing of one frame


def test_what_does_not_fit_is_refused():
    for ndiv in (1, 9, 0):  # 1: there is no second part to advance
        with pytest.raises(ValueError, match=f"ndiv {ndiv} does not fit 8 channels; .* 2 to 8"):
            Shiftformer(8, ndiv=ndiv)
    with pytest.raises(ValueError, match="num_heads 3 does not divide the 8 channels"):
        Shiftformer(8, shift=False, num_heads=3)
    Shiftformer(8, num_heads=3)  # no attention, no heads
