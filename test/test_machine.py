"""--device and --num_threads: what is taken by default, and what cannot be."""

import argparse
import importlib
import subprocess
import sys

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


@pytest.mark.parametrize(
    "command", ["evaluate", "extract", "infer", "recognize", "ser_features", "ser_stats"]
)
def test_commands_that_run_a_network_take_these_options(command):
    parser = importlib.import_module(f"espnet_tse_ser.bin.{command}").get_parser()
    for action in parser._actions:  # whatever else it needs
        action.required = False
    assert (parser.parse_args([]).device, parser.parse_args([]).num_threads) == ("cpu", None)


@pytest.mark.parametrize("value", ["two", "0", "-1", "1e9", "9" * 5000])
def test_a_bad_environment(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    message = f"OMP_NUM_THREADS is '{value}': expected a whole number of 1 or more"
    with pytest.raises(UserError, match=message):
        _set_up()


@pytest.mark.parametrize("threads", [1, 2])
def test_signals_spoil_no_product(threads):
    """Without `survive_signals` the process aborts, on processors with AVX-512."""
    script = (
        "import os, signal, subprocess, sys, torch\n"
        "from espnet_tse_ser.machine import survive_signals\n"
        "from espnet_tse_ser.frontends.td_speakerbeam.matmul import matmul\n"
        f"torch.set_num_threads({threads})\n"
        "survive_signals()\n"
        "torch.manual_seed(0)\n"
        "a, b = torch.randn(3001, 128), torch.randn(128, 512)\n"
        "expected, numbers, calls, wrong = matmul(a, b), [10, 12, 14, 15], 0, 0\n"
        "for number in numbers:\n"
        "    signal.signal(number, lambda *args: None)\n"
        "send = f'[os.kill({os.getpid()}, n) or time.sleep(1e-4) for n in {numbers} * 1500]'\n"
        "sender = subprocess.Popen([sys.executable, '-c', 'import os, time; ' + send])\n"
        "while sender.poll() is None:\n"
        "    wrong, calls = wrong + (not torch.equal(matmul(a, b), expected)), calls + 1\n"
        "print(sender.returncode, wrong, calls)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status, wrong, calls = done.stdout.split()
    assert (status, wrong) == ("0", "0") and int(calls) > 10
