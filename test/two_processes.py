"""Two processes of one training on this machine, started as ``srun --ntasks 2`` would."""

import os
import sys

import children
import numpy as np
import torch

from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_tsv


def train_in_two(main, command, directory, prepare=None):
    """Call ``prepare(rank)`` and ``main(command)`` in two processes; ``directory`` is for logs.

    Returns:
        their exit statuses (None for one that does not end) and messages.
    """
    directory.mkdir(exist_ok=True)
    (directory / "meeting").unlink(missing_ok=True)
    options = ["--ngpu", "0", "--multiprocessing_distributed", "true", "--dist_launcher", "slurm"]
    options += ["--dist_backend", "gloo", "--dist_init_method", f"file://{directory}/meeting"]

    statuses = run_two(_work, main, [*command, *options], directory, prepare)
    return statuses, [(directory / f"{rank}.log").read_text() for rank in (0, 1)]


def _work(rank, main, command, directory, prepare):
    os.environ |= {
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank),
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "here[1-2]",
    }
    log = os.open(directory / f"{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(log, "w", buffering=1)
    if prepare is not None:
        prepare(rank)
    return run(main, command)


def run_two(work, *args):
    """Call ``work(rank, *args)`` in two processes; their exit statuses, None for one without end.

    All of this is sent there (see `children`).
    """
    return [children.end(p) for p in [children.start(work, rank, *args) for rank in (0, 1)]]


def assert_close(first, second, tolerance=1e-4):
    """Assert that two trainings have the same weights and scores, but for rounding."""
    weights = [torch.load(d / "latest.pth", weights_only=True) for d in (first, second)]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=0, atol=tolerance)
    tables = [read_tsv(d / "epochs.tsv") for d in (first, second)]
    rows = [[[float(value) for value in row.values()] for row in table] for table in tables]
    np.testing.assert_allclose(rows[0], rows[1], rtol=tolerance, err_msg=str(tables[0][0].keys()))
