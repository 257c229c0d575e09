"""A real Slurm cluster of two nodes for the tests of this directory (cluster.sh)."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Cluster:
    """The cluster and the environment in which Slurm's clients find it."""

    def __init__(self, directory):
        self.directory = directory
        self.environment = {**os.environ, "SLURM_CONF": f"{directory}/slurm.conf"}

    def control(self, command, *node):
        """Run cluster.sh: start, stop, kill_node, start_node, kill_controller, ..."""
        result = subprocess.run(
            [HERE / "cluster.sh", command, self.directory, *node],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert result.returncode == 0, result.stderr

    def call(self, *words):
        """What a client of Slurm prints."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def jobs(self, fields="%i %T"):
        """One line for each task that waits or runs."""
        return self.call("squeue", "--noheader", "--array", f"--format={fields}").splitlines()

    def wait_until(self, condition, seconds=60):
        """Wait for ``condition()`` and return what it returns."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, (
                f"not within {seconds} s; jobs: {self.jobs('%i %T %r')}; nodes: {self.nodes()}"
            )
            time.sleep(0.2)
        return value

    def nodes(self):
        """Name, state and, for one that is out of service, Slurm's reason of each node."""
        return self.call("sinfo", "--noheader", "--Node", "--format=%N %T %E").splitlines()

    def trouble(self):
        """What a test leaves that would change the next one; empty if nothing."""
        try:
            if jobs := self.jobs():
                return f"jobs: {jobs}"
            # what has ended a moment ago may still hold its node
            self.wait_until(lambda: all(" idle " in f"{node} " for node in self.nodes()), 30)
        except (AssertionError, subprocess.CalledProcessError) as error:
            return str(error)
        return ""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    missing = [p for p in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(p)]
    if missing:
        pytest.skip(f"{' '.join(missing)} not installed: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("a cluster is started by root only")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.control("start")
        yield cluster
    finally:
        cluster.control("stop")


@pytest.fixture
def idle(cluster):
    """The cluster, without jobs and with both nodes in service, before and after the test."""
    yield cluster
    if trouble := cluster.trouble():
        cluster.control("stop")
        cluster.control("start")
        pytest.fail(f"the test left {trouble}")
