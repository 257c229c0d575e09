"""Process groups: what a recipe runs is ended whole, whatever it has started.

Imports nothing outside the standard library.
"""

import os
import signal
import time

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs.lifetime import RECIPE

STOP = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# How long a group may take to end; what is cancelled on a cluster takes its time.
END_SECONDS = 120


class Stopped(Exception):
    """A signal asked to end, or nobody waits any more."""


class Waiter:
    """Waits for the commands that it runs, and ends them when it is asked to end.

    Args:
        parent: id of the process that waits for this one, its parent. mark: the value of `RECIPE`
            for what is run, by which `end_rest` finds it.
    """

    def __init__(self, parent, mark):
        self._parent = parent
        self._environment = {**os.environ, RECIPE: mark}
        # They wait until `pause` takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP, signal.SIGCHLD})

    def run(self, words, started):
        """Run a command as the leader of a process group, and return its exit status.

        ``started`` is called with the group's number. A command that ends takes with it what it
        has left in the group.

        Raises:
            Stopped: asked to, with the command ended. OSError: it cannot be run.
        """
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        pid = os.posix_spawnp(
            words[0],
            words,
            self._environment,
            file_actions=[nothing],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
        )
        end = None
        try:
            started(pid)
            # Not waited for before its group is ended: the number must not become another's.
            while end is None:
                end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if end is None:
                    self.pause(0.5)
        finally:
            end_group(pid, child=pid)
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    def pause(self, seconds):
        """Wait until a child ends, ``seconds`` at most.

        Raises:
            Stopped: a signal asked to, or the parent is gone.
        """
        if os.getppid() != self._parent:
            raise Stopped
        caught = signal.sigtimedwait({*STOP, signal.SIGCHLD}, seconds)
        if caught is not None and caught.si_signo != signal.SIGCHLD:
            raise Stopped


def end_group(group, child=None):
    """Ask what is left of a process group to end, and wait until it has.

    Args:
        child: the id of its leader if that is this process' child, to wait for.

    Raises:
        UserError: it does not end.
    """
    end = time.monotonic() + END_SECONDS
    number = signal.SIGTERM
    while _send(group, number):
        if time.monotonic() > end:
            raise UserError(
                f"processes of group {group} do not end; end them by: kill -KILL -- -{group}"
            )
        number = 0
        if child is not None and os.waitpid(child, os.WNOHANG) != (0, 0):
            child = None
        else:
            time.sleep(0.02)


def end_rest(group, mark):
    """End a group if something in it was started by the recipe with this mark.

    A group's number may be another's by now.
    """
    wanted = f"{RECIPE}={mark}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getpgid(int(pid)) != group:
                continue
            with open(f"/proc/{pid}/environ", "rb") as stream:
                is_marked = wanted in stream.read().split(b"\0")
        except OSError:  # it has gone, or is another user's
            continue
        if is_marked:
            end_group(group)
            return


def _send(group, number):
    """Send a signal to a group; whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
