"""What the job of a step runs: ``step_job [--writes PATTERNS] DIR NAME IS_TRAINING COMMAND...``.

Runs COMMAND and, when it succeeds, marks the step as done (see `marks`). While it runs,
``DIR/.job[.NAME]`` says where: a job whose submitter has gone (its machine went down) and one that
is submitted after it never work on the same directory.

Imports nothing outside the standard library: a job is to lose no time.
"""

import os
import signal
import sys

from espnet_tse_ser.errors import UserError, explain
from espnet_tse_ser.jobs import locks
from espnet_tse_ser.jobs.lifetime import identity, is_gone
from espnet_tse_ser.jobs.marks import Marks

# How long to wait for another job: what was killed or cancelled just now needs a while to end.
SECONDS = 60


def main(argv):
    """Do the step and return its exit status, that of a shell if a signal ended the command."""
    argv, patterns = list(argv), ""
    if argv[0] == "--writes":
        patterns = argv[1]
        del argv[:2]
    directory, name, is_training, *command = argv
    marks = Marks(directory, name)
    file = marks.path("job")
    try:
        _take(file, directory)
        try:
            if not os.path.isfile(marks.path("begun")):
                raise UserError(f"{directory}: has no .begun: run the recipe's script")
            status = _run(command)
        finally:
            locks.release(file)
        if status == 0:
            marks.finish(patterns, is_training == "true")
    except (UserError, OSError) as error:
        trouble = isinstance(error, OSError) and explain(error) or error
        print(f"step_job: {trouble}", file=sys.stderr)
        return 1
    return status


def _take(file, directory):
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    if array:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"

    def tell(other):
        print(f"step_job: {directory}: {other} still works on it; waiting", flush=True)

    content = f"{identity()}|{job}\n"
    other = locks.take(file, content, lambda found: _worker(found, job), SECONDS, tell)
    if other is not None:
        raise UserError(
            f"{directory}: {other} still works on it; wait for it or stop it; if it has ended, "
            f"remove {file}"
        )


def _worker(content, mine):
    """Who still works on a directory whose ``.job`` has this content; None if nobody does."""
    process, _, job = content.partition("\n")[0].partition("|")
    if not job:
        if not process or is_gone(process):
            return None
        return f"process {process} (host, pid, start)"
    if job == mine:
        return None
    said = _ask_slurm(job)
    return said and f"Slurm job {job} (scancel {job}; squeue says: {said})"


def _ask_slurm(job):
    """What squeue says of a job; None if it says that there is none."""
    import subprocess  # takes a while

    words = ["squeue", "--noheader", f"--jobs={job}", "--format=state %T"]
    try:
        answer = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        return f"{error.strerror}"
    said = answer.stdout.decode(errors="replace").strip()
    if answer.returncode == 0:  # a cluster may print more, such as a greeting
        said = "\n".join(line for line in said.split("\n") if line.startswith("state "))
    elif "Invalid job id" in said:
        said = ""
    return said or None


def _run(command):
    """Run a command as a child, which gets the signals that its group gets; this only waits."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:  # then the command is to ignore it too
            signal.signal(number, lambda number, frame: None)
    os.write(1, os.fsencode(f"# {' '.join(command)}\n"))
    ignored_by_python = (signal.SIGPIPE, signal.SIGXFSZ)
    pid = os.posix_spawnp(command[0], command, os.environ, setsigdef=ignored_by_python)
    _, status = os.waitpid(pid, 0)
    for number in numbers:  # none is to change the status, not even while Python ends
        signal.signal(number, signal.SIG_IGN)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
