"""Fault drills on real clusters: what happens to a recipe when something dies.

Each disturbs stage 10 (two trainings, one job array), lets the same command go on, and compares
what it leaves with what a run leaves that was not disturbed. Some are played at a time, each on a
cluster of its own, as they mostly wait for Slurm.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from recipes import copy_of_the_recipes, declare, run_recipe, start_recipe

# One condition is enough for a drill; the results then hold two systems.
SHORT = ["--systems", "noisy_noisy joint_noisy", "--ser_args", "--max_epoch 25"]
SER = [*SHORT, "--stage", "ser_stats", "--stop_stage", "ser"]
REST = [*SHORT, "--stage", "ser_stats", "--stop_stage", "results"]
FOLD = "exp/ser_noisy_debug/fold1"
AT_A_TIME = 3
SECONDS = 900  # what a drill waits for takes a thirtieth of it where nothing else runs


def slurm(cluster):
    return {**cluster.environment, "cmd_backend": "slurm"}


@pytest.fixture(scope="module")
def undisturbed(mini_recipe, tmp_path_factory):
    """The recipe of the drills, done on this machine without a disturbance."""
    recipe = drilled(mini_recipe, tmp_path_factory.mktemp("undisturbed"))
    run_recipe(recipe, *REST)
    return recipe


def drilled(mini_recipe, directory):
    """A copy of a recipe with everything before stage 10."""
    recipe = copy_of_the_recipes(directory)
    declare(recipe, "joint_noisy", train="joint", test="joint", starts_from="noisy_noisy")
    for name in ("data", "dump"):
        (recipe / name).symlink_to(mini_recipe / name)
    others = shutil.ignore_patterns("scoring_*")  # other tests may be at work on these
    for name in ("tse_debug", "tse_stats_debug", "ser_stats_debug"):
        how = {"symlinks": True, "ignore": others}
        shutil.copytree(mini_recipe / "exp" / name, recipe / "exp" / name, **how)
    return recipe


class Drill:
    """A recipe whose stage 10 runs on a cluster, about to be disturbed."""

    def __init__(self, cluster, recipe):
        self.cluster = cluster
        self.recipe = recipe
        self.process = None

    def start(self, *options, **environment):
        (self.recipe / "output.txt").unlink(missing_ok=True)
        self.process = start_recipe(
            self.recipe, *SER, *options, environment=slurm(self.cluster) | environment
        )

    def wait_for_epoch(self, epoch=1):
        """Until the training of fold 1 has done so many."""
        table = self.recipe / FOLD / "epochs.tsv"
        self.cluster.wait_until(
            lambda: table.exists() and len(table.read_text().splitlines()) > epoch, SECONDS
        )

    def training(self):
        """Process ids of the training of fold 1."""
        pattern = f"ser_train .*--output_dir {FOLD} "
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True)
        pids = [int(pid) for pid in found.stdout.split()]
        return [
            pid
            for pid in pids
            if Path(f"/proc/{pid}/cwd").resolve() == self.recipe
            and b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        ]

    @contextlib.contextmanager
    def paused(self):
        """The training of fold 1 is not over before the body is."""
        pids = self.training()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def end(self, status):
        """Wait for the script's end and return what it said."""
        assert self.process.wait(SECONDS) == status, self.output()
        self.cluster.wait_until(lambda: not self.cluster.jobs(), 60)
        assert not self.training()
        return self.output()

    def output(self):
        return (self.recipe / "output.txt").read_text()

    def goes_on(self, undisturbed, to=SER):
        """The same command goes on and ends with what an undisturbed run leaves."""
        output = run_recipe(self.recipe, *to, environment=slurm(self.cluster))
        assert not self.cluster.jobs()
        assert left(self.recipe) == left(undisturbed)
        for pattern in (".lock*", ".job*", ".batch*", ".begun*", ".tmp.*", "*.pending.pth"):
            assert not list(self.recipe.glob(f"exp/**/{pattern}"))
        return output


def left(recipe):
    """The files that the trainings leave, with what later stages read of them, and the links."""
    found = {}
    for path in sorted(recipe.glob("exp/ser_noisy_debug/fold*/*")):
        if path.is_symlink():
            found[path.relative_to(recipe)] = path.readlink()
        elif path.is_file():
            read = path.name == "epochs.tsv" or path.match("[0-9]*epoch.pth")
            found[path.relative_to(recipe)] = path.read_bytes() if read else None
    return found


def kill_9_of_a_training(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    for pid in drill.training():
        os.kill(pid, signal.SIGKILL)
    output = drill.end(1)
    assert "task 1: exit status 137 (killed by SIGKILL), log is in" in output
    assert f"failed: {FOLD} (log in {FOLD}/log/ser_train.log)" in output
    output = drill.goes_on(undisturbed)
    assert f"{FOLD}: going on with what was begun" in output
    assert "exp/ser_noisy_debug/fold2: done already" in output


def scancel_of_one_task(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    drill.cluster.call("scancel", next(j for j in drill.cluster.jobs("%F_%K") if j.endswith("_1")))
    output = drill.end(1)
    assert "task 1: cancelled" in output
    assert "checkpoint.step.pth" in (drill.recipe / FOLD / "log/ser_train.log").read_text()
    output = drill.goes_on(undisturbed)
    assert "exp/ser_noisy_debug/fold2: done already" in output


def ctrl_c_of_the_submitting_shell(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)  # later, and a fast machine is done before the signal
    os.killpg(drill.process.pid, signal.SIGINT)
    output = drill.end(130)
    assert "interrupted; the same command goes on from here" in output
    assert not list(drill.recipe.glob("exp/**/.lock*"))
    drill.goes_on(undisturbed)


def kill_9_of_the_submitting_shell(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    os.killpg(drill.process.pid, signal.SIGKILL)
    drill.process.wait()
    drill.goes_on(undisturbed, to=REST)  # it leaves most; this stands for what follows the others
    ours, theirs = ((r / "exp/results.json").read_text() for r in (drill.recipe, undisturbed))
    assert ours == theirs


def a_corrupt_checkpoint(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(3)
    for pid in drill.training():
        os.kill(pid, signal.SIGKILL)
    drill.end(1)
    checkpoint = drill.recipe / FOLD / "checkpoint.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    drill.goes_on(undisturbed)
    log = (drill.recipe / FOLD / "log/ser_train.log").read_text()
    assert "checkpoint.pth: is damaged" in log and "going on from checkpoint.previous.pth" in log


def a_full_disk(drill, undisturbed):
    place = drill.recipe / FOLD
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", place]  # for one checkpoint
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        drill.start()
        output = drill.end(1)
        assert re.search(r"no space left on the device while writing \S*checkpoint", output)
        subprocess.run(["mount", "-o", "remount,size=100m", place], check=True)
        drill.goes_on(undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def two_submissions_at_once(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    lock = (drill.recipe / FOLD / ".lock").read_text()
    output = drill.output()
    with drill.paused():
        second = start_recipe(drill.recipe, *SER, environment=slurm(drill.cluster))
        assert second.wait(SECONDS) == 1
    refusal = drill.output()[len(output) :]
    assert f"{FOLD}: process {lock.split()[1]} on {lock.split()[0]} is working on it" in refusal
    drill.end(0)
    drill.goes_on(undisturbed)


def controller_restarted_mid_stage(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    with drill.paused():
        drill.cluster.control("kill_controller")
    time.sleep(6)
    drill.cluster.control("start_controller")
    drill.end(0)
    drill.goes_on(undisturbed)


def a_node_is_killed(drill, undisturbed):
    drill.start()
    drill.wait_for_epoch(1)
    node = next(j.split()[1] for j in drill.cluster.jobs("%K %N") if j.startswith("1 "))
    drill.cluster.control("kill_node", node)
    output = drill.end(0)
    assert "task 1: node failure; submitting it again (retry 1 of 2)" in output
    drill.cluster.control("start_node", node)
    drill.goes_on(undisturbed)


def the_time_limit_is_reached(drill, undisturbed):
    cmd = drill.recipe / "cmd.sh"
    cmd.write_text(
        cmd.read_text().replace("slurm.pl --retries 2", "slurm.pl --time 0:01 --retries 2")
    )
    drill.start()
    drill.wait_for_epoch(1)
    for pid in drill.training():
        os.kill(pid, signal.SIGSTOP)  # so that the limit comes; Slurm wakes what it ends
    output = drill.end(0)
    assert "task 1: stopped by Slurm, its work is saved; submitting it again" in output
    assert "checkpoint.step.pth" in (drill.recipe / FOLD / "log/ser_train.log").read_text()
    drill.goes_on(undisturbed)


DRILLS = [  # those first that take Slurm its time
    the_time_limit_is_reached,
    a_node_is_killed,
    controller_restarted_mid_stage,
    kill_9_of_the_submitting_shell,
    kill_9_of_a_training,
    scancel_of_one_task,
    ctrl_c_of_the_submitting_shell,
    a_corrupt_checkpoint,
    a_full_disk,
    two_submissions_at_once,
]


@pytest.fixture(scope="module")
def played(request, cluster, mini_recipe, undisturbed, tmp_path_factory):
    """The drills that are asked for, {function: future}."""
    tests = (item for item in request.session.items if item.name.startswith("test_drill["))
    asked = [test.callspec.params["drill"] for test in tests]

    def play(play_drill):
        own = type(cluster)(tmp_path_factory.mktemp("slurm"))
        drill = Drill(own, drilled(mini_recipe, tmp_path_factory.mktemp("recipe")))
        try:
            own.control("start")
            play_drill(drill, undisturbed)
            assert not own.trouble()
        finally:
            own.control("stop")

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {drill: pool.submit(play, drill) for drill in asked}


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.__name__)
def test_drill(drill, played):
    played[drill].result()
