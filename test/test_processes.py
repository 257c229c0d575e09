"""Processes from a server: which signals end them, and that none of them is left."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import children
import pytest

from espnet_tse_ser.processes import end_with_parent, start_server
from espnet_tse_ser.progress import map_progress


def _wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _note_and_sleep(path, own_end):
    if own_end:
        end_with_parent()
    Path(f"{path}.tmp").write_text(str(os.getpid()))
    os.replace(f"{path}.tmp", path)
    time.sleep(60)


def _start_and_sleep(paths, blocked):
    """The parent of a process for each path."""
    start_server([], blocked)
    for path in paths:
        multiprocessing.Process(target=_note_and_sleep, args=(path, True), daemon=True).start()
    time.sleep(60)


@pytest.fixture
def family(tmp_path):
    """A parent and the ids of two processes of its own."""
    paths = [tmp_path / "1", tmp_path / "2"]
    parent = children.start(_start_and_sleep, paths, [signal.SIGUSR1])
    _wait_for(lambda: all(path.exists() for path in paths))
    yield parent, [int(path.read_text()) for path in paths]
    if parent.is_alive():
        os.killpg(parent.pid, signal.SIGKILL)


def _gone(pid):
    return not Path(f"/proc/{pid}").exists()


def test_they_end_with_the_one_that_wanted_them_however_it_ends(family):
    parent, pids = family
    parent.kill()
    _wait_for(lambda: all(map(_gone, pids)), 5)


def test_they_obey_no_signal_but_their_parents(family):
    parent, pids = family
    for number in (signal.SIGTERM, signal.SIGUSR1):
        for pid in pids:
            os.kill(pid, number)
    time.sleep(0.2)
    assert not any(map(_gone, pids))
    parent.kill()


def _ask_to_end(path):
    start_server([], [])
    process = multiprocessing.Process(target=_note_and_sleep, args=(path, True))
    process.start()
    _wait_for(path.exists)
    process.terminate()
    process.join(30)
    return 0 if process.exitcode == 0 else 1


def test_they_obey_their_parent(tmp_path):
    assert children.end(children.start(_ask_to_end, tmp_path / "1")) == 0


def _note(path):
    _note_and_sleep(path, own_end=False)


def _map(paths):
    map_progress(_note, paths, "notes", nj=2)


def test_no_process_of_a_map_is_left(tmp_path):
    paths = [tmp_path / str(number) for number in range(16)]  # eight are sent at a time
    parent = children.start(_map, paths)
    _wait_for(lambda: paths[0].exists() and paths[8].exists())
    pids = [int(paths[number].read_text()) for number in (0, 8)]
    parent.kill()
    _wait_for(lambda: all(map(_gone, pids)), 5)


def test_the_parent_keeps_its_own_signals(tmp_path):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert children.end(children.start(_mask_stays, before)) == 0


def _mask_stays(before):
    start_server([], [signal.SIGTERM, signal.SIGUSR1])
    return 0 if signal.pthread_sigmask(signal.SIG_BLOCK, []) == before else 1
