"""The table of how far the steps of a recipe are."""

import io
import os
import subprocess
import sys

import pytest

from espnet_tse_ser.bin import status
from espnet_tse_ser.errors import UserError

EPOCHS = "epoch\tvalid_ua\n1\t0.5\n2\t0.621\n"


def run(monkeypatch, capsys, *lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    status.main([])
    return capsys.readouterr().out.splitlines()


def test_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for directory in ("tse", "clean/fold1/log", "clean/fold2", "noisy/fold1/log"):
        os.makedirs(directory)
    with open("tse/epochs.tsv", "w") as stream:
        stream.write("epoch\tvalid_si_snr_loss\n1\t-9.16\n")
    open("tse/.done.tse", "w").close()
    for name, text in {
        "clean/fold1/.done": "",
        "clean/fold1/epochs.tsv": EPOCHS,
        "clean/fold2/.lock": "elsewhere 1 2\n",
        "noisy/fold1/.begun": "",
        "noisy/fold1/log/ser_train.log": "error: no data\n# Ended (code 2) at noon\n",
    }.items():
        with open(name, "w") as stream:
            stream.write(text)
    lines = run(
        monkeypatch,
        capsys,
        "TSE\tall\ttse\ttse\ttse_train",
        "SER clean\tfold 1\tclean/fold1\t\tser_train",
        "SER clean\tfold 2\tclean/fold2\t\tser_train",
        "SER noisy\tfold 1\tnoisy/fold1\t\tser_train",
        "SER noisy\tfold 2\tnoisy/fold2\t\tser_train",
    )
    assert lines == [
        "           all          fold 1     fold 2",
        "TSE        done 9.2 dB",
        "SER clean               done 62.1  queued",
        "SER noisy               FAILED     -",
        "2 done, 1 queued, 1 FAILED, 1 not started",
        "FAILED: noisy/fold1/log/ser_train.log (exit status 2): error: no data",
    ]


def test_no_standard_input_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)  # as of a command whose input is closed (<&-)
    with pytest.raises(UserError, match="standard input: names no step"):
        status.main([])


@pytest.mark.parametrize(
    "lines, message",
    [
        ([], "standard input: names no step; give one line for each"),
        (["a\t1\td\t\tc", "a\t2\td\tc"], r"line 2: expected row, .* but got 'a\\t2\\td\\tc'"),
        (["a\t1\t\t\tc"], "line 1: expected row, "),
        ([""], "line 1: expected row, "),
        (["a\t1\td\t\tc\tmore"], "line 1: expected row, "),
        (["a\t1\td\t\tc", "a\t1\te\t\tc"], "line 2: row 'a' has column '1' already"),
    ],
)
def test_malformed_input(monkeypatch, capsys, lines, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, capsys, *lines)


def test_it_starts_fast():
    program = (
        "import sys; before = {*sys.modules}; import espnet_tse_ser.bin.status; "
        "own = {m.partition('.')[0] for m in {*sys.modules} - before}; "
        "print(own - sys.stdlib_module_names)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "{'espnet_tse_ser'}", done.stderr
