"""Running a command in a process forked from one that has imported everything.

A fork takes milliseconds and keeps what a case does to itself: global state, threads, crashes.
"""

import faulthandler
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass

HANG_SECONDS = 10.0  # of CPU (a busy machine is no hang), or without anybody using any
LONGEST = 120.0  # seconds that a case may take at all
MEMORY = (
    6 * 2**30
)  # bytes above what the parent has; what needs more is a failure, not a dead machine


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit status (negative: a signal), its output, and how long it took.

    ``hung`` when it was ended from outside; ``err`` then has the stacks of its threads. ``cpu`` is
    in seconds, as ``seconds``.
    """

    status: int
    out: str
    err: str
    seconds: float
    cpu: float
    hung: bool


def run_forked(function, scratch, cwd, stdin=""):
    """Call ``function()``, which returns an exit status, in a fork of this process.

    Args:
        scratch: directory for its output. cwd: its working directory. stdin: text.
    """
    out, err = scratch / "stdout", scratch / "stderr"
    (scratch / "stdin").write_text(stdin)
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _be_child(function, scratch, cwd)
    hung = not _wait(pid, start)
    if hung:
        os.kill(pid, signal.SIGUSR2)  # the stacks
        time.sleep(0.2)
    try:
        os.killpg(pid, signal.SIGKILL)  # also what it has started
    except ProcessLookupError:
        pass
    _, status, used = os.wait4(pid, 0)
    status = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - start
    texts = [path.read_bytes().decode(errors="replace") for path in (out, err)]
    return Ending(status, *texts, seconds, used.ru_utime + used.ru_stime, hung)


def _be_child(function, scratch, cwd):
    status = 1
    try:
        os.setsid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            descriptor = os.open(scratch / name, flags if number else os.O_RDONLY, 0o600)
            os.dup2(descriptor, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)
        os.chdir(cwd)
        faulthandler.enable(2)
        faulthandler.register(signal.SIGUSR2, 2, all_threads=True)
        with open("/proc/self/statm") as stream:
            size = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30,) * 2)
        warnings.simplefilter("always", RuntimeWarning)
        status = function()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status & 0xFF)


def _wait(pid, start):
    """Whether a process ends by itself; it stays to be waited for."""
    descriptor = os.pidfd_open(pid)
    used, since = 0.0, start  # of CPU, and when that was less
    try:
        while not select.select([descriptor], [], [], 1.0)[0]:
            now, cpu = time.monotonic(), _cpu_seconds(pid)
            of_all = sum(map(_cpu_seconds, _session(pid)))
            used, since = (of_all, now) if of_all > used else (used, since)
            if max(cpu, now - since) > HANG_SECONDS or now - start > LONGEST:
                return False
        return True
    finally:
        os.close(descriptor)


def _session(pid):
    """The processes of the session that a process leads: those it has started, too."""
    return [n for n in map(int, filter(str.isdigit, os.listdir("/proc"))) if _stat(n)[3:4] == [pid]]


def _cpu_seconds(pid):
    return sum(_stat(pid)[11:15]) / os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """Fields of a process from the third on: its state as 0, then numbers; none if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return [0, *map(int, stream.read().rpartition(")")[2].split()[1:])]
    except (FileNotFoundError, ProcessLookupError):
        return []
