"""A mini recipe that is killed at random moments ends with the scores of one that was not.

KILLS=30 python -m pytest -s test/egs2/test_kills.py    for more kills than every test run has
"""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from recipes import copy_of_the_recipes, run_recipe, start_recipe

KILLS = int(os.environ.get("KILLS", 5))
STAGES = 14
LONGEST = 4.0  # seconds from the start of a stage to the kill
SYSTEMS = ("noisy_noisy", "ft")  # these come to every stage
FOLD = "1"
OPTIONS = ("--systems", " ".join(SYSTEMS), "--folds", FOLD, "--stop_stage", "results")


def below(pid):
    """Ids of all processes that a process has started, and of those that they have."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for one in found:
        found += children.get(one, [])
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def name_of(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "something that has just ended"
    return " ".join(Path(word).name for word in words)[:70]


def stage_in(recipe):
    """The number of the stage that the recipe's script has come to."""
    lines = (recipe / "output.txt").read_text().splitlines()
    stages = [line.split()[2] for line in lines if "] Stage " in line]
    return int(stages[-1]) if stages else 0


def results(recipe):
    """The results of `SYSTEMS` in the fold."""
    rows = json.loads((recipe / "exp/results.json").read_text())["results"]
    return [row for row in rows if row["system"] in SYSTEMS and row["fold"] == FOLD]


def test_killed_at_random_moments(mini_recipe, tmp_path):
    recipe = copy_of_the_recipes(tmp_path)
    choose = random.Random(0)
    # every stage gets its share, in order, so that all are come to
    stages = [1 + number * STAGES // KILLS for number in range(KILLS)]
    number = 0
    while number < KILLS:
        (recipe / "output.txt").unlink(missing_ok=True)
        process = start_recipe(recipe, *OPTIONS)
        while stage_in(recipe) < stages[number] and process.poll() is None:
            time.sleep(0.02)
        time.sleep(choose.uniform(0, LONGEST))
        processes = below(process.pid)
        if process.poll() is not None or not processes:  # too late: the last stage once more
            assert process.wait() == 0, (recipe / "output.txt").read_text()[-3000:]
            (recipe / "exp/RESULTS.md").unlink()
            continue
        number += 1
        everything = choose.random() < 0.5
        victim = choose.choice(processes)
        what = "everything" if everything else name_of(victim)
        where = stage_in(recipe)
        kill([process.pid, *processes] if everything else [victim])
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:  # the victim was not missed
            kill([process.pid, *below(process.pid)])
            process.wait()
        print(f"kill {number} in stage {where}, status {process.returncode}: {what}")
    run_recipe(recipe, *OPTIONS)
    assert {row["system"] for row in results(recipe)} == {*SYSTEMS}
    assert results(recipe) == results(mini_recipe)
    tables = [path.relative_to(recipe) for path in recipe.glob("exp/scores/*/*/fold*/hyp.tsv")]
    assert len(tables) == 2
    for table in tables:
        assert (recipe / table).read_text() == (mini_recipe / table).read_text(), table
    for pattern in (".lock*", ".job*", ".batch*", ".begun*", ".tmp.*", "*.pending.pth"):
        assert not list(recipe.glob(f"**/{pattern}"))
