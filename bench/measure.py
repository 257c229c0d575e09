"""Timing two ways of doing the same, in turns: ours, theirs, ours, theirs, ...

The sides of a pair run one after the other, so that what else the machine does hits both, and the
ratio is taken pair by pair. CPU seconds stand beside those of the clock: they count what other
processes take less.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from espnet_tse_ser.errors import UserError

TURN_SECONDS = 0.3  # a turn repeats its step until it takes about as long


class Unequal(UserError):
    """The two sides of a case do not compute the same, so their times cannot be compared."""


class Seconds(NamedTuple):
    """Of the clock, and of CPU: all threads, and child processes that have ended."""

    clock: float
    cpu: float

    def __add__(self, other):
        return Seconds(self.clock + other.clock, self.cpu + other.cpu)

    def __sub__(self, other):
        return Seconds(self.clock - other.clock, self.cpu - other.cpu)

    def __truediv__(self, number):
        return Seconds(self.clock / number, self.cpu / number)


@dataclass
class Case:
    """One comparison.

    Args:
        name: unique in its module.
        ours, theirs: build one side; return its step, a callable without arguments. A step that
            returns `Seconds` has timed itself (in another process); one with a ``close`` method
            has it called at the end.
        equal: returns a few words on how equal the two are, or raises `Unequal`.
        threads: of PyTorch. dtype: of the matrix products.
        flops: returns the floating-point operations in the matrix products of one step, for the
            floors. (Called, as counting takes a forward, which would spoil the peak memory.)
        audio_seconds: what one step works on, for the real-time factor.
        memory: also measure the peak memory of a step (see memory.py).
        competitor: who ``theirs`` is.
    """

    name: str
    ours: Callable
    theirs: Callable
    equal: Callable
    threads: int = 1
    dtype: str = "float32"
    flops: Callable | None = None
    audio_seconds: float | None = None
    memory: bool = False
    competitor: str = "ESPnet"


@dataclass
class Times:
    """Seconds a step of each round, pair by pair."""

    ours: list
    theirs: list

    def medians(self):
        """`Seconds` of ours and of theirs: medians of the clock and of CPU."""
        return tuple(Seconds(*map(median, zip(*side, strict=True))) for side in _sides(self))

    def ratios(self, what):
        """Theirs / ours for ``what``, "clock" or "cpu": median, lowest and highest of the pairs."""
        pairs = zip(*_sides(self), strict=True)
        ratios = [getattr(theirs, what) / getattr(ours, what) for ours, theirs in pairs]
        return median(ratios), min(ratios), max(ratios)


def _sides(times):
    return times.ours, times.theirs


def now():
    """The present `Seconds`, whose zero means nothing."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime
    return Seconds(time.perf_counter(), cpu)


def turn(step, repeats=1, now=now):
    """`Seconds` that one ``step()`` takes, the mean of some."""
    total = Seconds(0.0, 0.0)
    for _ in range(repeats):
        start = now()
        own = step()
        total += own if isinstance(own, Seconds) else now() - start
    return total / repeats


def alternate(ours, theirs, rounds, now=now):
    """Let both sides take turns, after one of each that does not count: `Times`."""
    slowest = max(turn(step, now=now).clock for step in (ours, theirs))
    repeats = max(1, round(TURN_SECONDS / max(slowest, 1e-3)))
    times = Times([], [])
    for _ in range(rounds):
        for step, noted in ((ours, times.ours), (theirs, times.theirs)):
            noted.append(turn(step, repeats, now))
    return times


def measure(case, rounds, now=now):
    """Check that the sides of a `Case` are equal, then time them.

    Returns:
        what its ``equal`` says, and `Times`.
    """
    import torch

    torch.set_num_threads(case.threads)
    equality = case.equal()
    steps = []
    try:
        for build in (case.ours, case.theirs):
            steps.append(build())
        return equality, alternate(*steps, rounds, now)
    finally:
        for step in steps:
            getattr(step, "close", lambda: None)()
