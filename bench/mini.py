"""The mini recipe with networks of debug size, run in a temporary directory for the benchmarks."""

import atexit
import functools
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.measure import now
from espnet_tse_ser.errors import UserError

ROOT = Path(__file__).parents[1]


@functools.cache
def mini_recipe(stop_stage="joint"):
    """The directory of the recipe, its stages run up to ``stop_stage``; gone when Python ends."""
    sys.path.append(str(ROOT / "test"))
    from recipes import copy_of_the_recipes, run_recipe

    directory = tempfile.TemporaryDirectory()
    atexit.register(directory.cleanup)
    recipe = copy_of_the_recipes(Path(directory.name))
    logging.info("running the mini recipe to stage %s in %s", stop_stage, recipe)
    run_recipe(recipe, "--stop_stage", stop_stage)
    return recipe


def environment(threads=1):
    """Of a command: this package, so many threads."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}


def command(name, *options):
    """``python -m espnet_tse_ser.bin.<name>`` with options, as a list."""
    return [sys.executable, "-m", f"espnet_tse_ser.bin.{name}", *map(str, options)]


def run(argv, cwd=ROOT):
    """Run a command: `Seconds` that it takes, and its stderr; `UserError` when it fails."""
    start = now()
    done = subprocess.run(argv, cwd=cwd, env=environment(), capture_output=True, text=True)
    seconds = now() - start
    if done.returncode != 0:
        raise UserError(f"{' '.join(map(str, argv))} failed:\n{done.stderr[-2000:]}")
    return seconds, done.stderr
