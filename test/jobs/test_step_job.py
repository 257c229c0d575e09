"""What a step's job does around its command."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_tse_ser.jobs.lifetime import identity
from espnet_tse_ser.jobs.marks import Marks

ROOT = Path(__file__).parents[2]
HOST, PID, START = identity().split()
JOB = [sys.executable, "-S", "-m", "espnet_tse_ser.jobs.step_job"]
IMPATIENT = [sys.executable, "-c"]  # waits for another job a moment only
IMPATIENT.append(
    "import sys; from espnet_tse_ser.jobs import step_job; step_job.SECONDS = 1.5; "
    "sys.exit(step_job.main(sys.argv[1:]))"
)


@pytest.fixture
def directory(tmp_path):
    """exp/x, whose step is begun."""
    (tmp_path / "exp/x").mkdir(parents=True)
    Marks(str(tmp_path / "exp/x")).begin("the record")
    return tmp_path / "exp/x"


def start(directory, *command, program=JOB, name="", training="false", writes=None, **environment):
    options = [] if writes is None else ["--writes", writes]
    return subprocess.Popen(
        [*program, *options, "exp/x", name, training, *command],
        cwd=directory.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        start_new_session=True,
    )


def run(directory, *command, **how):
    """Its exit status, stdout and stderr."""
    process = start(directory, *command, **how)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def names(directory):
    return sorted(os.listdir(directory))


def test_a_command_that_succeeds(directory):
    command = ["bash", "-c", "cat exp/x/.job; echo 'a b' >exp/x/out.tsv"]
    status, out, errors = run(directory, *command, writes="*.tsv none")
    assert (status, errors) == (0, "")
    assert out.splitlines()[0] == f"# {' '.join(command)}"
    assert out.splitlines()[1].startswith(f"{HOST} ") and out.endswith("|\n")
    assert names(directory) == [".done", ".wrote", "out.tsv"]
    assert (directory / ".done").read_text() == "the record\n"
    assert (directory / ".wrote").read_text() == "out.tsv\n"


def test_a_training_of_a_name(directory):
    os.rename(directory / ".begun", directory / ".begun.n")
    assert run(directory, "true", name="n", training="true")[0] == 0
    assert names(directory) == [".done.n"]
    assert (directory / ".done.n").read_text().startswith("the record\nrun: ")


@pytest.mark.parametrize(
    "command, status",
    [("exit 3", 3), ("exit 75", 75), ("kill -KILL $$", 137), ("kill -TERM $$", 143)],
)
def test_a_command_that_fails(directory, command, status):
    assert run(directory, "bash", "-c", command, writes="*")[0] == status
    assert names(directory) == [".begun"]


def test_a_command_that_cannot_be_run(directory):
    status, _, errors = run(directory, "no-such-program")
    assert status == 1 and "step_job: no-such-program: No such file or directory; check" in errors
    assert names(directory) == [".begun"]


def test_a_directory_whose_step_was_not_begun(directory):
    os.unlink(directory / ".begun")
    status, _, errors = run(directory, "touch", "exp/x/ran")
    assert status == 1 and "exp/x: has no .begun: run the recipe's script" in errors
    assert names(directory) == []


def test_a_signal_to_the_group_lets_the_command_save(directory):
    script = "trap 'sleep 0.3; echo saved; exit 75' TERM; echo ready; sleep 30 & wait"
    process = start(directory, "bash", "-c", script)
    while process.stdout.readline() != "ready\n":
        pass
    os.killpg(process.pid, signal.SIGTERM)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (75, "saved\n", "")
    assert names(directory) == [".begun"]


@pytest.mark.parametrize("attempt", range(5))
def test_a_signal_while_it_ends_does_not_change_the_status(directory, attempt):
    """Slurm's last signals come while what was asked to stop before has just saved its work."""
    process = start(directory, "bash", "-c", "echo ready; exit 75")
    while process.stdout.readline() != "ready\n":
        pass
    while process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
    process.communicate()
    assert process.returncode == 75


@pytest.mark.parametrize("ignored", [True, False])
def test_the_command_obeys_the_signals_that_it_would_without(directory, ignored):
    """Slurm's warning before a time limit is ignored by what does not listen to it."""
    trap = "trap '' USR1; " if ignored else ""
    program = ["bash", "-c", f'{trap}exec "$@"', "bash", *JOB]
    script = "import signal as s; print(*(int(s.getsignal(n)) for n in (s.SIGUSR1, s.SIGTERM)))"
    _, out, _ = run(directory, sys.executable, "-c", script, program=program)
    assert out.splitlines()[1] == f"{int(ignored)} 0"


def test_of_two_jobs_one_works_on_a_directory(directory):
    for _ in range(3):
        script = "echo ran >>exp/x/ran; sleep 3"
        jobs = [start(directory, "bash", "-c", script, program=IMPATIENT) for _ in range(2)]
        said = [job.communicate(timeout=30) for job in jobs]
        assert sorted(job.returncode for job in jobs) == [0, 1], said
        assert names(directory) == [".done", "ran"]
        assert (directory / "ran").read_text() == "ran\n"
        os.unlink(directory / "ran")
        os.rename(directory / ".done", directory / ".begun")


def test_a_job_whose_submitter_has_gone_keeps_its_directory(directory):
    (directory / ".job").write_text(f"{HOST} {PID} {START}|\n")
    status, out, errors = run(directory, "touch", "exp/x/ran", program=IMPATIENT)
    who = f"exp/x: process {HOST} {PID} {START} (host, pid, start) still works on it"
    assert status == 1 and f"{who}; waiting" in out
    assert f"{who}; wait for it or stop it; if it has ended, remove exp/x/.job" in errors
    assert names(directory) == [".begun", ".job"]
    # of a process that has ended, or has started anew as another
    (directory / ".job").write_text(f"{HOST} {PID} {int(START) + 1}|\n")
    assert run(directory, "true")[0] == 0
    assert names(directory) == [".done"]


@pytest.mark.parametrize(
    ("squeue", "runs"),
    [
        ("echo state RUNNING", False),
        ("echo Welcome; echo state PENDING; echo bye", False),
        ("echo Unable to contact slurm controller >&2; exit 1", False),
        ("echo Welcome", True),
        ("true", True),
        ("echo Welcome; echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", True),
    ],
)
def test_whether_a_job_of_slurm_still_works_on_a_directory(directory, squeue, runs):
    client = directory / "bin/squeue"
    client.parent.mkdir()
    client.write_text(f"#!/bin/sh\n{squeue}\n")
    client.chmod(0o755)
    (directory / ".job").write_text("elsewhere 12 3456|77_3\n")
    how = {"program": IMPATIENT, "PATH": f"{client.parent}:{os.environ['PATH']}"}
    status, _, errors = run(directory, "touch", "exp/x/ran", **how)
    assert (status == 0) == (directory / "ran").exists() == runs
    assert ("Slurm job 77_3 (scancel 77_3; squeue says: " in errors) != runs


@pytest.mark.parametrize(
    "variables, mine",
    [
        ({"SLURM_JOB_ID": "77"}, "77"),
        ({"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}, "77_3"),
    ],
)
def test_a_job_that_slurm_has_started_again_goes_on(directory, variables, mine):
    (directory / ".job").write_text(f"elsewhere 12 3456|{mine}\n")
    status, out, errors = run(directory, "cat", "exp/x/.job", **variables)
    assert status == 0, errors
    assert out.splitlines()[1].endswith(f"|{mine}")


def test_it_costs_a_job_next_to_nothing(directory):
    used = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(directory, "true", writes="*.tsv")[0] == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        os.rename(directory / ".done", directory / ".begun")
    assert min(used) < 0.1


def test_a_full_disk_leaves_it_undone(directory):
    script = 'ulimit -f 0; exec "$@"'  # nothing can be written
    program = ["bash", "-c", script, "bash", *JOB]
    status, _, errors = run(directory, "touch", "exp/x/ran", program=program)
    assert status == 1 and ".job" in errors and "make room" in errors
    assert names(directory) == [".begun"]
