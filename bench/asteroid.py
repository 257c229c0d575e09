"""Time-domain networks of one size: ours against asteroid 0.7's Conv-TasNet.

Not the same network: Conv-TasNet has no enrollment, over which ours runs one more repeat of the TCN
and its encoder: a third (paper) or half (small) more. Its filterbank, TCN (gLN, ReLU mask), loss
(negative SI-SDR), optimizer and batches are those of ours, with one output; float32. The last
column has the operations of both. asteroid 0.7 needs torchmetrics below 0.12 and so an environment
of its own (README.md), in which asteroid_worker.py takes its turns.
"""

import functools
import json
import subprocess
from pathlib import Path

from bench.extractor import FS, SIZES, Size, flops, inference_step, load_config, training_step
from bench.measure import Case, Seconds
from bench.report import ROOT, table
from espnet_tse_ser.errors import UserError

PYTHON = Path(__file__).parent / ".venv_asteroid/bin/python"


def section(rounds):
    """The section of RESULTS.md."""
    if not PYTHON.exists():
        raise UserError(f"{PYTHON} is not there; make it as bench/README.md says")
    return table(__name__, cases(), rounds)


def cases(sizes=SIZES, inference_seconds=4.0):
    """Training and inference of each size."""
    listed = []
    for name, size in sizes.items():
        infer = Size(size.config, 1, inference_seconds)
        listed.append(_case(f"{name}, training", size, training_step, True, 2))
        listed.append(_case(f"{name}, inference", infer, inference_step, False, 1))
    return listed


def _case(name, size, step, training, threads):
    return Case(
        name,
        functools.partial(step, "ours", size),
        functools.partial(_take, size, training, threads),
        functools.partial(_operations, size, training, threads),
        threads=threads,
        audio_seconds=None if training else size.seconds,
        competitor="asteroid",
    )


def conv_tasnet_options(config):
    """Arguments of asteroid's ``ConvTasNet`` from a configuration of ESPnet's TSE task."""
    encoder, extractor = config["encoder_conf"], config["extractor_conf"]
    return {
        "n_src": 1,
        "n_blocks": extractor["layer"],
        "n_repeats": extractor["stack"],
        "bn_chan": extractor["bottleneck_dim"],
        "hid_chan": extractor["hidden_dim"],
        "skip_chan": extractor["skip_dim"],
        "conv_kernel_size": extractor.get("kernel", 3),
        "norm_type": "gLN",
        "mask_act": "relu",
        "n_filters": encoder["channel"],
        "kernel_size": encoder["kernel_size"],
        "stride": encoder["stride"],
        "encoder_activation": "relu",
        "sample_rate": FS,
    }


class Worker:
    """Asteroid's side in a process of its own; a call is a turn, which it times itself."""

    def __init__(self, size, training, threads, python=PYTHON):
        job = {
            "options": conv_tasnet_options(load_config(size)),
            "batch": size.batch,
            "samples": round(size.seconds * FS),
            "training": training,
            "threads": threads,
        }
        self.process = subprocess.Popen(
            [str(python), "-m", "bench.asteroid_worker", json.dumps(job)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.flops = self._answer()["flops"]

    def __call__(self):
        self.process.stdin.write("turn\n")
        self.process.stdin.flush()
        return Seconds(**self._answer())

    def close(self):
        """End the process."""
        self.process.communicate()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"asteroid's process ended with status {self.process.wait()}")
        return json.loads(line)


_started = {}  # by `_operations`, as importing asteroid takes long


def _operations(*job):
    worker = _started[job] = Worker(*job)
    ours, theirs = flops(*job[:2]) / 1e9, worker.flops / 1e9
    return f"no: {ours:.0f} / {theirs:.0f} GFLOP"


def _take(*job):
    return _started.pop(job, None) or Worker(*job)
