"""Slurm's command line clients, and what to do while the controller does not answer them."""

import subprocess
import time

from espnet_tse_ser.jobs.command_line import WrapperError

# Words of the clients when the controller, not the request, is the trouble.
_AWAY = (
    *("Unable to contact slurm controller", "Socket timed out", "Connection refused"),
    *("Connection reset", "Connection timed out", "Communication connection failure"),
    *("Zero Bytes were transmitted", "Transport endpoint", "temporarily unable to accept"),
    *("temporarily unavailable", "Invalid authentication credential", "Munge encode failed"),
    *("Protocol authentication error", "Message receive failure"),
)
# How long the controller may be away, and the longest pause between two tries, in seconds.
OUTAGE_SECONDS, LONGEST_PAUSE = 3600.0, 60.0


class AwayError(WrapperError):
    """The controller does not answer."""


def call(words):
    """Run a client and return what it prints.

    Raises:
        AwayError: the controller does not answer. WrapperError: it refuses, or there is no client.
    """
    try:
        # A session of its own: Ctrl-C must not end sbatch between the submission and its answer.
        result = subprocess.run(words, capture_output=True, text=True, start_new_session=True)
    except OSError as error:
        raise WrapperError(f"{words[0]}: cannot be run ({error.strerror})") from None
    if result.returncode == 0:
        return result.stdout
    said = "; ".join(result.stderr.split("\n")).strip("; ") or f"status {result.returncode}"
    kind = AwayError if any(word in result.stderr for word in _AWAY) else WrapperError
    raise kind(f"{words[0]}: {said.replace(f'{words[0]}: error: ', '')}")


class Patience:
    """Patience with a controller that is away: a line and a longer pause for each failure.

    Args:
        tell: called with a text. is_over: ends every wait when it returns true.
    """

    def __init__(self, tell, is_over=lambda: False):
        self.tell = tell
        self.is_over = is_over
        self.since = None
        self.pause = 1.0

    def ok(self):
        """The controller has answered."""
        if self.since is not None:
            self.tell("Slurm answers again")
        self.since, self.pause = None, 1.0

    def wait(self, error):
        """It has not: wait a while.

        Raises:
            WrapperError: it has been away for `OUTAGE_SECONDS`.
        """
        now = time.monotonic()
        self.since = self.since or now
        if now - self.since > OUTAGE_SECONDS:
            raise WrapperError(f"{error}; given up after {OUTAGE_SECONDS:.0f} s") from None
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        self.tell(f"{error}; asking again in {self.pause:.0f} s")
        while time.monotonic() - now < self.pause and not self.is_over():
            time.sleep(0.2)

    def until_answered(self, request):
        """Return ``request()``, asked again while the controller is away; None when over."""
        while not self.is_over():
            try:
                answer = request()
            except AwayError as error:
                self.wait(error)
            else:
                self.ok()
                return answer
        return None


def task_states(jobs):
    """Return {(job id, task index or None): (state, reason)} of all tasks of ``jobs``.

    In one call. Jobs that Slurm has forgotten are not in it.
    """
    try:
        text = call(
            ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(sorted(jobs))}"]
            + ["--format=%F|%K|%T|%r"]
        )
    except AwayError:
        raise
    except WrapperError as error:
        if "Invalid job id" in str(error):
            return {}
        raise AwayError(str(error)) from None  # whatever it is, the tasks may be running
    states = {}
    for line in text.splitlines():
        job, index, state, reason = line.split("|", 3)
        states[job, int(index) if index.isdigit() else None] = (state, reason)
    return states


def accounted_states(jobs):
    """What the accounting database says, like `task_states`; nothing where there is none."""
    try:
        text = call(
            ["sacct", "--noheader", "--allocations", "--parsable2", "--array"]
            + [f"--jobs={','.join(sorted(jobs))}", "--format=JobID,State"]
        )
    except WrapperError:
        return {}
    states = {}
    for line in text.splitlines():
        task, state = line.split("|")
        job, _, index = task.partition("_")
        # "CANCELLED by 1000"
        states[job, int(index) if index.isdigit() else None] = (state.split()[0], "None")
    return states


def jobs_of(script_prefix, ended=False):
    """Ids of this user's jobs whose script's path starts so: all that wait or run.

    With ``ended`` also those that have ended and that Slurm remembers.
    """
    states = ["--states=all"] if ended else []
    try:
        lines = call(["squeue", "--noheader", "--me", "--format=%F|%o", *states]).splitlines()
    except WrapperError as error:
        raise AwayError(str(error)) from None  # whatever it is, they may be running
    pairs = (line.split("|", 1) for line in lines)
    return sorted({job for job, script in pairs if script.startswith(script_prefix)})


def largest_array_index():
    """The largest index of an array's task that the cluster takes."""
    settings = call(["scontrol", "show", "config"])
    size = next(line.split("=")[1] for line in settings.splitlines() if "MaxArraySize" in line)
    return int(size) - 1
