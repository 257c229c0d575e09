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
import threading
import time

import children
import numpy as np
import pytest
import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.train.reporter import Average, WeightedAverage
from evil_files import EVIL, write_evil
from tiny_training import products, signal_at, train

from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError, run
from espnet_tse_ser.training import trainer as espnet
from espnet_tse_ser.training.prefetching import PrefetchingLoader


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
    torch.save(torch.load(path) | changes, path)


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


@pytest.mark.parametrize(("payload", "save"), EVIL)
def test_nothing_in_a_state_runs(tmp_path, monkeypatch, payload, save):
    monkeypatch.chdir(tmp_path)
    path = _interrupted(tmp_path / "exp", 2)
    write_evil(path, payload, save, within=torch.load(path))
    match = "checkpoint.step.pth: holds other objects .*; remove it to start its epoch from the beg"
    with pytest.raises(UserError, match=match):
        train(tmp_path / "exp")
    assert path.exists() and not (tmp_path / "pwned").exists()


def _with_random(**changes):
    def rewrite(path):
        state = torch.load(path)["random"][0]
        _rewrite(path, random=[state | changes])

    return rewrite


def _with_reporter(**changes):
    return lambda path: _rewrite(path, reporter=torch.load(path)["reporter"] | changes)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: torch.save("text", path),
        lambda path: torch.save(torch.ones(3), path),
        lambda path: torch.save({}, path),
        lambda path: _rewrite(path, step=-1),
        lambda path: _rewrite(path, step="one"),
        lambda path: _rewrite(path, step=True),
        lambda path: _rewrite(path, trained=1),
        lambda path: _rewrite(path, epoch="2"),
        lambda path: _rewrite(path, random=[{}]),
        lambda path: _rewrite(path, random=3),
        lambda path: _rewrite(path, reporter=({}, 0, 0)),
        _with_random(python=(3, (1, 2), None)),
        _with_random(numpy=("MT19937", [1, 2], 3, 0, 0.0)),
        _with_random(numpy=None),
        _with_random(torch=torch.ones(3)),
        _with_random(torch=torch.ones(3, dtype=torch.uint8)),
        _with_reporter(count="two"),
        _with_reporter(stats={"loss": [(1.0, None)] * 7}),
        _with_reporter(stats={"loss": [("low", None)] * 2}),
        _with_reporter(stats={"loss": [3, 4]}),
    ],
)
def test_a_state_of_something_else_costs_its_epoch(whole, tmp_path, spoil, caplog):
    path = _interrupted(tmp_path, 8 + 2)
    spoil(path)
    assert train(tmp_path) == 8
    assert "epoch 2 starts from its beginning" in caplog.text
    assert products(tmp_path) == whole()


def test_a_state_of_another_espnet_is_called_so(tmp_path):
    path = _interrupted(tmp_path, 2)
    saved = torch.load(path)
    stats = {"loss": [WeightedAverage(1.0, 4)] * 2, "clip": [Average(0.0)] * 2}
    state = saved["random"][0] | {"numpy": np.random.get_state()}
    for change in ({"random": [state], "reporter": (stats, 2, 6)}, {"espnet": "202511"}):
        torch.save(saved | change, path)
        match = "checkpoint.step.pth: was saved with ESPnet 202511.*, and the training cannot"
        with pytest.raises(UserError, match=match):
            train(tmp_path)
        assert path.exists()


def test_a_state_of_more_steps_than_there_are(tmp_path):
    path = _interrupted(tmp_path, 2)
    reporter = torch.load(path)["reporter"]
    stats = {name: values[:1] * 10**4 for name, values in reporter["stats"].items()}
    _rewrite(path, step=10**4, reporter=reporter | {"count": 10**4, "stats": stats})
    with pytest.raises(
        UserError, match="is of step 10000 of an epoch, which has 4 now: .*; remove"
    ):
        train(tmp_path)


def test_a_state_is_plain(tmp_path):
    state = torch.load(_interrupted(tmp_path, 2), weights_only=True)
    assert state["step"] == 2 and len(state["reporter"]["stats"]["loss"]) == 2


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


def test_whole_numbers_in_place_of_weights(tmp_path):
    path = _interrupted(tmp_path, 8 + 2)
    for file in (path, path.with_name("checkpoint.pth")):
        saved = torch.load(file)
        weights = {name: value.long() for name, value in saved["model"].items()}
        torch.save(saved | {"model": weights}, file)
        with pytest.raises(UserError, match=f"{file.name}: .*is of the type torch.int64"):
            train(tmp_path)
        torch.save(saved, file)


def test_a_signal_after_the_one_that_ends_it(tmp_path):
    _interrupted(tmp_path, 2)
    for number in (signal.SIGTERM, signal.SIGUSR1):  # also when Python has no handlers any more
        assert signal.getsignal(number) == signal.SIG_IGN


def _threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("prefetching")]


@pytest.mark.parametrize("end", [Requeue, KeyboardInterrupt, UserError, ValueError])
@pytest.mark.parametrize("at", [2, 6])  # in the training, in the validation
def test_no_thread_outlives_a_training(tmp_path, monkeypatch, end, at):
    build_iter, seen = SequenceIterFactory.build_iter, []

    def prefetching(*args):
        loader = build_iter(*args)
        return PrefetchingLoader(
            loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=loader.collate_fn
        )

    def at_forward(number, training):
        seen.extend(_threads())
        if number == at and end is Requeue:
            os.kill(os.getpid(), signal.SIGUSR1)
        elif number == at:
            raise end("stopped")

    monkeypatch.setattr(SequenceIterFactory, "build_iter", prefetching)
    try:
        train(tmp_path, at_forward=at_forward)
    except end as error:  # with all that its frames hold
        assert seen and not _threads() and error.__traceback__ is not None
    else:
        pytest.fail("it went on")


@pytest.mark.parametrize("end", [Requeue, KeyboardInterrupt, UserError])
def test_no_worker_outlives_a_training(tmp_path, end):
    def at_forward(number, training):
        if number == 2 and end is Requeue:
            os.kill(os.getpid(), signal.SIGUSR1)
        elif number == 2:
            assert len(multiprocessing.active_children()) == 2
            raise end("stopped")

    with pytest.raises(end):
        train(tmp_path, at_forward=at_forward, num_workers=2)
    assert not multiprocessing.active_children()


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


def _train(*args, **keywords):
    return run(lambda _: train(*args, **keywords) and None)


def _wait(number, training):
    time.sleep(0.01)


def _signal_all(at, number, training):
    if number == at:
        os.killpg(0, signal.SIGTERM)


def _crash(number, training):
    raise RuntimeError("a defect")


def test_signals_and_kills_at_random_moments(whole, tmp_path):
    rng = random.Random(0)
    statuses = []
    while 0 not in statuses:
        process = children.start(_train, tmp_path, at_forward=_wait)
        time.sleep(rng.uniform(0.05, 0.3))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, rng.choice([signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM]))
        statuses.append(children.end(process))
    # It may be hit before and after the training, too.
    deaths = {-signal.SIGKILL, -signal.SIGUSR1, -signal.SIGTERM}
    assert set(statuses) <= {0, 2, REQUEUE_STATUS} | deaths, statuses
    assert products(tmp_path) == whole()


def test_a_signal_to_the_workers_too(whole, tmp_path):
    for at in (1, 6, 5, 99):  # of the forwards in one process
        at_forward = functools.partial(_signal_all, at)
        process = children.start(_train, tmp_path, at_forward=at_forward, num_workers=2)
        assert children.end(process) == (0 if at == 99 else REQUEUE_STATUS)
    assert products(tmp_path) == whole(num_workers=2)


def test_a_crash_ends_the_workers(tmp_path):
    process = children.start(_train, tmp_path, at_forward=_crash, num_workers=2)
    assert children.end(process) == 1
