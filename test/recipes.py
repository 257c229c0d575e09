"""Copies of the recipes for the tests that run them, with networks of debug size."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import forked_commands

ROOT = Path(__file__).parents[1]
DEBUG = [
    *("--tse_config", "conf/train_tse_debug.yaml", "--ser_config", "conf/train_ser_debug.yaml"),
    *("--joint_config", "conf/train_tse_ser_debug.yaml", "--folds", "1 2", "--num_threads", "1"),
    *("--nj", "2"),  # the last digits depend on what is extracted in one batch
    *("--sweeps", "none"),
]
RUN_SECONDS = 900  # a run takes a tenth of it; one that hangs is a failure like others


def copy_of_the_recipes(directory):
    """The recipes in a directory of their own, with this Python; the package is the real one.

    Returns:
        the mini recipe's directory.
    """
    ignore = shutil.ignore_patterns("data", "dump", "exp", "downloads")
    shutil.copytree(ROOT / "egs2", directory / "egs2", symlinks=True, ignore=ignore)
    (directory / "tools").mkdir()
    python = Path(sys.executable).parent
    (directory / "tools/activate_python.sh").write_text(f'export PATH="{python}:${{PATH}}"\n')
    (directory / "espnet_tse_ser").symlink_to(ROOT / "espnet_tse_ser")
    return recipe_in(directory)


def recipe_in(directory):
    """The mini recipe of a copy of the recipes."""
    return directory / "egs2/mini_iemocap_mix/tse_ser1"


def give_corpora(recipe, mini_corpora):
    """Let a mini recipe find the corpora that it would make."""
    (recipe / "downloads").mkdir()
    (recipe / "downloads/mini").symlink_to(mini_corpora)


def named_sweeps(recipe):
    """The sweeps that a recipe's ``run.sh`` names, which may be patterns; None for all."""
    named = re.search(r'^ +--sweeps "(.*)"', (recipe / "run.sh").read_text(), re.MULTILINE)
    return named and named[1]


def declare(recipe, name, **options):
    """Add a system to a copy of the recipes, below those that are there."""
    lines = [f"{key}: {value}\n" for key, value in {"label": name, "row": 9, **options}.items()]
    (recipe / f"conf/systems/{name}.yaml").write_text("".join(lines))


def start_recipe(recipe, *options, environment=None, debug=None):
    """Start ``run.sh`` as the leader of a session, as a terminal would; its output goes to a file.

    Returns:
        the process; its output is appended to ``<recipe>/output.txt``.
    """
    with open(recipe / "output.txt", "a", encoding="utf-8") as output:
        return subprocess.Popen(
            ["./run.sh", *(DEBUG if debug is None else debug), *options],
            cwd=recipe,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment or os.environ,
            start_new_session=True,
            # Tests that run in the background ignore Ctrl-C, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def run_recipe(recipe, *options, environment=None, debug=None):
    """Run ``run.sh`` to its end, which has to be a good one, and return what it prints.

    ``debug``: options in place of `DEBUG`. Its commands are forks, unless a ``--python`` is given;
    those of `start_recipe` are what they are for a user.
    """
    (recipe / "output.txt").unlink(missing_ok=True)
    if "--python" not in options:
        options = ("--python", forked_commands.python(), *options)
    process = start_recipe(recipe, *options, environment=environment, debug=debug)
    try:
        status = process.wait(RUN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        status = f"none after {RUN_SECONDS} s"
    output = (recipe / "output.txt").read_text()
    assert status == 0, f"exit status {status}:\n{output[-6000:]}"
    return output
