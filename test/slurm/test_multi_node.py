"""Training on two nodes through espnet2.bin.launch, on CPU with gloo."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from recipes import copy_of_the_recipes, run_recipe, start_recipe

from espnet_tse_ser.files import read_tsv

FOLD = "exp/ser_noisy_debug/fold1"
OPTIONS = [
    *("--systems", "noisy_noisy", "--folds", "1"),
    *("--stage", "ser_stats", "--stop_stage", "ser"),
]


@pytest.fixture
def recipe(mini_recipe, tmp_path):
    recipe = copy_of_the_recipes(tmp_path)
    for name in ("data", "dump"):
        (recipe / name).symlink_to(mini_recipe / name)
    shutil.copytree(mini_recipe / "exp/ser_stats_debug", recipe / "exp/ser_stats_debug")
    return recipe


def slurm(cluster):
    return {**cluster.environment, "cmd_backend": "slurm"}


def test_two_nodes_train_like_one(idle, mini_recipe, recipe):
    options = [*OPTIONS, "--num_nodes", "2", "--python", "python3"]
    run_recipe(recipe, *options, environment=slurm(idle))
    log = (recipe / FOLD / "log/ser_train.log").read_text()
    assert log.count("1/2epoch started") == 1  # the first of two processes tells
    assert "[" + os.uname().nodename + ":0/2]" in log
    assert not list(recipe.glob("exp/**/.dist_init_*"))
    ours, theirs = (read_tsv(r / FOLD / "epochs.tsv") for r in (recipe, mini_recipe))
    assert [row["epoch"] for row in ours] == ["1", "2"]
    for name in ("train_loss", "valid_loss"):
        # dropout and SpecAugment differ between the processes
        assert float(ours[-1][name]) == pytest.approx(float(theirs[-1][name]), rel=0.1), name


def test_slurms_warning_reaches_every_process(idle, mini_recipe, recipe):
    options = [*OPTIONS, "--num_nodes", "2", "--ser_args", "--max_epoch 12"]
    process = start_recipe(recipe, *options, environment=slurm(idle))
    epochs = recipe / FOLD / "epochs.tsv"
    idle.wait_until(epochs.exists, 120)
    idle.call("scancel", "--batch", "--signal=USR1", idle.jobs("%i")[0])
    assert process.wait(180) == 0, (recipe / "output.txt").read_text()
    said = (recipe / FOLD / "log/ser_train.launch.log").read_text()
    assert "its work is saved; submitting it again" in said
    log = (recipe / FOLD / "log/ser_train.log").read_text()
    assert "SIGUSR1: saved epoch" in log and "going on with" in log
    assert len(read_tsv(epochs)) == 12


def test_a_process_that_is_killed_ends_the_others(idle, recipe):

    options = [*OPTIONS, "--num_nodes", "2", "--ser_args", "--max_epoch 50"]
    process = start_recipe(recipe, *options, environment=slurm(idle))
    idle.wait_until((recipe / FOLD / "epochs.tsv").exists, 120)
    found = subprocess.run(
        ["pgrep", "-f", f"^python3 .*--output_dir {FOLD} .*dist_launcher"],
        capture_output=True,
        text=True,
    ).stdout.split()
    os.kill(int(found[-1]), signal.SIGKILL)
    killed = time.monotonic()
    assert process.wait(400) == 1
    assert time.monotonic() - killed < 330
    assert f"failed: {FOLD}" in (recipe / "output.txt").read_text()
