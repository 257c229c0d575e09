"""Slurm's command line clients, and what to do while the controller does not answer them.

A cluster may have its clients print more than they are asked for (a greeting, a quota): of what
they print only lines of the expected form count.
"""

import re
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
# What sbatch prints of a job, asked for it shortly (--parsable) or not.
_SUBMITTED = re.compile(r"(?:Submitted batch job )?(\d+)(?:;\S*| on cluster \S+)?")
# A task as `task_states`, one as `accounted_states` and a job as `jobs_of` ask for it.
_TASK = re.compile(r"(\d+)\|([^|]*)\|([A-Z_]+)\|(.*)")
_ACCOUNTED = re.compile(r"(\d+)(?:_(\d+))?\|([A-Z_]+).*")
_JOB = re.compile(r"(\d+)\|(.*)")
_HEADER = "ARRAY_JOB_ID|"  # of squeue's answer to the first and the last of these
# How long the controller may be away, and the longest pause between two tries, in seconds.
OUTAGE_SECONDS, LONGEST_PAUSE = 3600.0, 60.0


class AwayError(WrapperError):
    """The controller does not answer."""


class UntrackedError(WrapperError):
    """A job may have been submitted, but it is not known which."""


def call(words):
    """Run a client and return what it prints.

    Raises:
        AwayError: the controller does not answer. WrapperError: it refuses, or there is no client.
    """
    try:
        # A session of its own: Ctrl-C must not end sbatch between the submission and its answer.
        result = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", start_new_session=True
        )
    except OSError as error:
        raise WrapperError(f"{words[0]}: cannot be run ({error.strerror})") from None
    if result.returncode == 0:
        return result.stdout
    said = "; ".join(result.stderr.split("\n")).strip("; ") or f"status {result.returncode}"
    kind = AwayError if any(word in result.stderr for word in _AWAY) else WrapperError
    raise kind(f"{words[0]}: {said.replace(f'{words[0]}: error: ', '')}")


def submit(words, script):
    """Submit a script by the words of ``sbatch ...`` and return the job's number.

    Raises:
        UntrackedError: nothing tells the number. AwayError, WrapperError: as `call`.
    """
    answer = call([*words, script])
    numbers = {number for (number,) in _matches(_SUBMITTED, answer)}
    if len(numbers) != 1:
        numbers = set(jobs_of(script, ended=True))
    if len(numbers) != 1:
        raise UntrackedError(f"{words[0]}: answers {_shortened(answer)}, no job's number")
    return numbers.pop()


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

    In one call. Jobs that Slurm keeps no record of are not in it.
    """
    try:
        found = _squeue(
            ["--array", "--states=all", f"--jobs={','.join(sorted(jobs))}"], "%F|%K|%T|%r", _TASK
        )
    except AwayError:
        raise
    except WrapperError as error:
        if "Invalid job id" in str(error):
            return {}
        raise AwayError(str(error)) from None  # whatever it is, the tasks may be running
    return {
        (job, int(index) if index.isdecimal() else None): (state, reason)
        for job, index, state, reason in found
    }


def accounted_states(jobs):
    """What the accounting database says, like `task_states`; nothing where there is none."""
    try:
        text = call(
            ["sacct", "--noheader", "--allocations", "--parsable2", "--array"]
            + [f"--jobs={','.join(sorted(jobs))}", "--format=JobID,State"]
        )
    except WrapperError:
        return {}
    # the state may be "CANCELLED by 1000"
    return {
        (job, int(index) if index else None): (state, "None")
        for job, index, state in _matches(_ACCOUNTED, text)
    }


def jobs_of(script_prefix, ended=False):
    """Ids of this user's jobs whose script's path starts so: all that wait or run.

    With ``ended`` also those that have ended and are still on record.
    """
    states = ["--states=all"] if ended else []
    try:
        found = _squeue(["--me", *states], "%F|%o", _JOB)
    except WrapperError as error:
        raise AwayError(str(error)) from None  # whatever it is, they may be running
    return sorted({job for job, script in found if script.startswith(script_prefix)})


def largest_array_index():
    """The largest index of an array's task that the cluster takes; None if it does not say."""
    try:
        settings = call(["scontrol", "show", "config"])
    except WrapperError:
        return None
    size = re.search(r"^\s*MaxArraySize\s*=\s*(\d+)", settings, re.MULTILINE)
    return int(size[1]) - 1 if size else None


def _squeue(words, fields, pattern):
    """What squeue says, as tuples of the groups of ``pattern``.

    Raises:
        AwayError: it says something else. No line is an answer: nothing waits or runs.
    """
    text = call(["squeue", *words, f"--format={fields}"])
    found = _matches(pattern, text)
    if not found and text.strip() and _HEADER not in text:
        raise AwayError(f"squeue: answers {_shortened(text)}, which says nothing of jobs")
    return found


def _matches(pattern, text):
    matches = (pattern.fullmatch(line.strip()) for line in text.splitlines())
    return [match.groups() for match in matches if match]


def _shortened(text):
    lines = text.strip().split("\n")
    return repr(lines[0][:80]) + (", ..." if len(lines) > 1 else "")
