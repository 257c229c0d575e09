"""The whole mini recipe, every stage, with networks of debug size; then what the README does."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from recipes import ROOT, run_recipe

SYSTEMS = {"clean_clean", "clean_noisy", "noisy_noisy", "clean_denoised", "base", "ft"}


@pytest.fixture(scope="module")
def recipe(mini_recipe):
    return mini_recipe


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
