"""What a command line reports and returns."""

import errno
import signal

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
