"""Run an array of jobs on this machine: the working half of run.pl and stdout.pl."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from espnet_tse_ser.errors import REQUEUE_STATUS
from espnet_tse_ser.jobs.command_line import (
    WrapperError,
    number_option,
    parse_command_line,
)
from espnet_tse_ser.jobs.lifetime import (
    Guardian,
    kill_marked,
    marked,
    on_stop_signals,
    recipe_is_gone,
    start_of,
    warn,
)
from espnet_tse_ser.jobs.logs import name_of_signal, report_failures, tail

# How long a job may take to end after SIGTERM before it is killed, without --grace.
GRACE_SECONDS = 30
# Seconds between two looks at the jobs: short ones are not held up, long ones cost nothing.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.5


def main(argv, name, echo=False):
    """Run a wrapper's command line and return its exit status.

    ``name`` is the wrapper's, for messages. With ``echo`` the jobs' output goes to stdout as
    well as to their logs. The status is 0 only if every job's was, 1 after a failure or a wrong
    command line, and 128 + signal when the wrapper was interrupted.
    """
    try:
        array = parse_command_line(argv)
        pool = _Pool(array, echo)
    except WrapperError as error:
        warn(name, error)
        return 1
    on_stop_signals(pool.stop)
    # If this process is killed, what it has started must not run on.
    guardian = Guardian(lambda: kill_marked(pool.mark))
    try:
        reasons = pool.run()
    except WrapperError as error:
        warn(name, error)
        return 1
    except BaseException:
        pool.end_groups()
        raise
    finally:
        guardian.dismiss()
    if pool.stopped_by:
        warn(name, f"interrupted; log is in {array.logs_pattern()}")
        return 128 + pool.stopped_by
    if reasons:
        report_failures(name, array, reasons, show_log=not echo)
        return 1
    return 0


class _Pool:
    """At most ``size`` jobs side by side; a slot is a place among them and owns its GPUs."""

    def __init__(self, array, echo):
        self.array = array
        self.echo = echo
        self.stopped_by = None
        self.running = {}  # slot -> (index, process, start, log stream, copying thread)
        gpus_per_job = number_option(array.options, "gpu") or 0
        self.gpus = _gpus() if gpus_per_job else []
        self.gpus_per_job = gpus_per_job
        if gpus_per_job > len(self.gpus):
            raise WrapperError(
                f"--gpu {gpus_per_job}: this machine offers {len(self.gpus)} GPU(s) "
                "(nvidia-smi -L, CUDA_VISIBLE_DEVICES); ask for fewer, or train with --ngpu 0"
            )
        fitting = len(self.gpus) // gpus_per_job if gpus_per_job else _cores()
        self.size = number_option(array.options, "max_jobs_run", lowest=1) or fitting
        self.grace = number_option(array.options, "grace") or GRACE_SECONDS
        self.mark = f"{os.getpid()}.{start_of(os.getpid())}"

    def run(self):
        """Run every job and return {index: reason} of those that failed."""
        waiting = deque(self.array.indices)
        reasons = {}
        line = _StatusLine(len(waiting))
        pause = SHORTEST_PAUSE
        while (waiting or self.running) and not self.stopped_by:
            for slot in range(self.size):
                if waiting and slot not in self.running and not self.stopped_by:
                    self._start(slot, waiting.popleft())
            ended = self._collect()
            reasons |= {index: _reason(code) for index, code in ended if code != 0}
            if recipe_is_gone():
                self.stopped_by = self.stopped_by or signal.SIGHUP
            if self.running:
                line.show(self.array, [index for index, *_ in self.running.values()], waiting)
                pause = SHORTEST_PAUSE if ended else min(2 * pause, LONGEST_PAUSE)
                time.sleep(pause)
        line.clear()
        if self.stopped_by:
            self.end_groups()
        return reasons

    def stop(self, number, _frame):
        """Signal handler: start no more jobs and end the running ones."""
        self.stopped_by = self.stopped_by or number

    def end_groups(self):
        """End the running jobs and all that they started: SIGTERM, then SIGKILL."""
        groups = [process.pid for _, process, *_ in self.running.values()]
        _kill(groups, signal.SIGTERM)
        deadline = time.monotonic() + self.grace
        while groups and time.monotonic() < deadline:
            self._collect()
            groups = _kill(groups, 0)
            time.sleep(SHORTEST_PAUSE)
        _kill(groups, signal.SIGKILL)
        while self.running:
            self._collect()
            time.sleep(SHORTEST_PAUSE)

    def _start(self, slot, index):
        script = self.array.script_of(index)
        log = Path(self.array.log_of(index))
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            stream = open(log, "wb", buffering=0)
            stream.write(
                f"# {script}\n# Started at {time.ctime()}\n#\n".encode(errors="surrogateescape")
            )
        except OSError as error:
            self.end_groups()
            raise WrapperError(
                f"{log}: the log cannot be written ({error.strerror}); make room or choose another"
            ) from None
        # A session of its own: one signal reaches all that the job has started, and Ctrl-C
        # reaches the job only through `stop`, after which its log still gets an end.
        try:
            process = subprocess.Popen(
                ["bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.echo else stream,
                stderr=subprocess.STDOUT,
                env=self._environment(slot),
                start_new_session=True,
            )
        except OSError as error:
            self.end_groups()
            raise WrapperError(
                f"job {index} cannot be started ({error.strerror}); its command has {len(script)} "
                f"characters, log is in {log}"
            ) from None
        thread = None
        if self.echo:
            thread = threading.Thread(target=_copy, args=(process.stdout, stream))
            thread.start()
        self.running[slot] = (index, process, time.time(), stream, thread)

    def _environment(self, slot):
        environment = {**os.environ, **marked(self.mark)}
        if self.gpus_per_job:
            start = slot * self.gpus_per_job
            devices = [self.gpus[(start + i) % len(self.gpus)] for i in range(self.gpus_per_job)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        return environment

    def _collect(self):
        """Finish the logs of ended jobs and return their (index, exit code)."""
        ended = []
        for slot, (index, process, start, stream, thread) in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            if code < 0:  # it was killed, which may have left its children
                _kill([process.pid], signal.SIGKILL)
            if thread:
                # what it left in the background may hold the pipe for as long as it likes
                thread.join(0 if self.stopped_by else None)
            seconds = round(time.time() - start)
            ending = f"code {code}" if code >= 0 else f"code 0; signal {-code}"
            with contextlib.suppress(OSError):  # a full disk takes nothing from the job's result
                stream.write(
                    f"# Accounting: time={seconds} threads=1\n# Ended ({ending}) at "
                    f"{time.ctime()}, elapsed time {seconds} seconds\n".encode()
                )
            stream.close()
            del self.running[slot]
            ended.append((index, code))
        return ended


class _StatusLine:
    """One line on a terminal that says how far the jobs are; nothing where there is none."""

    def __init__(self, total):
        self.total = total
        self.start = self.shown = time.monotonic()
        self.active = sys.stderr is not None and sys.stderr.isatty()

    def show(self, array, running, waiting):
        now = time.monotonic()
        if not self.active or now - self.shown < 1.0:
            return
        self.shown = now
        done = self.total - len(running) - len(waiting)
        news = tail(array.log_of(running[0]), 1)
        text = f"  {now - self.start:.0f} s, {done} / {self.total} jobs done | {''.join(news)}"
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()

    def clear(self):
        if self.active and self.shown != self.start:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _reason(code):
    """Why a job failed, from its exit code (negative: the signal that ended it)."""
    if code < 0:
        return f"killed by {name_of_signal(-code)}"
    if code == REQUEUE_STATUS:
        return "stopped on request after saving; run it again"
    return f"exit status {code}"


def _copy(source, log):
    """Copy a job's output to its log and to stdout until it ends."""
    while block := os.read(source.fileno(), 65536):
        with contextlib.suppress(OSError):  # the disk is full: the job must not wait for it
            log.write(block)
        with contextlib.suppress(OSError):  # nobody reads any more: nor for that
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()


def _kill(groups, number):
    """Send a signal to process groups and return those that still exist."""
    alive = []
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
            alive.append(group)
    return alive


def _cores():
    return len(os.sched_getaffinity(0))


def _gpus():
    """Return the ids of the GPUs that jobs may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return re.findall(r"^GPU (\d+):", listing.stdout, re.MULTILINE)
