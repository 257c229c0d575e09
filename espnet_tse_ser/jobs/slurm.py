"""Run an array of jobs on a Slurm cluster: the working half of slurm.pl.

A task ends by leaving an empty file ``INDEX.ATTEMPT.STATUS`` (see slurm_job.sh), so its exit status
comes from itself. Slurm is asked, in one call for all tasks, what has become of those that left
none and why others failed; no accounting database is needed.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path

from espnet_tse_ser.jobs import slurm_client as slurm
from espnet_tse_ser.jobs.command_line import (
    WrapperError,
    number_option,
    parse_command_line,
)
from espnet_tse_ser.jobs.lifetime import Guardian, on_stop_signals, recipe_is_gone, warn
from espnet_tse_ser.jobs.logs import report_failures, shorten, tail
from espnet_tse_ser.jobs.slurm_conf import SlurmConf
from espnet_tse_ser.jobs.slurm_fate import OPEN, SAVED, judge

CONFIG = "conf/slurm.conf"
# Seconds between two questions to Slurm, and between two looks for status files.
ASK_SECONDS = 4.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
# How long the status file of a task that has ended may take to be seen (network file systems).
VISIBLE_SECONDS = 15.0
# How long cancelled tasks may take to end: Slurm's KillWait is 30 s.
CANCEL_SECONDS = 90.0

# How many failures are told at once; the others are told at the end.
TOLD_AT_ONCE = 5

# Reasons to wait that need no word.
_USUAL = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Cleaning"}


def main(argv, name):
    """Run a wrapper's command line and return its exit status.

    0 only if every task's was, 1 after a failure or a wrong command line (nothing is submitted
    then), 128 + signal when interrupted, after the tasks are cancelled.
    """
    try:
        array = parse_command_line(argv)
        run = _Run(array, name)
    except WrapperError as error:
        warn(name, error)
        return 1
    on_stop_signals(run.stop)
    guardian = Guardian(run.clean_up)
    try:
        run.submit(array.indices)
        reasons = run.wait()
        if run.stopped_by:
            warn(name, f"interrupted; cancelling its tasks; log is in {array.logs_pattern()}")
            run.cancel()
            return 128 + run.stopped_by
    except WrapperError as error:
        warn(name, error)
        run.cancel()
        return 1
    except BaseException:
        run.cancel()
        raise
    else:
        if reasons:
            report_failures(name, array, reasons)
            run.show_slurms_words(reasons)
            return 1
        return 0
    finally:
        guardian.dismiss()
        run.remove_files()


class _Run:
    """The tasks of one command line, from their submission to their end."""

    def __init__(self, array, name):
        self.array = array
        self.name = name
        self.stopped_by = None
        self.signals = 0
        self.submitting = False  # whether there may be anything to cancel
        self.conf = SlurmConf(array.options.get("config", CONFIG))
        self.words = self.conf.submission(array.options)
        self.retries = number_option(array.options, "retries") or 0
        self.limit = number_option(array.options, "max_jobs_run", lowest=1)
        for program in (self.words[0], "squeue", "scancel"):
            if shutil.which(program) is None:
                raise WrapperError(
                    f"{program} is not installed here: submit from a login node of the cluster, or "
                    "run on this machine (cmd_backend=local in cmd.sh)"
                )
        self.patience = slurm.Patience(lambda text: warn(name, text), lambda: self.stopped)
        log = Path(array.log).absolute()
        # The tasks are found by their script, <base>.<attempt>.sh.
        self.base = log.parent / "q" / f"{log.name}.{uuid.uuid4().hex[:8]}"
        self.statuses = Path(f"{self.base}.status")
        self.output = Path(f"{self.base}.out")
        try:
            self.statuses.mkdir(parents=True)
        except OSError as error:
            raise WrapperError(
                f"{self.statuses}: cannot be made ({error.strerror}); make room, or choose "
                "another place for the log"
            ) from None
        self.attempts = {}  # attempt -> job id
        self.attempt_of = {}  # index -> its attempt
        self.losses = dict.fromkeys(array.indices, 0)  # index -> how often the cluster lost it
        self.gone = {}  # index -> since when Slurm says that it ended, though it left no status
        self.told = set()  # reasons to wait that were told

    @property
    def stopped(self):
        if not self.stopped_by and recipe_is_gone():
            self.stopped_by = signal.SIGHUP
        return bool(self.stopped_by)

    def stop(self, number, _frame):
        """Signal handler: wait no longer; `main` cancels what was submitted."""
        self.signals += 1
        self.stopped_by = self.stopped_by or number

    # --- submission ---------------------------------------------------------------------------

    def submit(self, indices):
        """Submit ``indices`` together, as the next attempt of each.

        Raises:
            WrapperError: sbatch refuses, or the controller is away for too long.
        """
        attempt = len(self.attempts) + 1
        script = f"{self.base}.{attempt}.sh"
        self._write(script, attempt)
        words = [self.words[0], "--no-requeue", *self.words[1:], "--parsable"]
        words += [f"--output={str(self.output).replace('%', '%%')}", "--open-mode=append"]
        if self.array.name:
            limit = f"%{self.limit}" if self.limit else ""
            words.append(f"--array={shorten(sorted(indices))}{limit}")
        tries = 0
        self.submitting = True

        def request():
            nonlocal tries
            tries += 1
            # the answer to the last try may have been lost, not the submission
            submitted = slurm.jobs_of(script, ended=True) if tries > 1 else []
            return submitted[0] if submitted else slurm.submit(words, script)

        try:
            job = self.patience.until_answered(request)
        except slurm.UntrackedError as error:
            self.cancel(script)
            raise WrapperError(
                f"{error}; what it has submitted is cancelled (look at squeue --me); if it is a "
                f"script of this cluster's, give the real one after 'command' in {self.conf.path}"
            ) from None
        except WrapperError as error:
            raise WrapperError(self._explain(error, words)) from None
        self.attempts[attempt] = job
        self.attempt_of |= dict.fromkeys(indices, attempt)

    def _explain(self, error, words):
        if "Invalid job array specification" in str(error):
            largest = slurm.largest_array_index()
            if largest is not None and self.array.last > largest:
                return (
                    f"{self.array.name}={self.array.first}:{self.array.last}: this cluster takes "
                    f"task numbers up to {largest} (MaxArraySize); use fewer jobs, e.g. --nj "
                    f"{largest}; nothing was submitted"
                )
        return f"{error}; nothing was submitted by: {shlex.join(words)}"

    def _write(self, script, attempt):
        settings = {
            "name": self.array.name or "",
            "first": self.array.first,
            "command": self.array.template(),
            "log": self.array.log,
            "attempt": attempt,
            "statuses": self.statuses,
            "directory": os.getcwd(),
        }
        lines = [f"{key}={shlex.quote(str(value))}" for key, value in settings.items()]
        body = Path(__file__).with_name("slurm_job.sh").read_text(encoding="utf-8")
        text = "\n".join(["#!/usr/bin/env bash", *lines, "", body])
        try:
            Path(script).write_text(text, encoding="utf-8")
        except OSError as error:
            raise WrapperError(f"{script}: cannot be written ({error.strerror})") from None

    # --- waiting ------------------------------------------------------------------------------

    def wait(self):
        """Wait for all tasks, run lost ones again, and return {index: reason} of the failed."""
        reasons = {}
        waiting = set(self.array.indices)
        asked, pause = time.monotonic(), SHORTEST_PAUSE
        while not self.stopped:
            statuses = self._read_statuses()
            done = {index for index in waiting if statuses.get(index) == 0}
            waiting -= done
            if not waiting:
                break
            if time.monotonic() - asked >= ASK_SECONDS:
                ended = self._find_ended(waiting)
                asked = time.monotonic()
                again = {i for i, end in ended.items() if self._is_to_run_again(i, *end, reasons)}
                try:
                    if again:
                        self.submit(again)
                except WrapperError as error:  # the others go on
                    reasons |= dict.fromkeys(again, f"cannot be submitted again ({error})")
                    again = set()
                waiting -= ended.keys() - again
            pause = SHORTEST_PAUSE if done else min(1.5 * pause, LONGEST_PAUSE)
            time.sleep(pause)
        return reasons

    def _find_ended(self, waiting):
        """{index: (exit status or None, state)} of the tasks of which Slurm says that they ended.

        One that left no status is given `VISIBLE_SECONDS` for it to be seen.
        """
        states = self._ask(waiting)
        if states is None:
            return {}
        statuses = self._read_statuses()  # not older than what Slurm said
        now = time.monotonic()
        ended = {}
        for index in sorted(waiting):
            if states.get(index) in OPEN:
                self.gone.pop(index, None)
                continue
            since = self.gone.setdefault(index, now)
            if index in statuses or now - since > VISIBLE_SECONDS:
                del self.gone[index]
                ended[index] = (statuses.get(index), states.get(index))
        return ended

    def _is_to_run_again(self, index, status, state, reasons):
        """Decide about a task that has ended; one that is not to run again may get a reason."""
        fate, reason = judge(status, state)
        if fate == "saved":
            warn(self.name, f"task {index}: {reason}; submitting it again")
            return True
        if fate == "lost" and self.losses[index] < self.retries:
            self.losses[index] += 1
            count = f"retry {self.losses[index]} of {self.retries}"
            warn(self.name, f"task {index}: {reason}; submitting it again ({count})")
            return True
        if fate == "lost" and self.retries:
            reason += f", {self.retries} times submitted again"
        if fate != "done":
            reasons[index] = reason
            if len(reasons) <= TOLD_AT_ONCE:
                warn(self.name, f"task {index}: {reason}, log is in {self.array.log_of(index)}")
        return False

    def _read_statuses(self):
        """{index: exit status} of the tasks whose present attempt has ended."""
        statuses = {}
        for entry in os.listdir(self.statuses):
            if re.fullmatch(rf"\d+\.\d+\.(\d+|{SAVED})", entry):
                index, attempt, status = entry.split(".")
                if self.attempt_of.get(int(index)) == int(attempt):
                    statuses[int(index)] = status if status == SAVED else int(status)
        return statuses

    def _ask(self, waiting):
        """{index: state} of the tasks that are on record at Slurm; None when it does not answer."""
        jobs = {self.attempts[self.attempt_of[index]] for index in waiting}
        try:
            states = slurm.task_states(jobs)
        except slurm.AwayError as error:
            self.patience.wait(error)
            return None
        self.patience.ok()
        # A client of a network file system looks at a directory anew when it has changed it.
        with contextlib.suppress(OSError):
            os.utime(self.statuses)
        array = self.array.name
        tasks = {i: (self.attempts[self.attempt_of[i]], i if array else None) for i in waiting}
        if any(task not in states for task in tasks.values()):
            # Slurm itself keeps a record of what has ended for some minutes only
            states = slurm.accounted_states(jobs) | states
        found = {}
        for index, task in tasks.items():
            if task in states:
                found[index], reason = states[task]
                self._tell_why_it_waits(index, found[index], reason)
        return found

    def _tell_why_it_waits(self, index, state, reason):
        if state == "PENDING" and reason not in _USUAL and reason not in self.told:
            self.told.add(reason)
            task = f"task {index}" if self.array.name else "the job"
            warn(self.name, f"{task} waits, for ever perhaps: Slurm says {reason}; see squeue")

    # --- the end ------------------------------------------------------------------------------

    def cancel(self, scripts=None):
        """Cancel whatever was submitted, and wait until it has ended.

        Args:
            scripts: what the paths of the submitted scripts begin with; None: all of this run.
        """
        if not self.submitting:
            return
        prefix = scripts or f"{self.base}."
        signals = self.signals
        patience = slurm.Patience(self.patience.tell, lambda: self.signals > signals)
        end = time.monotonic() + CANCEL_SECONDS
        try:
            jobs = patience.until_answered(lambda: slurm.jobs_of(prefix))
            while jobs and time.monotonic() < end:
                with contextlib.suppress(WrapperError):
                    slurm.call(["scancel", *jobs])
                time.sleep(1.0)
                jobs = patience.until_answered(lambda: slurm.jobs_of(prefix))
        except WrapperError as error:
            warn(self.name, error)
            jobs = None
        if jobs is None or jobs:
            known = [] if scripts else sorted(filter(None, self.attempts.values()))
            left = " ".join(jobs or known) or "what squeue --me shows"
            warn(self.name, f"not seen to end: {left}; cancel it by: scancel {left}")

    def clean_up(self):
        """What the guardian does if this process is killed."""
        self.submitting = True  # it was forked before anything was submitted
        self.cancel()
        self.remove_files()

    def show_slurms_words(self, reasons):
        """Show what Slurm itself wrote, if the first failed task's log has nothing to say."""
        if not tail(self.array.log_of(min(reasons)), 1) and (lines := tail(self.output, 10)):
            print("--- from Slurm", *lines, sep="\n", file=sys.stderr)

    def remove_files(self):
        """Remove what only this run needed."""
        shutil.rmtree(self.statuses, ignore_errors=True)
        for path in [self.output, *self.base.parent.glob(f"{self.base.name}.*.sh")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others use the directory too
            self.base.parent.rmdir()
