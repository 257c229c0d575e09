"""Batches made in a thread: what comes out, what fails, and how it and its process end."""

import json
import subprocess
import sys
import threading
import time

import pytest
import torch

from espnet_tse_ser.training.prefetching import Prefetched, PrefetchingLoader


class Numbers(torch.utils.data.Dataset):
    """0, 1, 2 ...; at ``bad`` there is an error."""

    def __init__(self, size, bad=None):
        self.size, self.bad, self.made = size, bad, 0

    def __len__(self):
        return self.size

    def __getitem__(self, number):
        self.made += 1
        if number == self.bad:
            raise ValueError(f"number {number}")
        return number


def _threads():
    return [t for t in threading.enumerate() if t.name.startswith("prefetching")]


def test_all_batches_in_their_order():
    loader = PrefetchingLoader(Numbers(10), batch_size=4)
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(PrefetchingLoader(Numbers(0), batch_size=4)) == [] and not _threads()


def test_an_error_is_raised_where_its_batch_is_asked_for():
    batches = iter(PrefetchingLoader(Numbers(10, bad=5), batch_size=2))
    assert [next(batches).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="number 5"):
        next(batches)
    assert list(batches) == [] and not _threads()


def test_some_are_made_ahead_and_no_more():
    numbers = Numbers(10**6)
    batches = iter(PrefetchingLoader(numbers, batch_size=1))
    for asked in range(4):
        deadline = time.monotonic() + 10
        while numbers.made < asked + Prefetched.AHEAD and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert numbers.made == asked + Prefetched.AHEAD
        next(batches)
    batches.close()
    assert not _threads() and list(batches) == []
    batches.close()


def test_the_thread_ends_with_its_iterator():
    batches = iter(PrefetchingLoader(Numbers(10**6), batch_size=1))
    (thread,) = _threads()
    del batches
    thread.join(10)
    assert not thread.is_alive()


# A process whose thread is within PyTorch when it comes to its end, in each of these ways.
PROGRAM = """
import json, os, sys, time
import torch
from espnet_tse_ser.training.prefetching import PrefetchingLoader
from espnet_tse_ser.errors import Requeue, UserError, run

class Busy(torch.utils.data.Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, number):
        signal = torch.ones(50000)
        for _ in range(5):
            signal = torch.fft.rfft(signal).real.repeat(2)[:50000]
        return signal

def end(error):
    batches = iter(PrefetchingLoader(Busy(), batch_size=8))
    next(batches)
    time.sleep(0.01)
    if error is not None:
        raise error
    globals()["batches"] = batches  # nobody has closed it, and it is still there

torch.set_num_threads(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
statuses = []
for error in (None, Requeue(), UserError("x"), KeyboardInterrupt(), ValueError("x")) * 2:
    child = os.fork()
    if child == 0:
        sys.exit(run(lambda _: end(error)))
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


def test_how_a_process_ends_while_its_thread_is_at_work():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert json.loads(done.stdout) == [0, 75, 2, 130, 1] * 2, done.stderr
