"""The peak memory of a step, each side in a process of its own.

Resident memory is noted after the model is built, the kernel's high-water mark is set back, and two
steps are made: the first makes the gradients and the optimizer's state, the second has them. The
peak is what both took beyond the model (VmHWM - VmRSS).

glibc is told to give freed memory back at once. By default it keeps some of it, by rules that
depend on the order of what was freed: the same joint step with ESPnet's extractor then peaks at
2.9 GB in most processes and at 4.2 GB in others, while its tensors need 2.0. What is measured is
what the tensors need; a training takes more, by an amount that is the allocator's.
"""

import ctypes
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Fixed, they no longer grow with what is freed; see mallopt(3).
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peak_memory(module, case, side):
    """Bytes.

    Args:
        module: dotted name of one with ``cases()``; case: a `Case` of it; side: ours or theirs.
    """
    environment = os.environ | ALLOCATOR
    environment |= {"OMP_NUM_THREADS": str(case.threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench.memory", module, case.name, side]
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_of(step, status="/proc/self/status", clear="/proc/self/clear_refs"):
    """Bytes that two steps of this process take beyond what it has now."""
    # What building has freed but the allocator still holds would hide as much of the peak.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path(clear).write_text("5")  # VmHWM = VmRSS; see proc(5)
    base = read_kib(status, "VmRSS")
    step()
    step()
    return 1024 * (read_kib(status, "VmHWM") - base)


def read_kib(status, name):
    """One line of /proc/PID/status, in KiB."""
    for line in Path(status).read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise KeyError(f"{status} has no {name}")


def main():
    """Print the bytes as the last line."""
    import torch

    module, name, side = sys.argv[1:]
    (case,) = (c for c in importlib.import_module(module).cases() if c.name == name)
    torch.set_num_threads(case.threads)
    print(json.dumps(peak_of(getattr(case, side)())))


if __name__ == "__main__":
    main()
