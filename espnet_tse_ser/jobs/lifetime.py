"""Jobs of this machine end with those who wait for them.

A wrapper ends its jobs when it is interrupted. Two deaths leave it no time for that: its own by
SIGKILL, which a `Guardian` sees, and that of the recipe that called it, which `recipe_is_gone`
tells. Imports nothing outside the standard library.
"""

import contextlib
import os
import signal
import sys

# "PID START" (see `start_of`) of who called the wrapper, in its environment.
RECIPE = "RECIPE_PROCESS"
# The wrappers above a process, outermost first, in its environment.
MARKS = "JOB_WRAPPERS"
# The name of a guardian's process.
GUARDIAN = "job-guardian"


def start_of(pid):
    """When a process started, in clock ticks since boot, or None where there is none.

    With it a process id names one process for ever, though ids are used again.
    """
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()  # from the third on
    except (OSError, ValueError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def identity(pid=None):
    """A process of this machine (this one) as "HOST PID START", by which others know whether it is
    still there."""
    pid = os.getpid() if pid is None else pid
    return f"{os.uname().nodename} {pid} {start_of(pid)}"


def is_gone(process):
    """Whether "HOST PID START" was a process of this machine and has ended.

    What runs on another machine cannot be seen and is not gone, whatever else the text may say.
    """
    host, pid, start = [*process.split(), "", "", ""][:3]
    return host == os.uname().nodename and start_of(pid) != start


def recipe_is_gone():
    """Whether a recipe called this wrapper and has ended since."""
    pid, _, start = os.environ.get(RECIPE, "").partition(" ")
    return bool(start) and start_of(pid) != start


class Guardian:
    """A process that calls ``clean_up`` if this one ends without `dismiss`, e.g. by SIGKILL."""

    def __init__(self, clean_up):
        reading, self._writing = os.pipe()  # not inherited by what this process executes
        self._pid = os.fork()
        if self._pid:
            os.close(reading)
            return
        status = 1
        try:
            os.close(self._writing)
            os.setsid()  # what is sent to the wrapper's process group must not end it
            with open("/proc/self/comm", "w") as stream:  # nor the guardian of a wrapper above
                stream.write(GUARDIAN)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # A reader of the wrapper's output must not wait for the guardian.
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            if not os.read(reading, 1):
                clean_up()
            status = 0
        finally:
            os._exit(status)

    def dismiss(self):
        """Let the guardian go: there is nothing left to clean up."""
        with contextlib.suppress(OSError):
            os.write(self._writing, b".")
        os.close(self._writing)
        os.waitpid(self._pid, 0)


def marked(mark):
    """Environment for what a wrapper starts, by which `kill_marked` finds it and all below it."""
    return {MARKS: f"{os.environ.get(MARKS, '')}:{mark}"}


def kill_marked(mark):
    """Kill every process with ``mark`` in its environment, until none is left."""
    name, wanted = f"{MARKS}=".encode(), mark.encode()
    found = True
    while found:
        found = False
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as stream:
                    variables = stream.read().split(b"\0")
                with open(f"/proc/{pid}/comm") as stream:
                    guardian = stream.read().strip() == GUARDIAN
            except OSError:  # it has gone, or is another user's
                continue
            marks = next((v.split(b":") for v in variables if v.startswith(name)), ())
            if wanted in marks and not guardian:  # that one cleans up by itself, and ends
                found = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def on_stop_signals(handler):
    """Have ``handler(number, frame)`` called on Ctrl-C, TERM and HUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def warn(name, text):
    """One line on stderr that names the wrapper."""
    print(f"{name}: {text}", file=sys.stderr, flush=True)
