"""How far a step of a recipe is, told from the files it leaves (see `marks`).

So it can be asked at any time: while jobs run, on this machine or another, and after a crash.
Imports nothing that takes long to load.
"""

import csv
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.errors import REQUEUE_STATUS, UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.jobs.lifetime import is_gone
from espnet_tse_ser.jobs.locks import holder_of

STATES = ("done", "running", "queued", "failed", "FAILED", "stopped", "not started")

# Exit statuses of what the same command goes on with: saved on request (75), or interrupted by
# SIGHUP, SIGINT or SIGTERM (a shell's 128 + signal).
_INTERRUPTED = (REQUEUE_STATUS, 129, 130, 143)
_FOOTER = re.compile(
    r"# Ended \(code (?P<code>\d+)(?:; signal (?P<signal>\d+))?\) at "  # run.pl, stdout.pl
    r"|# Finished at .* with status (?P<status>\d+)"  # slurm.pl
)
_BLOCK = 65536  # bytes at each end of a log in which its marks are looked for


@dataclass(frozen=True)
class Status:
    """State of one step.

    state: one of `STATES`; "failed" while its submission still works on other steps, then
        "FAILED". figures: "3/12 61.0", epochs and the best dev UA in %, or SI-SNR with "dB".
        failure: of a failed one, its log, its exit status and the last line it wrote.
    """

    state: str
    figures: str = ""
    failure: str = ""

    def __str__(self):
        return "-" if self.state == "not started" else f"{self.state} {self.figures}".rstrip()


def status_of(directory, name, command):
    """Status of the step ``name`` ("" for none) that runs ``command`` and writes ``directory``."""
    directory = Path(directory)
    suffix = f".{name}" if name else ""
    if (directory / f".done{suffix}").exists():
        return Status("done", _progress(directory)[1])
    held = _is_held(directory / f".lock{suffix}")
    if not held and not (directory / f".begun{suffix}").exists():
        return Status("not started")
    log = directory / "log" / f"{command}.log"
    started, code, last = _read_log(log)
    if code and code not in _INTERRUPTED:
        failure = f"{log} (exit status {code}): {last}"
        return Status("failed" if held else "FAILED", failure=failure)
    if code or not held:
        return Status("stopped")
    if not started:
        return Status("queued")
    return Status("running", " ".join(_progress(directory)).strip())


def _is_held(lock):
    """Whether the process that a lock file names may still run."""
    try:
        content = lock.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    return not is_gone(holder_of(content))


def _read_log(path):
    """Whether the job has started, its exit status (None: not ended) and its last line."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(_BLOCK)
            stream.seek(max(0, os.path.getsize(path) - _BLOCK))
            end = stream.read()
    except OSError:
        return False, None, ""
    started, code, last = any(line.startswith("# Started at") for line in _lines(head)), None, ""
    for line in _lines(end):
        footer = _FOOTER.match(line)
        if footer and footer["signal"]:
            code = 128 + int(footer["signal"])
        elif footer:
            code = int(footer["code"] or footer["status"])
        elif line.startswith("# Started at"):
            code = None  # slurm.pl runs a lost job again and appends to its log
        elif line.strip() and not line.startswith("#"):
            last = line.strip()
    return started, code, last


def _lines(block):
    return block.decode(errors="replace").replace("\r", "\n").split("\n")


def _progress(directory):
    """Epochs done ("3/12") and the best figure of ``epochs.tsv``; "" for what is not there."""
    try:
        rows = read_tsv(directory / "epochs.tsv", ("epoch",))
        epoch = max(int(row["epoch"]) for row in rows)
        ua = _finite(rows, "valid_ua")
        si_snr_loss = _finite(rows, "valid_si_snr_loss")  # the negative SI-SNR in dB
    except (UserError, OSError, ValueError, csv.Error):  # none yet, or not what a training writes
        return "", ""
    best = f"{-min(si_snr_loss):.1f} dB" if si_snr_loss else ""
    if ua:
        best = f"{100 * max(ua):.1f}"
    return f"{epoch}/{_max_epoch(directory / 'config.yaml')}", best


def _finite(rows, column):
    values = [float(row.get(column, "nan")) for row in rows]
    return [value for value in values if math.isfinite(value)]


def _max_epoch(config):
    # a regular expression instead of PyYAML, which takes long to load and to read
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "?"
    match = re.search(r"^max_epoch: *(\d+)", text, re.MULTILINE)
    return match[1] if match else "?"
