"""A training that is stopped by signals, or killed, ends as one that was left alone."""

import contextlib
import errno
import functools
import math
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time

import pytest
import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from tiny_training import products, signal_at, train

from espnet_tse_ser import espnet
from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError, run


@pytest.fixture(autouse=True)
def _handlers():
    """A training that is to be put into the queue again leaves its handlers to the exit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """``whole(*options)``: the products of an undisturbed training with these options."""

    @functools.cache
    def undisturbed(*options, **keywords):
        directory = tmp_path_factory.mktemp("whole")
        assert train(directory, *options, **keywords) == 2 * (4 + 4)
        return products(directory)

    return undisturbed


@pytest.mark.parametrize("accum_grad", [1, 2, 3])
def test_a_signal_at_any_moment_loses_nothing(whole, tmp_path, accum_grad):
    options = ("--accum_grad", str(accum_grad))
    for at in range(1, 2 * (4 + 4) + 1):
        directory = tmp_path / str(at)
        with pytest.raises(Requeue) as requeue:
            signals = (signal.SIGTERM, signal.SIGUSR1)
            train(directory, *options, at_forward=signal_at(at, signals=signals))
        assert requeue.value.code == REQUEUE_STATUS == 75
        epoch, place = divmod(at - 1, 8)  # what is saved: whole updates, all before a validation
        saved = 8 * epoch + min(math.ceil((place + 1) / accum_grad) * accum_grad, 4)
        assert train(directory, *options) == 16 - saved
        assert products(directory) == whole(*options), at


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_signal_at_every_step(whole, tmp_path, num_workers, caplog):
    def at_forward(number, training):
        if training:
            os.kill(os.getpid(), signal.SIGUSR1)

    keywords = {"num_workers": num_workers}
    for _ in range(2 * 4):
        with pytest.raises(Requeue):
            train(tmp_path, at_forward=at_forward, **keywords)
    train(tmp_path, at_forward=at_forward, **keywords)
    assert products(tmp_path) == whole(**keywords)
    saved = [message for message in caplog.messages if "SIGUSR1" in message]
    assert saved == [
        f"SIGUSR1: saved epoch {epoch} after step {step} in {tmp_path}/checkpoint.step.pth; the "
        "same command goes on from there"
        for epoch in (1, 2)
        for step in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_signal_before_the_first_step_waits_for_it(whole, tmp_path, resumed, monkeypatch):
    # or a job that is warned early would be started again for ever
    if resumed:
        with pytest.raises(Requeue):
            train(tmp_path, at_forward=signal_at(2))
    build_iter = SequenceIterFactory.build_iter
    with monkeypatch.context() as patch:

        def signal_before(*args):
            os.kill(os.getpid(), signal.SIGTERM)
            return build_iter(*args)

        patch.setattr(SequenceIterFactory, "build_iter", signal_before)
        with pytest.raises(Requeue):
            train(tmp_path)
    assert train(tmp_path) == (13 if resumed else 15)
    assert products(tmp_path) == whole()


def test_a_validation_that_was_resumed_is_finished(whole, tmp_path):
    with pytest.raises(Requeue):
        train(tmp_path, at_forward=signal_at(6))
    with pytest.raises(Requeue):
        train(tmp_path, at_forward=signal_at(1))
    assert train(tmp_path) == 8 and products(tmp_path) == whole()


def test_a_signal_while_an_epoch_is_saved(whole, tmp_path, monkeypatch, caplog):
    write_epochs = espnet._write_epochs

    def write(path, stats):
        os.kill(os.getpid(), signal.SIGUSR1)
        write_epochs(path, stats)

    monkeypatch.setattr(espnet, "_write_epochs", write)
    with pytest.raises(Requeue):
        train(tmp_path)
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL  # one more would change the status
    assert f"SIGUSR1: epoch 1 is saved in {tmp_path}/checkpoint.pth; the same" in caplog.text
    assert not (tmp_path / "checkpoint.step.pth").exists()
    assert train(tmp_path) == 8  # nothing is left to do: it ends as usual
    assert products(tmp_path) == whole()


def test_signals_are_the_callers_before_and_after(tmp_path):
    seen = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: seen.append(number))
    train(tmp_path)
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGUSR1, signal.SIGTERM]


def test_training_in_a_thread(whole, tmp_path):
    thread = threading.Thread(target=train, args=(tmp_path,))  # where there are no signals
    thread.start()
    thread.join()
    assert products(tmp_path) == whole()


def _interrupted(directory, at):
    with pytest.raises(Requeue):
        train(directory, at_forward=signal_at(at))
    return directory / "checkpoint.step.pth"


def _rewrite(path, **changes):
    torch.save(torch.load(path, weights_only=False) | changes, path)


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"is damaged \(.+\)"),
        (lambda path: path.write_bytes(b""), r"is damaged \(.+\)"),
        (lambda path: torch.save([1], path), r"is damaged \(.+\)"),
        (lambda path: _rewrite(path, epoch=1), "is of epoch 1"),
        (lambda path: _rewrite(path, random=[{}, {}]), r"is of a training with 2 process\(es\)"),
        (lambda path: os.utime(path, (0, 0)), "is older than checkpoint.pth"),
    ],
)
def test_a_state_that_cannot_be_used_costs_its_epoch(whole, tmp_path, spoil, reason, caplog):
    path = _interrupted(tmp_path, 8 + 2)
    spoil(path)
    assert train(tmp_path) == 8
    message = rf"checkpoint.step.pth: {reason}.*; epoch 2 starts from its beginning"
    assert re.search(message, caplog.text)
    assert products(tmp_path) == whole()


def test_a_damaged_checkpoint_and_a_state_of_the_epoch_after_it(tmp_path, caplog):
    directories = [tmp_path / name for name in ("whole", "exp")]
    for directory in directories:
        train(directory, "--max_epoch", "2")
    path = directory / "checkpoint.pth"
    with pytest.raises(Requeue):
        train(directory, "--max_epoch", "3", at_forward=signal_at(2))
    path.write_bytes(path.read_bytes()[:-100])
    assert train(directory, "--max_epoch", "3") == 2 * 8
    assert "checkpoint.pth: is damaged" in caplog.text and "one epoch earlier" in caplog.text
    assert "checkpoint.step.pth: is of epoch 3; epoch 2 starts from its beginning" in caplog.text
    train(directories[0], "--max_epoch", "3")
    assert products(directories[1]) == products(directories[0])


def test_a_state_of_another_configuration(tmp_path):
    path = _interrupted(tmp_path, 2)
    _rewrite(path, model={"linear.weight": torch.zeros(4, 7)})
    with pytest.raises(UserError, match="checkpoint.step.pth: training cannot go on .* remove"):
        train(tmp_path)


def test_a_training_that_does_not_resume_starts_anew(whole, tmp_path):
    _interrupted(tmp_path, 2)
    assert train(tmp_path, "--resume", "false") == 16 and products(tmp_path) == whole()


def test_a_full_disk_leaves_the_state_before(whole, tmp_path, monkeypatch, capsys):
    before = _interrupted(tmp_path, 2).read_bytes()
    save = torch.save

    def full(value, stream):
        save(value, stream)
        stream.truncate(100)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert run(lambda argv: train(tmp_path, at_forward=signal_at(1))) == 2
    assert f"no space left on the device while writing {tmp_path}/checkpoint.step.pth" in (
        capsys.readouterr().err
    )
    assert (tmp_path / "checkpoint.step.pth").read_bytes() == before
    assert train(tmp_path) == 14 and products(tmp_path) == whole()


def _process(at_forward, *args, **keywords):
    """A training in a process, and a group, of its own."""

    def work():
        os.setpgid(0, 0)
        sys.exit(run(lambda _: train(*args, at_forward=at_forward, **keywords) and None))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _end(process):
    """The exit status of a process, or None if it does not end."""
    process.join(60)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        return None
    return process.exitcode


def test_signals_and_kills_at_random_moments(whole, tmp_path):
    rng = random.Random(0)
    statuses = []
    while 0 not in statuses:
        process = _process(lambda *_: time.sleep(0.01), tmp_path)
        time.sleep(rng.uniform(0.05, 0.2))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, rng.choice([signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM]))
        statuses.append(_end(process))
    # It may be hit before and after the training, too.
    deaths = {-signal.SIGKILL, -signal.SIGUSR1, -signal.SIGTERM}
    assert set(statuses) <= {0, 2, REQUEUE_STATUS} | deaths, statuses
    assert products(tmp_path) == whole()


def test_a_signal_to_the_workers_too(whole, tmp_path):
    for at in (1, 6, 5, 99):  # of the forwards in one process
        process = _process(
            lambda number, _, at=at: number == at and os.killpg(0, signal.SIGTERM),
            tmp_path,
            num_workers=2,
        )
        assert _end(process) == (0 if at == 99 else REQUEUE_STATUS)
    assert products(tmp_path) == whole(num_workers=2)


def test_a_crash_ends_the_workers(tmp_path):
    def crash(number, training):
        raise RuntimeError("a defect")

    assert _end(_process(crash, tmp_path, num_workers=2)) == 1
