"""Offset and level of a batch: against NumPy, padding, silence, gradients, pieces."""

import numpy as np
import pytest
import torch
from standardized import standardized
from tiny_formatted import voice

from espnet_tse_ser.audio import levels
from espnet_tse_ser.audio.levels import LEAST, REFERENCE, Level, restore, standardize
from espnet_tse_ser.audio.masks import frame_mask

LENGTHS = torch.tensor([4000, 3111, 1, 2000])
WAYS = ["rows", "masks"]  # of a CPU and of a GPU


@pytest.fixture
def batch():
    """Voices; what lies beyond the lengths is not finite."""
    rng = np.random.default_rng(0)
    speech = torch.from_numpy(np.stack([voice(rng, 100 + 20 * i, 4000) for i in range(4)]))
    for row, length in zip(speech, LENGTHS, strict=True):
        row[length:] = torch.nan
    return speech


def _standardize(way, speech, lengths, rms=REFERENCE, level=None):
    if way == "rows":
        return standardize(speech, lengths, rms, level)
    return levels._standardize(speech, lengths, rms, level, frame_mask(lengths, speech.shape[1]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offset", [0.0, -0.001, 0.1, 1.0])
@pytest.mark.parametrize("gain", [1.0, 1e-3, 1e-4, 3.0])
def test_equals_numpy(batch, way, offset, gain):
    """An offset of 0.1 on a signal of RMS 1e-5 costs what float32 has rounded away, and no more."""
    changed = gain * batch + offset
    for rms in (REFERENCE, 1.0):
        out, level = _standardize(way, changed, LENGTHS, rms)
        assert out.dtype == torch.float32 and torch.isfinite(out).all()
        for i, length in enumerate(LENGTHS.tolist()):
            row, valid = out[i].double().numpy(), changed[i, :length].numpy()
            assert (row[length:] == 0).all()
            if length == 1:
                assert (row == 0).all() and level.rms[i] == LEAST
                continue
            np.testing.assert_allclose(row[:length], standardized(valid, rms), atol=1e-6 * rms)
            assert abs(row.sum()) / length < 1e-7 * rms
            assert level.mean[i] == pytest.approx(valid.mean(dtype=np.float64), abs=1e-9)
            assert level.rms[i] == pytest.approx(valid.std(dtype=np.float64), rel=1e-6)
            # float32 keeps 2 ** -24 of the largest value.
            original = standardized(batch[i, :length].numpy(), rms)
            rounding = max(abs(offset), gain) * 2**-24 * rms / level.rms[i].item()
            np.testing.assert_allclose(row[:length], original, atol=2 * rounding + 1e-6 * rms)


@pytest.mark.parametrize("way", WAYS)
def test_the_offset_alone(batch, way):
    out, _ = _standardize(way, batch + 0.02, LENGTHS, rms=None)
    for row, valid, length in zip(out.numpy(), batch.numpy(), LENGTHS.tolist(), strict=True):
        expected = valid[:length] - valid[:length].mean()
        np.testing.assert_allclose(row[:length], expected, atol=1e-7)


@pytest.mark.parametrize("way", WAYS)
def test_independent_of_the_batch(batch, way):
    together, level = _standardize(way, batch, LENGTHS)
    for i, n in enumerate(LENGTHS.tolist()):
        alone, own = _standardize(way, batch[i : i + 1, :n], LENGTHS[i : i + 1])
        torch.testing.assert_close(together[i, :n], alone[0], atol=1e-9, rtol=1e-6)
        assert level.rms[i].item() == pytest.approx(own.rms.item(), rel=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_restoring(batch, way):
    out, level = _standardize(way, batch + 0.1, LENGTHS)
    centred, _ = _standardize(way, batch, LENGTHS, rms=None)
    torch.testing.assert_close(restore(out, level), centred, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_pieces_of_a_recording(batch, way):
    (whole,), level = _standardize(way, batch[:1] - 0.3, LENGTHS[:1])
    pieces = (batch[:1] - 0.3)[:, :3000].reshape(2, 1500)
    level = Level(*(value.expand(2) for value in level))
    out, same = _standardize(way, pieces, torch.tensor([1500, 700]), level=level)
    assert torch.equal(out[0], whole[:1500]) and torch.equal(out[1, :700], whole[1500:2200])
    assert (out[1, 700:] == 0).all() and torch.equal(same.rms, level.rms)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1.0])
def test_nothing_but_an_offset_is_silence(way, value):
    speech = torch.full((2, 1000), value, requires_grad=True)
    out, level = _standardize(way, speech, torch.tensor([1000, 700]))
    assert (out == 0).all() and (level.rms == LEAST).all()
    out.square().sum().backward()
    assert (speech.grad == 0).all()


@pytest.mark.parametrize("way", WAYS)
def test_gradients(batch, way):
    lengths = torch.tensor([40, 25])
    speech = torch.nan_to_num(batch[:2, :40]).double().requires_grad_()

    def function(speech):
        out, level = _standardize(way, speech, lengths)
        return out, level.rms

    assert torch.autograd.gradcheck(function, speech)
    function(speech)[0].pow(3).sum().backward()
    # Neither an offset nor a gain would change the result.
    gradient, values = speech.grad, speech.detach()
    assert gradient[:, :25].abs().max() > 1e-3 and (gradient[1, 25:] == 0).all()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(2).double(), atol=1e-9, rtol=0)
    along = (gradient * values).sum(1)
    torch.testing.assert_close(along, torch.zeros(2).double(), atol=1e-9, rtol=0)


def test_in_mixed_precision(batch):
    exact, _ = standardize(batch, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        for way in WAYS:
            mixed, _ = _standardize(way, batch, LENGTHS)
            assert mixed.dtype == torch.float32
            torch.testing.assert_close(mixed, exact, atol=1e-8, rtol=1e-6)
