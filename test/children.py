"""Functions of test modules that are called in processes of their own."""

import multiprocessing
import os
import signal
import sys

# What most of them need; imported once, in the server that they come from.
PRELOADED = ["pytest", "torch._dynamo", "espnet_tse_ser.bin", "espnet_tse_ser.tasks.tse_ser"]


def use_a_server():
    """Let all processes come from a server, as trainings and Python 3.14 do."""
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(PRELOADED)


def refuse_forks_with_threads():
    """Let a fork of this process be an error where it has threads; Python only warns."""
    fork = os.fork

    def checked():
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(f"a fork of a process with {threads} threads may wait for ever")
        return fork()

    os.fork = checked


def start(function, *args, **keywords):
    """Start ``function(*args, **keywords)``, all of which is sent there; returns the process.

    It is the first of a process group and ends with the status that the function returns, or 0.
    """
    process = multiprocessing.Process(target=_call, args=(function, args, keywords))
    process.start()
    return process


def end(process, seconds=60):
    """The exit status of a process, or None if it does not end."""
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        return None
    return process.exitcode


def _call(function, args, keywords):
    os.setpgid(0, 0)
    refuse_forks_with_threads()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a server of workers blocks some
    sys.exit(function(*args, **keywords))
