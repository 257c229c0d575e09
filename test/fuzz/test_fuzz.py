"""Inputs of all kinds that are not what they should be: none is taken without a word.

FUZZ=5000 python -m pytest -s test/fuzz    for more inputs than every test run has
PYTHONPATH=.:test python test/fuzz/fuzz_run.py --only tables:17    for one of them
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = int(os.environ.get("FUZZ", 200))
FAMILIES = ("tables", "yaml", "weights", "audio", "options")
SEED = int(os.environ.get("FUZZ_SEED", 0))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Counts by family and outcome, and the failures, of one process that runs all inputs."""
    directory = tmp_path_factory.mktemp("fuzz")
    program = Path(__file__).with_name("fuzz_run.py")
    options = [
        "--cases",
        str(FUZZ),
        "--seed",
        str(SEED),
        "--report",
        str(directory / "report.json"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, program, *options, "--save", str(directory / "failures")],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert (directory / "report.json").exists(), f"exit status {done.returncode}"
    print(done.stdout)
    return json.loads((directory / "report.json").read_text()) | {"saved": directory / "failures"}


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_wrong_without_a_word(report, family):
    failures = [f for f in report["failures"] if f["case"].startswith(f"{family}:")]
    assert not failures, f"{json.dumps(failures, indent=1)}\n(inputs are in {report['saved']})"


def test_inputs_are_refused_and_taken(report):
    """Of each family some inputs of both kinds; else it would not be the inputs that are tried."""
    for family in FAMILIES:
        counts = report["counts"][family]
        assert sum(counts.values()) == FUZZ // len(FAMILIES)
        assert counts["refused"] > 0.2 * FUZZ / len(FAMILIES)
        assert sum(n for outcome, n in counts.items() if outcome.startswith("accepted, ")) > 0
