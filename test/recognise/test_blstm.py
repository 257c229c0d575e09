"""The BLSTM of padded batches: torch's own on packed ones, with its names."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from espnet_tse_ser.recognise.blstm import BLSTM

LENGTHS = torch.tensor([9, 1, 5])


def packed(lstm, x, lengths):
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("num_layers", [1, 3])
def test_outputs_and_gradients_are_those_of_packed_sequences(num_layers):
    torch.manual_seed(0)
    reference = torch.nn.LSTM(4, 6, num_layers, batch_first=True, bidirectional=True)
    ours = BLSTM(4, 6, num_layers)
    ours.load_state_dict(reference.state_dict())
    x, weights = torch.randn(3, 11, 4), torch.randn(3, 11, 12)
    found = []
    for run, lstm in ((packed, reference), (lambda lstm, *args: lstm(*args), ours)):
        start = x.clone().requires_grad_()
        out = run(lstm, start, LENGTHS)
        (out * weights).sum().backward()
        found.append([out, start.grad, *(p.grad for p in lstm.parameters())])
    for theirs, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert found[1][1][1, 1:].abs().max() == 0


def test_dropout_is_between_the_layers():
    torch.manual_seed(0)
    x = torch.randn(1, 5, 4)
    one, two = BLSTM(4, 6, 1, dropout=0.9), BLSTM(4, 6, 2, dropout=0.9)
    whole = torch.tensor([5])
    torch.testing.assert_close(one(x, whole), one.eval()(x, whole))
    assert not torch.allclose(two(x, whole), two(x, whole))
    torch.testing.assert_close(two.eval()(x, whole), two(x, whole))


def test_a_half_precision_batch_stays_near():
    torch.manual_seed(0)
    lstm, x = BLSTM(4, 6, 2), torch.randn(3, 11, 4)
    expected = lstm(x, LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(lstm(x, LENGTHS).float(), expected, rtol=0, atol=0.02)
