"""Several processes of one training: signals, errors, who writes, who does what."""

import errno
import functools
import io
import logging
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import children
import pytest
import torch
from espnet2.tasks.abs_task import AbsTask
from tiny_training import products, signal_at, train
from two_processes import run_two

from espnet_tse_ser.errors import REQUEUE_STATUS, UserError, run
from espnet_tse_ser.training.distributed import DistributedTask, divisible, is_first_process


def _nothing(*_):
    pass


def _log_to(path, level):
    """Let the messages of this process go to a file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(log, "w", buffering=1)
    logging.basicConfig(stream=sys.stderr, level=level, force=True)


def _train_two(directory, *at_forward, prepare=_nothing):
    """Train in two processes, each with its own ``at_forward``; statuses and messages.

    In each, ``prepare`` is called before.
    """
    directory.with_name("meeting").unlink(missing_ok=True)
    statuses = run_two(_train, directory, at_forward, prepare)
    return statuses, [directory.with_name(f"{rank}.log").read_text() for rank in (0, 1)]


def _train(rank, directory, at_forward, prepare):
    _log_to(directory.with_name(f"{rank}.log"), "ERROR" if rank else "INFO")
    prepare()
    keywords = {"rank": rank, "meeting": directory.with_name("meeting")}
    return run(lambda _: train(directory, at_forward=at_forward[rank], **keywords) and None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The products of an undisturbed training in two processes."""
    directory = tmp_path_factory.mktemp("two") / "whole"
    train(directory.with_name("one"))  # what torch imports on first use, it need not import again
    assert _train_two(directory, signal_at(), signal_at())[0] == [0, 0]
    return products(directory)


@pytest.mark.parametrize("ranks", [[0], [1], [0, 1]])
def test_a_signal_to_any_process_stops_all_at_the_same_step(whole, tmp_path, ranks):
    directory = tmp_path / "exp"
    for at, saved in (  # a forward of one start, and where it stopped
        (1, "epoch 1 after step 1"),
        (1, "epoch 1 after step 2"),
        (1, "epoch 1 after step 3"),
        (5, "epoch 2 after step 2"),
        (3, "epoch 2 after all its steps"),
    ):
        # The second of the processes gets its signal later, if it still runs.
        at_forward = [signal_at(*[at + i for i, r in enumerate(ranks) if r == n]) for n in (0, 1)]
        statuses, logs = _train_two(directory, *at_forward)
        assert statuses == [REQUEUE_STATUS] * 2, logs
        name = "SIGUSR1" if 0 in ranks else "a signal to another process"
        assert f"{name}: saved {saved} in {directory}" in logs[0]
        assert "the same command" not in logs[1]
    assert _train_two(directory, signal_at(), signal_at())[0] == [0, 0]
    assert products(directory) == whole


def test_a_validation_that_was_resumed_is_finished_by_all(whole, tmp_path):
    directory = tmp_path / "exp"
    _train_two(directory, signal_at(6), signal_at())
    statuses, logs = _train_two(directory, signal_at(), signal_at(1))
    assert statuses == [REQUEUE_STATUS] * 2
    assert "a signal to another process: epoch" in logs[0]
    assert _train_two(directory, signal_at(), signal_at())[0] == [0, 0]
    assert products(directory) == whole


def _raise(error):
    """Let the second forward raise an error."""
    return functools.partial(_raise_at_the_second, error)


def _raise_at_the_second(error, number, training):
    if number == 2:
        raise error


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_ends_the_other(whole, tmp_path, rank):
    at_forward = [signal_at(), signal_at()]
    at_forward[rank] = _raise(UserError("a.wav: is silent; drop its id"))
    start = time.monotonic()
    statuses, logs = _train_two(tmp_path / "exp", *at_forward)
    assert statuses[rank] == 2 and statuses[1 - rank] == 1
    assert logs[rank].splitlines()[-1] == "error: a.wav: is silent; drop its id"
    assert time.monotonic() - start < 20


def _fill_the_disk():
    save = torch.save

    def full(value, stream, **options):
        if isinstance(stream, io.BytesIO):  # how tensors are sent to another process
            return save(value, stream, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    torch.save = full


def test_a_full_disk_ends_all_processes(whole, tmp_path):
    at_forward = signal_at(), signal_at(2)
    statuses, logs = _train_two(tmp_path / "exp", *at_forward, prepare=_fill_the_disk)
    path = tmp_path / "exp" / "checkpoint.step.pth"
    assert statuses == [2, 2] and f"no space left on the device while writing {path}" in logs[0]
    assert f"{path}: the first process could not write it" in logs[1]


class Children(AbsTask):
    """What each of the children that ESPnet makes would do on its GPU."""

    @classmethod
    def main_worker(cls, args):
        _log_to(f"{args.output_dir}.{args.dist_rank}.log", "ERROR" if args.dist_rank else "INFO")
        for number in (signal.SIGTERM, signal.SIGUSR1):  # as in a process that is not a fork
            signal.signal(number, signal.SIG_DFL)
        cls.start_up(args.dist_rank)
        keywords = {"rank": args.dist_rank, "meeting": f"{args.output_dir}.meeting"}
        train(Path(args.output_dir), at_forward=cls.at_forward, **keywords)


class Task(DistributedTask, Children):
    """A training on two GPUs of one machine."""


def _train_in_children(directory, start_up=_nothing, at_forward=_nothing):
    """The status and the messages of a process that a user starts, and of its children.

    In each of these, which alone compute, ``start_up(rank)`` is called.
    """
    Path(f"{directory}.meeting").unlink(missing_ok=True)
    status = children.end(children.start(_start_children, directory, start_up, at_forward))
    return status, [Path(f"{directory}{part}.log").read_text() for part in ("", ".0", ".1")]


def _start_children(directory, start_up, at_forward):
    _log_to(f"{directory}.log", "INFO")
    Task.start_up, Task.at_forward = staticmethod(start_up), staticmethod(at_forward)
    command = ["--output_dir", str(directory), "--ngpu", "2"]
    args = AbsTask.get_parser().parse_args([*command, "--multiprocessing_distributed", "true"])
    args.required = []
    fork = multiprocessing.get_context("fork")
    torch.multiprocessing.get_context = lambda method: fork  # a spawned one imports for seconds
    return run(lambda _: Task.main(args=args))


def _signal_the_parent():
    os.kill(os.getppid(), signal.SIGUSR1)


def _signal_all():
    os.killpg(0, signal.SIGUSR1)


def _send(send, number, training):
    if number == 2 and torch.distributed.get_rank() == 0:
        send()
        time.sleep(0.5)  # until it is back


@pytest.mark.parametrize("send", [_signal_the_parent, _signal_all])
def test_the_parent_of_the_processes_passes_signals_and_statuses_on(whole, tmp_path, send):
    directory = tmp_path / "exp"
    status, logs = _train_in_children(directory, at_forward=functools.partial(_send, send))
    assert status == REQUEUE_STATUS, logs
    assert "SIGUSR1: saved epoch 1 after step 2" in logs[1]
    assert not any("Traceback" in log for log in logs)
    status, logs = _train_in_children(directory, at_forward=_raise(UserError("b.wav: is empty")))
    assert status == 2 and not any("Traceback" in log for log in logs), logs
    assert logs[1].endswith("error: b.wav: is empty\n")
    assert _train_in_children(directory)[0] == 0 and products(directory) == whole


def _signal_the_parent_early(rank):
    time.sleep(1)  # a spawned one is not that quick: its parent may still be forking
    if rank == 0:
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(30)


def test_a_signal_before_the_processes_train_is_obeyed(tmp_path):
    status, logs = _train_in_children(tmp_path / "exp", _signal_the_parent_early)
    assert status == 128 + signal.SIGTERM and "Traceback" not in "".join(logs), logs


def test_batches_that_every_process_has_a_part_in():
    assert divisible([], 2) == []
    assert divisible([[1], [2], [3, 4, 5], [6, 7], [8]], 2) == [[1, 2], [3, 4, 5], [6, 7, 8]]
    assert divisible([[1], [2], [3, 4, 5], [6, 7], [8]], 1) == [[1], [2], [3, 4, 5], [6, 7], [8]]
    with pytest.raises(UserError, match="3 example.s. cannot be divided among 4 processes"):
        divisible([[1, 2], [3]], 4)


def test_who_writes(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def first(*command):
        return is_first_process(AbsTask.get_parser().parse_args(["--output_dir", "x", *command]))

    assert first() and first("--ngpu", "2", "--multiprocessing_distributed", "true")
    two = ("--dist_world_size", "2", "--dist_rank")
    assert first(*two, "0") and not first(*two, "1")
    with pytest.raises(UserError, match="--dist_launcher slurm: .* not to be launched by 'srun'"):
        first("--dist_launcher", "slurm")
    for name in ("STEP_NUM_NODES", "STEP_NODELIST", "NTASKS"):
        monkeypatch.setenv(f"SLURM_{name}", "2")
    for rank in (0, 1):
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        assert first("--dist_launcher", "slurm") == (rank == 0)
        assert first()  # in a job of Slurm, but alone
