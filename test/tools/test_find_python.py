"""Which Python `make -C tools` takes: of PATH, pyenv or uv, in this order; none that cannot run."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools/find_python.sh"
FITS, SHIM = "exit 0", "echo 'pyenv: command not found' >&2; exit 127"
ABSENT = {f"bin/{name}": SHIM for name in ("python3.12", "python3.13", "pyenv", "uv")}


@pytest.fixture
def find(tmp_path):
    """Write programs, dict place -> text of a shell script, and look for a Python."""

    def find(programs, *args, **environment):
        for place, text in (ABSENT | programs).items():
            path = tmp_path / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        environment |= {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.defpath}"}
        found = subprocess.run([SCRIPT, *args], env=environment, capture_output=True, text=True)
        return found.returncode, found.stdout.strip().replace(f"{tmp_path}/", ""), found.stderr

    return find


PYENV = {
    ".pyenv/versions/3.11.7/bin/python3.11": FITS,
    ".pyenv/versions/3.12.0/bin/python3.12": SHIM,  # a broken one
    ".pyenv/versions/3.13.0/bin/python3.13": FITS,
}
UV = {"bin/uv": 'echo "${HOME}/uv/3.12/python"', "uv/3.12/python": FITS}


@pytest.mark.parametrize(
    ("programs", "place"),
    [
        (PYENV | UV | {"bin/python3.13": FITS}, "bin/python3.13"),
        (PYENV | UV, ".pyenv/versions/3.13.0/bin/python3.13"),
        (UV, "uv/3.12/python"),
    ],
)
def test_the_first_that_can_run(find, programs, place):
    assert find(programs) == (0, place, "")


def test_pyenv_elsewhere(find, tmp_path):
    programs = {"pyenv/versions/3.12.1/bin/python3.12": FITS}
    assert find(programs, PYENV_ROOT=f"{tmp_path}/pyenv")[:2] == (0, next(iter(programs)))
    program = {"bin/pyenv": f'[ "$1" = root ] && echo {tmp_path}/pyenv'}
    assert find(program)[:2] == (0, next(iter(programs)))


def test_none(find):
    status, found, message = find({})
    assert (status, found) == (1, "")
    assert message.startswith("No Python 3.12 or 3.13 ") and message.count("\n") == 1
    assert "pyenv install 3.12" in message and "make -C tools PYTHON=/path/to" in message


def test_one_that_was_named(find, tmp_path):
    one = f"{tmp_path}/mine/python"
    assert find({"mine/python": FITS}, one) == (0, "mine/python", "")
    status, found, message = find(PYENV | {"mine/python": "exit 1"}, one)
    assert (status, found) == (1, "") and message.startswith(f"{one} is not Python 3.12 or 3.13")
