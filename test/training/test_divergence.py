"""Trainings whose numbers are no numbers any more are stopped where that happens."""

import math
import re

import pytest
import torch
from espnet2.train.reporter import Reporter
from tiny_commands import TRAININGS, main_of, make_command
from tiny_training import products, train
from two_processes import train_in_two

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.training.divergence import FAILURES, check_model, check_updated, checked_batches


@pytest.mark.parametrize("rate", [1e30, 1e3, 100, 30])
@pytest.mark.parametrize("training", TRAININGS)
def test_a_rate_that_is_far_too_high(tiny, tmp_path, training, rate, capsys):
    torch.set_num_threads(1)
    command = make_command(training, tmp_path, tiny, optim_conf={"lr": rate}, max_epoch=9)
    exp = tmp_path / "exp"
    for _ in range(2):  # the same command stops at the same place
        assert run(main_of(training), [*command, "--output_dir", str(exp)]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        match = re.match(
            r"error: epoch (\d), (training|validation) step \d: the loss is (nan|-?inf|\S+e\+\d+)"
            r".*; training has diverged: lower the rate",
            error,
        )
        assert match, error
        last = int(match[1]) - 1
        assert not (exp / f"{last + 1}epoch.pth").exists()
        assert last == 0 or len(read_tsv(exp / "epochs.tsv")) == last
        assert (exp / "checkpoint.pth").exists() == (last > 0)


def test_two_processes_stop_as_one(tiny, tmp_path):
    command = make_command("ser", tmp_path, tiny, optim_conf={"lr": 100}, batch_size=8)
    command += ["--output_dir", str(tmp_path / "exp")]
    statuses, logs = train_in_two(main_of("ser"), command, tmp_path / "logs")
    assert statuses == [2, 2] and all("error: epoch 1, " in log for log in logs), logs
    assert not list((tmp_path / "exp").glob("*.pth"))


def _spoil(monkeypatch, at, change):
    """Let ``change(model, batch, stats)`` act in the forward of this number of a tiny training."""
    from tiny_training import Model

    forward = Model.forward

    def spoilt(self, **batch):
        loss, stats, weight = forward(self, **batch)
        if self.forwards in at:
            loss = change(self, batch, stats, loss)
        return loss, stats, weight

    monkeypatch.setattr(Model, "forward", spoilt)


def _loss_of(value):
    def change(model, batch, stats, loss):
        stats["loss"] = loss.detach() * 0 + value
        return loss * value

    return change


def _weights_of(value):
    def change(model, batch, stats, loss):
        with torch.no_grad():
            model.linear.weight[1, 2] = value
        return loss

    return change


def _gradients_of(value):
    def change(model, batch, stats, loss):
        return loss + (model.linear.bias.sum() * 0 + 1e-45).sqrt() * value

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e7])
@pytest.mark.parametrize(
    ("at", "place"),
    [
        (1, "epoch 1, training step 1"),
        (6, "epoch 1, validation step 2"),
        (10, "epoch 2, training step 2"),
        (16, "epoch 2, validation step 4"),
    ],
)
def test_a_loss_that_is_none(tmp_path, monkeypatch, at, place, value):
    _spoil(monkeypatch, {at}, _loss_of(value))
    with pytest.raises(UserError, match=f"{place}: the loss is .* for the batch of .*; training h"):
        train(tmp_path)
    assert not (tmp_path / f"{1 + (at > 8)}epoch.pth").exists()
    monkeypatch.undo()
    train(tmp_path)  # goes on as if nothing had been
    train(tmp_path.with_name("whole"))
    assert products(tmp_path) == products(tmp_path.with_name("whole"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("at", "place"),
    [
        (2, "training step 3: the loss is nan, the model"),
        (4, "training step 4: the model"),
        (5, "validation step 2: the loss is nan, the model"),
    ],
)
def test_weights_that_are_none(tmp_path, monkeypatch, at, place, value):
    _spoil(monkeypatch, {at}, _weights_of(value))
    match = f"epoch 1, {place}: 1 of 2 tensors hold NaN or infinity, first 'linear.weight'"
    with pytest.raises(UserError, match=match):
        train(tmp_path)
    assert not list(tmp_path.glob("*.pth"))


def test_an_input_that_is_none(tmp_path, monkeypatch):
    from tiny_training import Utterances

    cut = Utterances.__getitem__

    def spoilt(self, uid):
        uid, data = cut(self, uid)
        if uid == "7":
            data["speech"][3] = math.nan
        return uid, data

    monkeypatch.setattr(Utterances, "__getitem__", spoilt)
    match = "the loss is nan, the batch of .*: 1 of . tensors hold NaN .* 'speech'.*; drop what"
    with pytest.raises(UserError, match=match):
        train(tmp_path)


def test_gradients_that_are_none(tmp_path, monkeypatch, caplog):
    _spoil(monkeypatch, {1, 2, 4, 9}, _gradients_of(math.nan))
    train(tmp_path)  # they are left out, as long as there are others
    _spoil(monkeypatch, range(9, 13), _gradients_of(math.nan))
    with pytest.raises(UserError, match="epoch 2, .*: no update of the epoch had finite gradients"):
        train(tmp_path.with_name("again"))
    assert (tmp_path.with_name("again") / "checkpoint.pth").exists()
    assert not (tmp_path.with_name("again") / "2epoch.pth").exists()


def _steps(norms, losses=None, accum_grad=1):
    """Go through an epoch whose steps have these norms of their gradients, None if not finite."""
    reporter = Reporter()
    reporter.set_epoch(1)
    model = torch.nn.Linear(2, 2)
    with reporter.observe("train") as sub:
        batches = (([str(i)], {"speech": torch.ones(1)}) for i in range(len(norms)))
        for number, _ in enumerate(checked_batches(batches, sub, model, accum_grad)):
            sub.register({"loss": 1.0 if losses is None else losses[number]}, 1)
            if norms[number] is not None:
                sub.register({"grad_norm": norms[number]})
            sub.next()
        check_updated(sub, accum_grad)
        check_model(model, sub)


@pytest.mark.parametrize("accum_grad", [1, 3])
def test_gradients_that_stay_none(accum_grad):
    rest = [None] * (accum_grad - 1)
    good, bad = [*rest, 1.0], [*rest, None]
    _steps(good + bad * (FAILURES - 1) + good + bad * (FAILURES - 1), accum_grad=accum_grad)
    for norms in (bad * FAILURES + good, good + bad * FAILURES + good):
        with pytest.raises(UserError, match=f"the gradients of {FAILURES} updates in a row are"):
            _steps(norms, accum_grad=accum_grad)
    with pytest.raises(UserError, match="no update of the epoch had finite gradients"):
        _steps(bad * 3, accum_grad=accum_grad)
