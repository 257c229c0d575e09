"""Trainings that are stopped at ends of epochs, again and again, end as one that was not.

Whole processes, because it is at its end that a process can fail to say how it went.

STOPS=100 python -m pytest -s test/training/test_stops.py    for more stops than every test run has
"""

import collections
import contextlib
import os
import random
import re
import signal
import time
from pathlib import Path

import forked_commands
import pytest
import torch
from tiny_commands import TRAININGS, make_command

from espnet_tse_ser.errors import REQUEUE_STATUS

STOPS = int(os.environ.get("STOPS", 3))
LONGEST = 0.1  # seconds from the end of an epoch to the signal: an epoch takes no more


def _stop(pid, log, seconds, further):
    """Send a process a signal, so many seconds after it has ended an epoch.

    Args:
        further: signals that follow for as long as it runs.
    """
    process = Path(f"/proc/{pid}")
    while process.exists() and not (log.exists() and "epoch results" in log.read_text()):
        time.sleep(0.001)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        while further and process.exists():
            time.sleep(0.002)
            for number in further:
                os.kill(pid, number)


@pytest.mark.parametrize("training", TRAININGS)
def test_stopped_at_ends_of_epochs(tiny, tmp_path, training):
    choose, log = random.Random(0), tmp_path / "log"
    command = make_command(training, tmp_path, tiny, max_epoch=4 * STOPS + 4)
    command = ["-m", f"espnet_tse_ser.bin.{training}_train", *command, "--output_dir"]
    whole, parts = ([*command, str(tmp_path / name)] for name in ("whole", "parts"))
    statuses, places = collections.Counter(), collections.Counter()
    commands = forked_commands.server()
    commands.start(whole, log)
    assert commands.wait() == 0, log.read_text()
    for number in range(STOPS):
        # At once, soon, or anywhere in the epoch; Slurm may send more than one.
        seconds = choose.choice([0, choose.uniform(0, 0.01), choose.uniform(0, LONGEST)])
        further = choose.choice([(), (signal.SIGUSR1, signal.SIGTERM)])
        log.unlink()
        _stop(commands.start(parts, log), log, seconds, further)
        status = commands.wait()
        statuses[status] += 1
        place = re.search(r"SIG\w+: (.*) in /.*goes on from there", log.read_text())
        places[place and re.sub(r"\d+", "N", place[1])] += 1
        if status != REQUEUE_STATUS:
            print(f"{training}, stop {number + 1}: {status}:\n{log.read_text()[-3000:]}")
    print(f"\n{training}: {STOPS} stops: statuses {dict(statuses)}, {dict(places)}")
    assert statuses == {REQUEUE_STATUS: STOPS}
    commands.start(parts, log)
    assert commands.wait() == 0, log.read_text()
    weights = [torch.load(tmp_path / n / "latest.pth") for n in ("whole", "parts")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    tables = [(tmp_path / name / "epochs.tsv").read_text() for name in ("whole", "parts")]
    assert tables[0] == tables[1]
