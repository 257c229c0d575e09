"""Of several who want a directory one gets it, and nobody who has gone keeps it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs import locks
from espnet_tse_ser.jobs.lifetime import identity, is_gone, start_of

HOST = os.uname().nodename
MINE = f"{identity()}\nsince now\n"
GONE = f"{HOST} {os.getpid()} 1\nsince then\n"  # the id is another process' now


def nobody(content):
    return None


def holder(content):
    return None if is_gone(locks.holder_of(content)) else content.split()[1]


def test_a_lock_is_made_whole_and_released(tmp_path):
    path = tmp_path / ".lock"
    assert locks.take(str(path), MINE, holder) is None
    assert path.read_text() == MINE and os.listdir(tmp_path) == [".lock"]
    assert locks.take(str(path), MINE, holder) == str(os.getpid())
    assert os.listdir(tmp_path) == [".lock"]
    locks.release(str(path))
    locks.release(str(path))
    assert os.listdir(tmp_path) == []


def test_a_lock_of_who_has_gone_is_taken_and_what_else_is_left_goes(tmp_path):
    path = tmp_path / ".lock"
    for name in (".lock", ".lock.123", ".lock.123.stale", ".lock.other"):
        (tmp_path / name).write_text(GONE)
    (tmp_path / ".lock.kept").write_text("elsewhere 1 1\n")
    (tmp_path / ".locked").write_text(GONE)
    assert locks.take(str(path), MINE, holder) is None
    assert sorted(os.listdir(tmp_path)) == [".lock", ".lock.kept", ".locked"]
    assert path.read_text() == MINE


def test_it_waits_for_the_holder_and_says_so_once(tmp_path, monkeypatch):
    path = tmp_path / ".job"
    path.write_text(MINE)
    told, slept = [], []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            path.unlink()

    monkeypatch.setattr(locks.time, "sleep", sleep)
    assert locks.take(str(path), MINE, holder, 60, told.append) is None
    assert told == [str(os.getpid())] and len(slept) == 3


def test_a_lock_that_was_taken_over_meanwhile_is_put_back(tmp_path):
    path = tmp_path / ".lock"
    path.write_text(GONE)
    theirs = f"elsewhere 7 7\n{MINE}"
    seen = []

    def find(content):
        seen.append(content)
        if len(seen) == 1:  # another one takes it between our look and our rename
            path.write_text(theirs)
            return None
        return "them"

    assert locks.take(str(path), MINE, find) == "them"
    assert seen == [GONE, theirs] and path.read_text() == theirs
    assert os.listdir(tmp_path) == [".lock"]


def test_of_many_who_find_a_stale_lock_one_gets_it(tmp_path):
    path = tmp_path / ".lock"
    script = (
        "import os, sys, time; from espnet_tse_ser.jobs import locks\n"
        "from espnet_tse_ser.jobs.lifetime import identity, is_gone\n"
        "find = lambda content: None if is_gone(locks.holder_of(content)) else 'other'\n"
        "sys.stdin.readline()\n"
        "print(locks.take(sys.argv[1], identity() + '\\n', find), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    for _ in range(3):
        path.write_text(GONE)
        command = [sys.executable, "-S", "-c", script, path]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        takers = [subprocess.Popen(command, env=environment, **pipes) for _ in range(6)]
        for taker in takers:
            taker.stdin.write("\n")
            taker.stdin.flush()
        answers = [taker.stdout.readline().strip() for taker in takers]
        assert sorted(answers) == ["None"] + 5 * ["other"]
        for taker in takers:
            taker.communicate("\n")
        path.unlink()
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["directory", "no directory"])
def test_a_lock_that_cannot_be_made(tmp_path, kind):
    path = tmp_path / ".lock" if kind == "directory" else tmp_path / "no/.lock"
    if kind == "directory":
        path.mkdir()
    with pytest.raises(UserError, match=r"\.lock: cannot be made .*: make room, or choose another"):
        locks.take(str(path), MINE, nobody)
    assert os.listdir(tmp_path) == ([".lock"] if kind == "directory" else [])


def test_who_is_gone():
    process = subprocess.Popen(["sleep", "30"])
    text = f"{HOST} {process.pid} {start_of(process.pid)}"
    assert not is_gone(text) and not is_gone(identity())
    process.kill()
    assert process.wait() and is_gone(text)
    for other in ("", "elsewhere 1 1", f"{HOST}x {process.pid} 1", "\0 1 1"):
        assert not is_gone(other)
