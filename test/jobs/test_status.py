"""The state of a step from the files that it leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_tse_ser.jobs.status import status_of

HOST = os.uname().nodename
EPOCHS = "epoch\ttrain_loss\tvalid_ua\n1\t1.5\t0.25\n2\t1.2\t0.621\n3\t1.0\t0.5\n"
RUN_PL = Path(__file__).parents[2] / "egs2/TEMPLATE/common/utils/run.pl"
STARTED = "# ser_train --x\n# Started at Mon Jan  1 00:00:00 2024\n#\n"
ENDED = "# Accounting: time=3 threads=1\n# Ended (code {}) at Mon Jan  1, elapsed time 3 seconds\n"
FINISHED = "# Finished at Mon Jan  1 00:00:03 UTC 2024 with status {}\n"


def start_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


FILES = {
    **{mark: f".{mark}" for mark in ("done", "begun", "lock")},
    "log": "log/ser_train.log",
    "epochs": "epochs.tsv",
    "config": "config.yaml",
}


def make(directory, **texts):
    """Write some of `FILES`."""
    for name, text in texts.items():
        path = directory / FILES[name]
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def state(directory, name=""):
    return str(status_of(directory, name, "ser_train"))


@pytest.fixture
def mine():
    """The lock of a process that runs."""
    return f"{HOST} {os.getpid()} {start_of(os.getpid())}\nsince 2024 by: ./run.sh\ngroup 1\n"


def test_not_started(tmp_path):
    assert state(tmp_path) == state(tmp_path / "missing") == "-"
    make(tmp_path, epochs=EPOCHS, log=STARTED)
    assert status_of(tmp_path, "", "ser_train").state == "not started"


def test_done(tmp_path, mine):
    make(tmp_path, done="ser_train")
    assert state(tmp_path) == "done"
    make(tmp_path, epochs=EPOCHS, lock=mine, log=STARTED + ENDED.format(1))
    assert state(tmp_path) == "done 62.1"


def test_name_tells_steps_of_one_directory_apart(tmp_path):
    (tmp_path / ".done.pack1").touch()
    (tmp_path / ".begun.pack2").touch()
    states = [state(tmp_path, name) for name in ("pack1", "pack2", "pack3", "")]
    assert states == ["done", "stopped", "-", "-"]


@pytest.mark.parametrize(
    "epochs, figure",
    [
        ("epoch\tvalid_loss\tvalid_si_snr_loss\n1\t3\t-4.25\n2\t2\t-9.16\n", " 9.2 dB"),
        ("epoch\tvalid_si_snr_loss\tvalid_ua\n1\t-9\t0.5\n", " 50.0"),
        ("epoch\tvalid_ua\n1\tnan\n2\t0.5\n", " 50.0"),
        ("epoch\tvalid_ua\n1\tnan\n", ""),
        ("epoch\ttrain_loss\n1\t3\n", ""),
        ("epoch\tvalid_ua\n", ""),
        ("epoch\tvalid_ua\n1\tmuch\n", ""),
        ("epoch\tvalid_ua\nfirst\t0.5\n", ""),
        ("epoch\tvalid_ua\n1\n", ""),
        ("valid_ua\n0.5\n", ""),
        ('epoch\tvalid_ua\n1\t"' + 200000 * "x", ""),
        ("\0\xff", ""),
        ("", ""),
    ],
)
def test_figures(tmp_path, epochs, figure):
    make(tmp_path, done="", epochs=epochs)
    assert state(tmp_path) == f"done{figure}"


def test_epochs_that_are_no_text(tmp_path):
    make(tmp_path, done="")
    (tmp_path / "epochs.tsv").write_bytes(b"epoch\tvalid_ua\n1\t\xff\n")
    assert state(tmp_path) == "done"


def test_queued_and_running(tmp_path, mine):
    make(tmp_path, begun="", lock=mine)
    assert state(tmp_path) == "queued"
    make(tmp_path, epochs=EPOCHS, log="# Running on node7\n")  # epochs of a run before
    assert state(tmp_path) == "queued"
    make(tmp_path, log=STARTED)
    assert state(tmp_path) == "running 3/? 62.1"
    make(tmp_path, config="accum_grad: 1\nmax_epoch: 12\nconf:\n  max_epoch: 5\n")
    assert state(tmp_path) == "running 3/12 62.1"
    make(tmp_path, epochs="epoch\tvalid_loss\n3\t1.0\n")
    assert state(tmp_path) == "running 3/12"
    make(tmp_path, epochs="something else")
    assert state(tmp_path) == "running"
    (tmp_path / "epochs.tsv").unlink()
    make(tmp_path, log=STARTED + "\n".join(f"epoch {n}" for n in range(50000)))
    assert state(tmp_path) == "running"


def test_ended_under_a_lock(tmp_path, mine):
    make(tmp_path, begun="", lock=mine, log=STARTED + ENDED.format(0))
    assert state(tmp_path) == "running"  # its mark is about to be set
    make(tmp_path, log=STARTED + "error: no data\n" + ENDED.format(2))
    assert state(tmp_path) == "failed"
    failure = status_of(tmp_path, "", "ser_train").failure
    assert failure == f"{tmp_path}/log/ser_train.log (exit status 2): error: no data"
    make(tmp_path, log=STARTED + FINISHED.format(75))
    assert state(tmp_path) == "stopped"
    make(tmp_path, log=STARTED + FINISHED.format(143) + STARTED)  # run again by the queue
    assert state(tmp_path) == "running"


def test_lock_of_another_host_is_held(tmp_path, mine):
    for lock in (mine.replace(HOST, f"{HOST}-2"), "", "something else\n"):
        make(tmp_path, begun="", lock=lock, log=STARTED)
        assert state(tmp_path) == "running"


def test_stale_locks(tmp_path, mine):
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    locks = [f"{HOST} {zombie.pid} {start_of(zombie.pid)}\n"]
    locks.append(f"{HOST} {os.getpid()} 1\n")  # the id is another process' now
    locks += [f"{HOST}\n", f"{HOST} none 1\n", f"{HOST} {2**22 + 1} 12345\n"]
    for lock in locks:
        make(tmp_path, lock=lock, log=STARTED)
        (tmp_path / ".begun").unlink(missing_ok=True)
        assert state(tmp_path) == "-"
        make(tmp_path, begun="")
        assert state(tmp_path) == "stopped"
    zombie.wait()


@pytest.mark.parametrize("footer", [ENDED, FINISHED])
@pytest.mark.parametrize(
    "code, expected",
    [("0", "stopped"), ("75", "stopped"), ("143", "stopped"), ("1", "FAILED"), ("137", "FAILED")],
)
def test_ended_without_a_lock(tmp_path, footer, code, expected):
    text = STARTED + "epoch 1\rerror: no data \n# a comment\n\n" + footer.format(code)
    make(tmp_path, begun="", log=text)
    status = status_of(tmp_path, "", "ser_train")
    assert status.state == expected
    failure = f"{tmp_path}/log/ser_train.log (exit status {code}): error: no data"
    assert status.failure == (failure if expected == "FAILED" else "")


def test_begun_without_an_end(tmp_path):
    make(tmp_path, begun="")
    assert state(tmp_path) == "stopped"
    make(tmp_path, log=STARTED + "epoch 1\n", epochs=EPOCHS)
    assert state(tmp_path) == "stopped"


@pytest.mark.parametrize(
    "command, expected, failure",
    [
        ("echo work; exit 3", "FAILED", "(exit status 3): work"),
        ("echo work; kill -KILL $$", "FAILED", "(exit status 137): work"),
        ("kill -TERM $$", "stopped", ""),
        ("exit 75", "stopped", ""),
    ],
)
def test_logs_of_run_pl(tmp_path, command, expected, failure):
    make(tmp_path, begun="")
    words = [sys.executable, RUN_PL, tmp_path / "log/ser_train.log", "bash", "-c", command]
    assert subprocess.run(words, capture_output=True).returncode == 1
    status = status_of(tmp_path, "", "ser_train")
    assert status.state == expected and status.failure.endswith(failure)
