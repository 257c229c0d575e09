"""The whole mini recipe, every stage, with networks of debug size; then what the README does."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEBUG = [
    *("--tse_config", "conf/train_tse_debug.yaml", "--ser_config", "conf/train_ser_debug.yaml"),
    *("--joint_config", "conf/train_tse_ser_debug.yaml", "--folds", "1 2"),
]
SYSTEMS = {"clean_clean", "clean_noisy", "noisy_noisy", "clean_denoised", "base", "ft"}


def copy_of_the_recipes(directory):
    """The recipes in a directory of their own, with this Python; the package is the real one."""
    ignore = shutil.ignore_patterns("data", "dump", "exp", "downloads")
    shutil.copytree(ROOT / "egs2", directory / "egs2", symlinks=True, ignore=ignore)
    (directory / "tools").mkdir()
    python = Path(sys.executable).parent
    (directory / "tools/activate_python.sh").write_text(f'export PATH="{python}:${{PATH}}"\n')
    (directory / "espnet_tse_ser").symlink_to(ROOT / "espnet_tse_ser")
    return directory / "egs2/mini_iemocap_mix/tse_ser1"


def run_recipe(recipe, *options):
    result = subprocess.run(
        ["./run.sh", *DEBUG, *options], cwd=recipe, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    recipe = copy_of_the_recipes(tmp_path_factory.mktemp("first"))
    run_recipe(recipe)
    return recipe


def test_results_hold_every_system_and_fold(recipe):
    results = json.loads((recipe / "exp/results.json").read_text())["results"]
    assert {r["system"] for r in results} == SYSTEMS
    for system in SYSTEMS:
        folds = {r["fold"]: r["n"] for r in results if r["system"] == system}
        assert folds == {"1": 64, "2": 64, "all": 128}
    ft = next(r for r in results if r["system"] == "ft" and r["fold"] == "all")
    low, high = ft["ua_ci"]
    assert 0 <= low <= ft["ua"] <= high <= 1
    assert ft["si_sdri"] == pytest.approx(ft["si_sdr"] - ft["si_sdr_mix"], abs=1e-5)
    assert {"same", "different"} == set(ft["by_gender_state"])


def test_plots_archives_and_table_are_there(recipe):
    assert "TSE-SER-ft" in (recipe / "exp/RESULTS.md").read_text()
    assert len(list((recipe / "exp/plots").glob("*.png"))) >= 3
    assert len(list((recipe / "exp").glob("tse_ser_*/fold*.zip"))) == 2


def test_a_second_run_recomputes_nothing(recipe):
    before = {p: p.stat().st_mtime_ns for d in ("dump", "exp") for p in (recipe / d).rglob("*.*")}
    start = time.monotonic()
    output = run_recipe(recipe)
    assert time.monotonic() - start < 15
    assert "done already" in output
    after = {p: p.stat().st_mtime_ns for d in ("dump", "exp") for p in (recipe / d).rglob("*.*")}
    assert after == before


def test_the_same_seed_gives_the_same_results(recipe, tmp_path):
    other = copy_of_the_recipes(tmp_path)
    run_recipe(other, "--stop_stage", "results")
    ours, theirs = ((r / "exp/results.json").read_text() for r in (recipe, other))
    assert ours == theirs


def test_the_readme_commands_run_on_what_was_trained(recipe):
    readme = (ROOT / "README.md").read_text()
    shell = next(b for b in re.findall(r"```bash\n(.*?)```", readme, re.S) if "bin.infer" in b)
    shell = shell.replace("tse_ser_default", "tse_ser_debug")
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(
        ["bash", "-e", "-c", shell],
        cwd=recipe.parents[2],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["sample_rate"] == 16000
    assert set(answer["probabilities"]) == {"ang", "hap", "neu", "sad"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert (recipe / "target.wav").stat().st_size > 1000

    python = next(b for b in re.findall(r"```python\n(.*?)```", readme, re.S))
    utt = (recipe / "data/mix/splits/fold1/test.lst").read_text().split()[0]
    read = "import soundfile\nread = lambda p: soundfile.read(p, dtype='float32')[0]\n"
    read += f"mixture = read('dump/mix/audio/mix/{utt}.flac')\nenrollment = mixture[:16000]\n"
    script = read + python.replace("tse_ser_default", "tse_ser_debug") + "\nprint(result.label)"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=recipe,
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in {"ang", "hap", "neu", "sad"}
