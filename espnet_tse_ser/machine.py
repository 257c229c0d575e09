"""What a command computes on, and that signals do not disturb it.

`add_options` gives commands that run a trained extractor or recogniser ``--device`` and
``--num_threads``.
"""

import faulthandler
import os
import signal

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.numbers import Number

_THREADS = Number(1, 1024, whole=True)


def add_options(parser):
    """Add ``--device`` and ``--num_threads`` to a parser; `set_up` takes what they hold."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument(
        "--num_threads",
        type=_THREADS.option,
        help="threads on the CPU (default: OMP_NUM_THREADS, else the cores this job may use, "
        "shared by the --nj jobs of a command that has them)",
    )


def set_up(args, jobs=1):
    """Use the threads that are asked for, and find the device.

    Args:
        args: with the values of `add_options`. jobs: that share this machine's cores.

    Returns:
        `torch.device`.

    Raises:
        UserError: a device that is not there.
    """
    threads = default_threads(jobs) if args.num_threads is None else args.num_threads
    import torch

    torch.set_num_threads(threads)
    survive_signals()
    return _find_device(args.device)


def survive_signals():
    """Keep signals from spoiling what PyTorch computes; to be called by the main thread, early.

    While oneDNN multiplies or convolves in float32 (oneDNN issue 4845, repaired after torch 2.11),
    its stack pointer may lie in the heap: the handler of a signal would write there, and the
    process abort, or go on with wrong numbers. So this thread gets another stack for handlers,
    that of `faulthandler`, and the threads of PyTorch, which are started here, get no signals.
    """
    import torch

    if not faulthandler.is_enabled():
        faulthandler.enable(2)  # stderr's number: what stands for it may have none
    crashes = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - crashes)
    try:
        torch.ones(2**20).add_(1.0)  # large enough for all threads
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def default_threads(jobs=1):
    """``OMP_NUM_THREADS`` if it is set, else this job's part of the cores it may use.

    Those are the cores of the affinity mask (``taskset``, a Slurm job in a cgroup), no more than
    ``SLURM_CPUS_PER_TASK``.
    """
    threads = _environment_number("OMP_NUM_THREADS")
    if threads is not None:
        return threads
    cores = len(os.sched_getaffinity(0))
    slurm = _environment_number("SLURM_CPUS_PER_TASK")
    return max(1, min(cores, slurm or cores) // max(1, jobs))


def _environment_number(name):
    from espnet_tse_ser.values.kinds import check_option  # no help needs it, and it takes a while

    value = os.environ.get(name, "")
    first = value.partition(",")[0]  # OpenMP's form for nested regions is 4,2
    return check_option(first, _THREADS, f"{name} is '{value}'") if value else None


def _find_device(name):
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: is none; give cpu, cuda or cuda:<number>")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UserError(f"--device {name}: no GPU can be used here; give --device cpu")
        if (device.index or 0) >= count:
            last = f"cuda:{count - 1}"
            raise UserError(f"--device {name}: there are {count} GPUs; the last one is {last}")
    return device


def check_gpus(count, where):
    """Raise `UserError` unless this machine has ``count`` GPUs."""
    if count == 0:
        return
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count > found:
        raise UserError(
            f"{where}: {count} GPU(s) are asked for, {found} can be used here; give less"
        )
