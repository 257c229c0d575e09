"""ShiftLSTM: the LSTM's equations in NumPy, torch's LSTM utterance by utterance, padding."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.shift_lstm import ShiftLSTM

LENGTHS = [9, 6, 2, 1]


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _direction_by_hand(weights, x):
    """One direction over ``(F, D)``: a loop over frames; gates in torch's order i, f, g, o."""
    w_x, w_h, b_x, b_h = weights
    size = w_h.shape[1]
    h, c, out = np.zeros(size), np.zeros(size), []
    for frame in x:
        gates = (w_x @ frame + b_x + w_h @ h + b_h).reshape(4, size)
        c = _sigmoid(gates[1]) * c + _sigmoid(gates[0]) * np.tanh(gates[2])
        h = _sigmoid(gates[3]) * np.tanh(c)
        out.append(h)
    return np.array(out)


def _model_by_hand(model, x, ndiv):
    """``x`` is ``(F, D)`` of one utterance without padding."""
    shifted = x.copy()
    if ndiv is not None:
        for d in range(x.shape[1] // ndiv):
            for f in range(len(x)):
                shifted[f, d] = x[f - 1, d] if f > 0 else 0.0
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    state = {k: v.double().numpy() for k, v in model.state_dict().items()}
    forward = _direction_by_hand([state[f"lstm.{n}"] for n in names], shifted)
    backward = _direction_by_hand([state[f"lstm.{n}_reverse"] for n in names], shifted[::-1])
    h = np.concatenate([forward, backward[::-1]], axis=1)
    h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
    return h * state["norm.weight"] + state["norm.bias"]


def _model(**options):
    torch.manual_seed(0)
    model = ShiftLSTM(8, 5, **options).eval()
    torch.nn.init.normal_(model.norm.weight)
    torch.nn.init.normal_(model.norm.bias)
    return model, torch.randn(len(LENGTHS), 9, 8)  # noise beyond the lengths


@torch.no_grad()
@pytest.mark.parametrize(("shift", "ndiv"), [(True, 4), (True, 2), (False, 4)])
def test_equals_the_equations(shift, ndiv):
    model, x = _model(shift=shift, ndiv=ndiv)
    out, lengths, _ = model(x, torch.tensor(LENGTHS))
    assert lengths.tolist() == LENGTHS and out.shape == (4, 9, model.output_size())
    for row, frames, length in zip(out.numpy(), x.double().numpy(), LENGTHS, strict=True):
        expected = _model_by_hand(model, frames[:length], ndiv if shift else None)
        np.testing.assert_allclose(row[:length], expected, atol=1e-5)
        assert (row[length:] == 0).all()


@torch.no_grad()
def test_without_shift_it_is_torchs_lstm_one_utterance_at_a_time():
    model, x = _model(shift=False, num_layers=2)
    lstm = torch.nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True)
    lstm.load_state_dict(model.lstm.state_dict())
    wider = torch.nn.functional.pad(x, (0, 0, 0, 3), value=7.0)
    for speech in (x, wider):
        out, _, _ = model(speech, torch.tensor(LENGTHS))
        for row, frames, length in zip(out, x, LENGTHS, strict=True):
            expected = model.norm(lstm(frames[None, :length])[0])[0]
            torch.testing.assert_close(row[:length], expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_paper_size_and_dropout():
    model = ShiftLSTM(768)
    assert model.lstm.weight_hh_l0_reverse.shape == (4 * 768, 768)
    assert model.output_size() == 1536 and model.ndiv == 4
    model, x = _model(dropout=0.5)
    lengths = torch.tensor(LENGTHS)
    assert not torch.equal(model.train()(x, lengths)[0], model(x, lengths)[0])
    assert torch.equal(model.eval()(x, lengths)[0], model(x, lengths)[0])


def test_gradients():
    model, x = _model()
    x.requires_grad_()
    model(x, torch.tensor(LENGTHS))[0].square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    for grad, length in zip(x.grad, LENGTHS, strict=True):
        # The last frame's delayed channels (the first two) are in no frame of the output.
        assert (grad[:length, 2:] != 0).all() and (grad[: length - 1] != 0).all()
        assert (grad[length - 1, :2] == 0).all() and (grad[length:] == 0).all()


@pytest.mark.parametrize("ndiv", [0, 9, -4])
def test_a_shift_of_no_or_more_than_all_channels_is_refused(ndiv):
    with pytest.raises(ValueError, match=f"ndiv {ndiv} does not fit 8 channels; .* 1 to 8"):
        ShiftLSTM(8, ndiv=ndiv)
    ShiftLSTM(8, ndiv=ndiv, shift=False)
    assert ShiftLSTM(8, ndiv=1).ndiv == 1  # all channels: the same LSTM, a frame late
