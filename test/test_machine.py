"""--device and --num_threads: what is taken by default, and what cannot be."""

import argparse

import pytest
import torch

from espnet_tse_ser import machine
from espnet_tse_ser.errors import UserError


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(threads)


def _set_up(*options, jobs=1):
    parser = argparse.ArgumentParser()
    machine.add_options(parser)
    return machine.set_up(parser.parse_args(options), jobs)


@pytest.mark.parametrize(
    ("environment", "jobs", "threads"),
    [
        ({}, 1, 12),
        ({}, 5, 2),
        ({}, 32, 1),
        ({"OMP_NUM_THREADS": "3"}, 4, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 1, 4),
        ({"SLURM_CPUS_PER_TASK": "6"}, 1, 6),
        ({"SLURM_CPUS_PER_TASK": "6"}, 4, 1),
        ({"SLURM_CPUS_PER_TASK": "64"}, 1, 12),
        ({"SLURM_CPUS_PER_TASK": "6", "OMP_NUM_THREADS": "1"}, 1, 1),
    ],
)
def test_default_threads(monkeypatch, environment, jobs, threads):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert machine.default_threads(jobs) == threads


def test_set_up(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _set_up() == torch.device("cpu") and torch.get_num_threads() == 2
    assert _set_up("--num_threads", "1", jobs=9).type == "cpu" and torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num_threads=0"], "--num_threads must be 1 or more, got 0"),
        (["--device=gpu"], "--device gpu: is none; give cpu, cuda or cuda:<number>"),
        (["--device=mps"], "--device mps: is none"),
        (["--device=cuda"], "--device cuda: no GPU can be used here; give --device cpu"),
    ],
)
def test_bad_options(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        _set_up("--num_threads=1", *options)


def test_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(_set_up("--num_threads=1", "--device=cuda:1")) == "cuda:1"
    with pytest.raises(
        UserError, match="--device cuda:2: there are 2 GPUs; the last one is cuda:1"
    ):
        _set_up("--num_threads=1", "--device=cuda:2")


@pytest.mark.parametrize("value", ["two", "0", "-1"])
def test_a_bad_environment(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(UserError, match=f"OMP_NUM_THREADS is '{value}': must be a number of thr"):
        _set_up()
