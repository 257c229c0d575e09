"""utils/slurm.pl where the clients of Slurm print more than they are asked for; no cluster needed.

The stand-ins are one program that runs a job's tasks as processes and notes them in files
``<job>_<index>`` of "pid script"; what they print before and after their answers is up to the test.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_tse_ser.jobs import slurm_client

TEMPLATE = Path(__file__).parents[2] / "egs2/TEMPLATE/common"
CLUSTER = r"""
import os, re, subprocess, sys
from pathlib import Path

name, words, place = Path(sys.argv[0]).name, sys.argv[1:], Path(sys.argv[0]).parent
options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
with open(place / "calls", "a") as stream:
    print(name, *words, file=stream)

def chatter(when):
    path = place / f"{name}.{when}"
    sys.stdout.buffer.write(path.read_bytes() if path.exists() else b"")
    sys.stdout.flush()

def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

chatter("before")
tasks = {p.name: p.read_text().split() for p in place.glob("[0-9]*_*")}
if name == "sbatch":
    number = 100 + len({task.split("_")[0] for task in tasks})
    ranges = options.get("--array", "").partition("%")[0]
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        for index in range(int(first), int(last or first) + 1) if part else ["N"]:
            environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(index)}
            process = subprocess.Popen(["bash", words[-1]], env=environment, stdin=-3, stdout=-3,
                                       stderr=-3, start_new_session=True)
            (place / f".{number}").write_text(f"{process.pid} {words[-1]}")
            (place / f".{number}").rename(place / f"{number}_{index}")
    answer = (place / "sbatch.answer").read_text()
    print(answer.replace("NUMBER", str(number)), end="")
elif name == "squeue":
    names = {"%F": "ARRAY_JOB_ID", "%K": "ARRAY_TASK_ID", "%T": "STATE", "%r": "REASON",
             "%o": "COMMAND"}
    form = options["--format"]
    if "--noheader" not in words:
        print(re.sub("%.", lambda m: names[m[0]], form))
    wanted = options.get("--jobs", "").split(",")
    for task, (pid, script) in sorted(tasks.items()):
        job, index = task.split("_")
        state = "RUNNING" if alive(pid) else "COMPLETED"
        values = {"%F": job, "%K": index.replace("N", "N/A"), "%T": state, "%r": "None",
                  "%o": script}
        if (wanted == [""] or job in wanted) and (state == "RUNNING" or "--states=all" in words):
            print(re.sub("%.", lambda m: values[m[0]], form))
elif name == "scancel":
    for task, (pid, _) in tasks.items():
        if task.split("_")[0] in words and alive(pid):
            os.killpg(int(pid), 9)
elif name == "scontrol":
    print("SlurmctldPort           = 1\nMaxArraySize            = 5")
chatter("after")
"""
WRAPPER = (
    "import sys; from espnet_tse_ser.jobs import slurm; slurm.ASK_SECONDS = 0.3; "
    "slurm.VISIBLE_SECONDS = 0.5; sys.exit(slurm.main(sys.argv[1:], 'slurm.pl'))"
)


class Cluster:
    """The stand-ins, in a directory that comes first on PATH."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        for client in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
            (directory / client).write_text(f"#!{sys.executable} -IS\n{CLUSTER}")
            (directory / client).chmod(0o755)
        self.sbatch_answers("NUMBER\n")

    def sbatch_answers(self, text):
        """NUMBER in it stands for the job's."""
        (self.directory / "sbatch.answer").write_text(text)

    def prints(self, client, when, data):
        (self.directory / f"{client}.{when}").write_bytes(data)

    def start(self, *words):
        path = f"{self.directory}:{os.environ['PATH']}"
        config = ["--config", TEMPLATE / "conf/slurm.conf"]
        return subprocess.Popen(
            [sys.executable, "-c", WRAPPER, *map(str, [*config, *words])],
            cwd=self.directory.parent,
            env={**os.environ, "PATH": path},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words):
        process = self.start(*words)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        return process.returncode, errors

    def submissions(self):
        calls = (self.directory / "calls").read_text().splitlines()
        return sum(call.startswith("sbatch ") for call in calls)

    def running(self):
        """Tasks that run, by the notes of the stand-ins."""
        pids = [path.read_text().split()[0] for path in self.directory.glob("[0-9]*_*")]
        return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _cmdline(pid)]


def _cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path / "bin")


def runs(tmp_path):
    """How often each task has run."""
    return sorted((tmp_path / "runs").read_text().split())


COUNT = ["echo", "JOB", ">>runs;", "sleep", "0.8"]  # long enough to be asked about

ANSWERS = [
    "NUMBER\n",
    "NUMBER",
    "NUMBER;cluster2\n",
    "Welcome...\nNUMBER\n",
    "Welcome to 3 clusters!\n\n  Quota: 12 of 20 h\nNUMBER;east\nGood luck.\n",
    "Submitted batch job NUMBER\n",
    "Submitted batch job NUMBER on cluster east\n",
    "sbatch: INFO: partition cpu\r\nNUMBER\r\n",
    "NUMBER\nNUMBER\n",
    # nothing or too much to go by: squeue finds the job by its script
    "",
    "Welcome...\n",
    "42\nNUMBER\n",
    "your job is NUMBER, thank you\n",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_number_of_a_job(cluster, tmp_path, answer):
    cluster.sbatch_answers(answer)
    code, errors = cluster.run("--retries", "2", "JOB=1:2", "log/JOB.log", *COUNT)
    assert (code, errors) == (0, "")
    assert runs(tmp_path) == ["1", "2"] and cluster.submissions() == 1
    assert not (tmp_path / "log/q").exists()


def test_bytes_that_are_no_text(cluster, tmp_path):
    cluster.prints("sbatch", "before", b"Gr\xfc\xdfe\n")
    cluster.prints("squeue", "before", b"Gr\xfc\xdfe\n")
    assert cluster.run("--retries", "2", "x.log", *COUNT) == (0, "")
    assert cluster.submissions() == 1


@pytest.mark.parametrize("answer", ["", "Welcome...\n", "1\n2\n", "job submitted\n"])
def test_a_job_that_nobody_can_name_is_not_left_running(cluster, tmp_path, answer):
    """squeue does not show scripts here when it is asked after the submission, but later."""
    cluster.sbatch_answers(answer)
    squeue = (cluster.directory / "squeue").read_text()
    squeue = squeue.replace(
        'if "--noheader"', 'if "--states=all" in words: tasks = {}\n    if "--noheader"'
    )
    (cluster.directory / "squeue").write_text(squeue)
    code, errors = cluster.run("--retries", "2", "JOB=1:2", "JOB.log", "sleep", "10")
    assert code == 1
    assert f"slurm.pl: sbatch: answers {answer.strip().split(chr(10))[0]!r}" in errors
    assert "no job's number; what it has submitted is cancelled (look at squeue --me)" in errors
    assert "'command' in " in errors and "nothing was submitted" not in errors
    assert cluster.submissions() == 1 and not cluster.running()


GREETING = b"Welcome to the cluster\n  Maintenance on Friday | 8:00 | everything | stops\n||\n"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("client", ["sbatch", "squeue", "scancel", "sacct"])
def test_greetings_of_every_client(cluster, tmp_path, client, when):
    cluster.prints(client, when, GREETING)
    assert cluster.run("--retries", "2", "JOB=1:2", "JOB.log", *COUNT) == (0, "")
    assert runs(tmp_path) == ["1", "2"] and cluster.submissions() == 1
    # and what fails, ends or is interrupted is still seen to
    code, errors = cluster.run("--retries", "2", "JOB=1:2", "JOB.log", "kill", "-9", "$PPID")
    assert code == 1 and "no exit status, COMPLETED for Slurm" in errors
    process = cluster.start("JOB=1:2", "JOB.log", "sleep", "60")
    end = time.monotonic() + 20
    while len(cluster.running()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 128 + 15 and not cluster.running()


def test_an_answer_that_says_nothing_of_jobs_is_no_answer(cluster, tmp_path):
    """Whoever takes it for "there are no jobs" submits what is running again."""
    (cluster.directory / "squeue").write_text(
        '#!/bin/sh\n[ -f asked ] || { touch asked; echo "<html>busy</html>"; exit; }\n'
        'echo "ARRAY_JOB_ID|"; echo "100|1|RUNNING|None"\n'
    )
    code, errors = cluster.run("--retries", "2", "JOB=1:1", "JOB.log", *COUNT)
    assert code == 0
    assert "squeue: answers '<html>busy</html>', which says nothing of jobs; asking again" in errors
    assert runs(tmp_path) == ["1"] and cluster.submissions() == 1


@pytest.mark.parametrize("lines", [GREETING, b"", b"MaxArraySize\n", b"MaxArraySize = many\n"])
def test_the_largest_array(cluster, monkeypatch, lines):
    monkeypatch.setenv("PATH", f"{cluster.directory}:{os.environ['PATH']}")
    cluster.prints("scontrol", "before", lines)
    assert slurm_client.largest_array_index() == 4
    (cluster.directory / "scontrol").write_text("#!/bin/sh\nprintf '%s'\n")
    assert slurm_client.largest_array_index() is None
    (cluster.directory / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert slurm_client.largest_array_index() is None
