"""The BLSTM of ShiftLSTM and of the enhancement head, against torch's on packed sequences.

Two layers of 128 units a direction (egs2/ravdess_noise's head) on 32 sequences of 150 to 250
frames, one thread; forward, backward. Equality: outputs and gradients, weights being the same.
"""

import functools

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.extractor import TOLERANCES, error_within, flat_gradient
from bench.measure import Case
from bench.report import table
from espnet_tse_ser.recognise.blstm import BLSTM


def section(rounds):
    """The section of RESULTS.md."""
    return table(__name__, cases(), rounds)


def cases(size=32, frames=250, hidden=128, threads=1):
    """The one case."""
    step = functools.partial(training_step, size, frames, hidden)
    return [
        Case(
            f"step, {size} sequences",
            functools.partial(step, "ours"),
            functools.partial(step, "theirs"),
            functools.partial(check_equal, size, frames, hidden),
            threads=threads,
        )
    ]


def training_step(size, frames, hidden, side):
    """One side's forward and backward; it returns the module and its output."""
    torch.manual_seed(0)
    lstm, x = BLSTM(hidden, hidden, 2), torch.randn(size, frames, hidden)
    lengths = torch.linspace(frames, 0.6 * frames, size).long()

    def step():
        lstm.zero_grad()
        if side == "ours":
            out = lstm(x, lengths)
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(torch.nn.LSTM.forward(lstm, packed)[0], True)[0]
        out.square().mean().backward()
        return lstm, out

    return step


def check_equal(size, frames, hidden):
    """Compare outputs and gradients; raise `Unequal` beyond rounding."""
    outputs, gradients = [], []
    for side in ("ours", "theirs"):
        lstm, out = training_step(size, frames, hidden, side)()
        outputs.append(out.detach())
        gradients.append(flat_gradient(lstm))
    limits = TOLERANCES["float32"]
    first = error_within(limits[0], "outputs", *outputs)
    second = error_within(limits[1], "gradients", *gradients)
    return f"outputs to {first:.0e}, gradients to {second:.0e}"
