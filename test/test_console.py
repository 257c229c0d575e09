"""The command ``tse-ser``: its verbs, their help, and how fast it comes."""

import resource
import subprocess
import sys

import pytest

from espnet_tse_ser import console

HEAVY = {"torch", "espnet2", "numpy", "soundfile", "matplotlib", "scipy", "yaml"}


def _command(*words):
    command = [sys.executable, "-m", "espnet_tse_ser", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_verbs():
    for words in ([], ["--help"], ["-h"]):
        done = _command(*words)
        assert done.returncode == 0 and done.stderr == ""
        assert all(f"\n  {verb} " in done.stdout for verb in console.VERBS)


def test_what_is_no_verb(capsys):
    assert console.main(["infre"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: 'infre' is no verb of tse-ser; give infer, ")


def test_errors_are_one_line(capsys):
    assert console.main(["compare", "none", "none"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: none: no such table") and err.count("\n") == 1


@pytest.mark.parametrize("verb", console.VERBS)
def test_help_is_quick(verb):
    code = (
        "import sys\nfrom espnet_tse_ser import console\n"
        f"try:\n    console.main([{verb!r}, '--help'])\n"
        f"except SystemExit:\n    sys.exit(str({HEAVY!r} & set(sys.modules) or '') or 0)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: tse-ser {verb}")
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    )  # of a busy CPU


def test_version(capsys):
    assert console.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("espnet_tse_ser 0.")
