"""Turns, medians and ratios with a clock that is told what to show."""

import itertools

import pytest

from bench.measure import Case, Seconds, Times, Unequal, alternate, measure, turn


class Clock:
    """Time goes on only in steps."""

    def __init__(self):
        self.time, self.order = Seconds(0.0, 0.0), []

    def __call__(self):
        return self.time

    def step(self, name, durations):
        durations = iter(durations)

        def step():
            clock = next(durations)
            self.order.append(name)
            self.time += Seconds(clock, clock / 2)

        return step


def test_sides_take_turns_and_the_first_of_each_does_not_count():
    clock = Clock()
    ours, theirs = clock.step("o", [100, 1, 2, 3]), clock.step("t", [100, 4, 4, 9])
    times = alternate(ours, theirs, 3, clock)
    assert clock.order == ["o", "t"] * 4
    assert times.ours == [Seconds(1, 0.5), Seconds(2, 1), Seconds(3, 1.5)]
    assert times.theirs == [Seconds(4, 2), Seconds(4, 2), Seconds(9, 4.5)]


def test_short_steps_are_repeated_in_a_turn():
    clock = Clock()
    ours, theirs = clock.step("o", itertools.repeat(0.01)), clock.step("t", itertools.repeat(0.1))
    times = alternate(ours, theirs, 2, clock)
    assert "".join(clock.order) == "ot" + ("ooo" + "ttt") * 2  # 0.3 s of the slower
    assert times.ours[0].clock == pytest.approx(0.01)


def test_a_step_may_time_itself():
    clock = Clock()
    assert turn(lambda: Seconds(2.0, 1.0), 3, clock) == Seconds(2.0, 1.0)


def test_ratios_are_of_pairs_and_medians_of_sides():
    ours = [Seconds(1, 1), Seconds(2, 1), Seconds(4, 1)]
    theirs = [Seconds(3, 1), Seconds(4, 2), Seconds(4, 6)]
    times = Times(ours, theirs)
    assert times.medians() == (Seconds(2, 1), Seconds(4, 2))
    assert times.ratios("clock") == (2, 1, 3)
    assert times.ratios("cpu") == (2, 1, 6)


def _case(clock, equal, closed=None):
    def build(name):
        step = clock.step(name, itertools.repeat(1))
        if closed is not None:
            step.close = lambda: closed.append(name)
        return step

    return Case("x", lambda: build("o"), lambda: build("t"), equal)


def test_equality_is_checked_first_and_sides_are_closed():
    clock, closed = Clock(), []

    def equal():
        assert not clock.order
        return "to the bit"

    said, times = measure(_case(clock, equal, closed), 2, clock)
    assert said == "to the bit" and len(times.ours) == 2
    assert closed == ["o", "t"]


def test_unequal_sides_are_not_timed():
    clock = Clock()

    def equal():
        raise Unequal("outputs differ by 0.3")

    with pytest.raises(Unequal, match="differ by 0.3"):
        measure(_case(clock, equal), 2, clock)
    assert not clock.order
