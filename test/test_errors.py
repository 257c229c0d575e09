"""What a command line reports and returns."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError, deferred_interrupt, run


def raising(error):
    def main(argv=None):
        raise error

    return main


def test_status_of_success():
    seen = []
    assert run(lambda argv: seen.append(argv), ["--x", "1"]) == 0
    assert seen == [["--x", "1"]]
    assert run(lambda argv: 3) == 3


@pytest.mark.parametrize(
    "error, status, message",
    [
        (UserError("a.wav: is silent; drop its id"), 2, "error: a.wav: is silent; drop its id"),
        (
            UserError("a\nb\r: \x1b[2J 'c\udcff\u2028d' é"),
            2,
            "error: a\\nb\\r: \\x1b[2J 'c\\udcff\\u2028d' é",
        ),
        (
            UserError("2 violations:", ["of x\ny", "of z"]),
            2,
            "error: 2 violations:\n  of x\\ny\n  of z",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a\nb.wav"),
            2,
            r"error: a\nb.wav: Permission denied; choose another place",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted; nothing unfinished was marked as done"),
        (
            OSError(errno.ENOSPC, "No space left on device", "dump/a.flac"),
            2,
            "error: no space left on the device while writing dump/a.flac; free some space and "
            "run the same command again",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a.wav"),
            2,
            "error: /a.wav: Permission denied; choose another place",
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "exp"),
            2,
            "error: exp: File exists; a directory is needed there; move the file or choose another "
            "place",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "exp/a"),
            2,
            "error: exp/a: Not a directory; a part of the path is a file; move it or choose "
            "another place",
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "a.wav"),
            2,
            "error: a.wav: Is a directory; a file is needed there; choose another name",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.wav"),
            2,
            "error: a.wav: No such file or directory; check the path",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            2,
            "error: no space left on the device while writing the output directory; free some "
            "space and run the same command again",
        ),
    ],
)
def test_a_users_trouble_is_one_line(error, status, message, capsys):
    assert run(raising(error)) == status
    captured = capsys.readouterr()
    assert captured.err == message + "\n" and captured.out == ""


def test_a_job_for_the_queue_ends_with_its_status(capsys):
    with pytest.raises(SystemExit) as end:
        run(raising(Requeue()))
    assert end.value.code == REQUEUE_STATUS == 75
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [ValueError("a defect"), OSError(errno.EIO, "I/O error"), FileNotFoundError(errno.ENOENT, "")],
)
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(raising(error))


PROGRAM = """
import sys
from espnet_tse_ser.errors import run

def main(argv):
    for _ in range({lines}):
        print("x" * 100, file=sys.{stream})
    {end}

sys.exit(run(main))
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("lines", [1, 5000], ids=["one line", "more than a buffer"])
@pytest.mark.parametrize("end", ["return 0", "sys.exit(0)", "raise OSError('a defect')"])
def test_what_nobody_reads_ends_quietly(stream, lines, end):
    program = PROGRAM.format(lines=lines, stream=stream, end=end)
    reading, writing = os.pipe()
    os.close(reading)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    done = subprocess.run([sys.executable, "-c", program], **pipes)
    os.close(writing)
    assert not done.stdout and not done.stderr
    assert done.returncode == 128 + signal.SIGPIPE


def test_a_full_disk_behind_standard_output_is_said():
    with open("/dev/full", "w") as full:
        program = PROGRAM.format(lines=1, stream="stdout", end="return 0")
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: no space left on the device")
    assert len(done.stderr.splitlines()) == 1


def test_no_standard_output_at_all():
    program = PROGRAM.format(lines=1, stream="stdout", end="return 0")
    command = ["bash", "-c", 'exec "$@" >&-', "-", sys.executable, "-c", program]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_another_broken_pipe_is_a_defect():
    """As of a worker process that died."""
    with pytest.raises(BrokenPipeError):
        run(raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))


def test_an_interrupt_waits_until_a_library_is_done():
    passed = []
    with pytest.raises(KeyboardInterrupt):
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            passed.append("the body")
        passed.append("what follows")
    assert passed == ["the body"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with deferred_interrupt():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
