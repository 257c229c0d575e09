"""Steps of `tse_ser.sh` that fail, are stopped, wait for others or are bounded."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shell_recipes import REAL, bash, calls, run, start, wait_for


def test_a_failing_step_stops_with_the_end_of_its_log(recipe, run_pl):
    result = run(recipe, FAIL_ON="tse_stats")
    assert result.returncode == 1
    assert "error: asked to fail" in result.stderr
    log = "exp/tse_stats_default/log/tse_stats.log"
    assert f"failed: exp/tse_stats_default (log in {log})" in result.stderr
    assert f"--- end of {log}" in result.stderr
    assert not (recipe / "exp/tse_stats_default/.done").exists()
    assert "tse_train" not in (recipe / "calls.txt").read_text()
    assert run(recipe, "--stop_stage tse_stats").returncode == 0


def test_a_failing_training_lets_the_others_finish(recipe, run_pl):
    options = '--folds "1 2 3" --max_jobs 3 --stop_stage ser --systems noisy_noisy'
    result = run(recipe, options, FAIL_ON="ser_noisy_default/fold2", SECONDS_A_CALL="0.05")
    assert result.returncode == 1
    assert "failed: exp/ser_noisy_default/fold2" in result.stderr
    done = sorted(p.parent.name for p in recipe.glob("exp/ser_noisy_default/*/.done"))
    assert done == ["fold1", "fold3"]
    calls(recipe)
    assert run(recipe, options).returncode == 0
    assert len(calls(recipe)) == 1


def test_max_jobs_bounds_the_trainings(recipe, run_pl):
    stand_in = (recipe / "stand_in").read_text()
    (recipe / "stand_in").write_text(
        stand_in + "if [[ $2 == *.ser_train ]]; then\n"
        "touch busy.$$; beside=(busy.*); echo ${#beside[@]} >> counts.txt\n"
        "sleep 0.3; rm busy.$$\nfi\n"
    )
    options = "--max_jobs 2 --stop_stage ser --systems noisy_noisy"
    assert run(recipe, options).returncode == 0
    counts = [int(line) for line in (recipe / "counts.txt").read_text().split()]
    assert len(counts) == 5
    assert max(counts) == 2


def test_a_signal_ends_the_running_steps_and_the_next_run_goes_on(recipe, run_pl):
    options = "--systems clean_clean --folds '1 2 3'"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    calls(recipe)
    command = f"exec ./run.sh --python ./stand_in {options} --stop_stage ser --max_jobs 2"
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=recipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SECONDS_A_CALL": "60",
        },
    )
    begun = recipe / "exp/ser_clean_default/fold1/.begun"
    for _ in range(1000):
        if begun.exists() and (recipe / "calls.txt").exists():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in errors
    assert not (recipe / "exp/ser_clean_default/fold1/.done").exists()
    calls(recipe)
    result = run(recipe, f"{options} --stop_stage ser")
    assert result.returncode == 0
    assert "fold1: going on with what was begun" in result.stdout
    assert {c.split()[0] for c in calls(recipe)} == {"ser_train"}


def test_two_scripts_at_once(recipe, run_pl):
    options = "--systems noisy_noisy --folds 1"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    first = start(recipe, f"{options} --stop_stage ser", SECONDS_A_CALL="3")
    lock = recipe / "exp/ser_noisy_default/fold1/.lock"
    pid = wait_for(lambda: lock.exists() and lock.read_text().split()[1])
    second = run(recipe, options)
    assert second.returncode == 1
    assert (
        f"exp/ser_noisy_default/fold1: process {pid} on {os.uname().nodename} is working on it"
        in second.stderr
    )
    assert f"remove {lock.relative_to(recipe)}" in second.stderr
    assert first.wait(30) == 0
    assert sum(c.startswith("ser_train") for c in calls(recipe)) == 1
    assert not lock.exists()
    # another fold is another matter
    first = start(recipe, f"{options} --stage ser --stop_stage ser --folds 2", SECONDS_A_CALL="3")
    wait_for((recipe / "exp/ser_noisy_default/fold2/.lock").exists)
    assert run(recipe, options).returncode == 0
    assert first.wait(30) == 0


def processes_in(directory):
    """Command lines of the processes that work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_text())
    return found


def test_a_script_that_is_killed_leaves_nothing_behind(recipe, run_pl):
    options = "--systems noisy_noisy --folds '1 2'"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    calls(recipe)
    killed = start(recipe, f"{options} --stop_stage ser", SECONDS_A_CALL="60")
    lock = recipe / "exp/ser_noisy_default/fold1/.lock"
    wait_for(lambda: (recipe / "calls.txt").exists())
    script = int(lock.read_text().split()[1])
    os.kill(script, signal.SIGKILL)
    killed.wait(10)
    assert lock.exists() and "group" in lock.read_text()
    result = run(recipe, f"{options} --stop_stage ser")
    assert result.returncode == 0, result.stderr
    assert not processes_in(recipe)
    assert not list(recipe.glob("**/.lock*")) and not list(recipe.glob("exp/.batch*"))


def test_a_lock_of_another_machine_is_respected(recipe):
    directory = recipe / "dump/mix"
    directory.mkdir(parents=True)
    (directory / ".lock").write_text("elsewhere 12 3456\nsince yesterday by: ./tse_ser.sh\n")
    result = run(recipe, "--stop_stage simulate")
    assert result.returncode == 1
    assert (
        "dump/mix: process 12 on elsewhere is working on it (since yesterday by: ./tse_ser.sh); "
        "wait for it or stop it. If it has ended (or its machine), remove dump/mix/.lock"
    ) in result.stderr
    (directory / ".lock").unlink()
    assert run(recipe, "--stop_stage simulate").returncode == 0


def test_after_ctrl_c_the_jobs_have_ended(recipe, run_pl):
    # They get their time to save; nobody else may begin before.
    assert run(recipe, "--stop_stage mixture_table").returncode == 0
    (recipe / "stand_in").write_text(
        REAL + "trap 'sleep 2; echo saved >>saved; exit 75' TERM\n"
        "echo started >>calls.txt; sleep 30 & wait $!\n"
    )
    calls(recipe)
    process = start(recipe, "--stage simulate --stop_stage simulate")
    wait_for((recipe / "calls.txt").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert (recipe / "saved").read_text() == "saved\n"


@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=4"])
def test_marks_on_a_full_disk_do_not_block_what_follows(options, recipe):
    assert run(recipe, "--stop_stage mixture_table").returncode == 0
    place = recipe / "dump/mix"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", place]
    if os.getuid() != 0 or subprocess.run(mount).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        fill = "head -c 4096 /dev/zero >fill; touch fill1 fill2 fill3; true"
        bash(fill, place)
        result = run(recipe, "--stage simulate --stop_stage simulate")
        assert result.returncode == 1
        assert "dump/mix" in result.stderr and "make room" in result.stderr
        bash("rm -f fill*; mount -o remount,size=1m,nr_inodes=100 .", place)
        result = run(recipe, "--stage simulate --stop_stage simulate")
        assert result.returncode == 0, result.stderr
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
