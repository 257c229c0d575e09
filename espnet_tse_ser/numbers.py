"""Numbers that a user gives, on a command line or in a configuration: one rule for both."""

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A kind of number and its range; call it with a value to have it checked.

    A text is read as the number that it says: YAML takes ``2e-3`` for a text, and quotes happen.
    What is not a number of this kind (a truth value, NaN, infinity, 2.5 for a whole number) is
    refused, never rounded.

    Args:
        low, high: the range; None for no bound.
        whole: whole numbers only. above: ``low`` itself is not allowed; below: nor is ``high``.

    >>> Number(0, 1)("1e-3"), Number(1, whole=True)(16.0)
    (0.001, 16)
    """

    low: float | None = None
    high: float | None = None
    whole: bool = False
    above: bool = False
    below: bool = False

    def __call__(self, value):
        """Return ``value`` as an int or a float.

        Raises:
            ValueError: it is not such a number; the message says what is expected and what came.
        """
        number = _read(value)
        if number is None or not self._has(number):
            raise ValueError(f"expected {self}, got {value!r}")
        return int(number) if self.whole else number

    def option(self, text):
        """The same as the ``type`` of an option of `argparse`."""
        try:
            return self(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    def list_option(self, text):
        """The same for several of them, with spaces or commas between: a tuple, maybe empty."""
        return tuple(map(self.option, text.replace(",", " ").split()))

    def range_option(self, text):
        """The same for a range 'low high': a pair of them."""
        ends = self.list_option(text)
        if len(ends) != 2 or ends[0] > ends[1]:
            raise argparse.ArgumentTypeError(
                f"expected 'low high', two numbers of which low is not above high, got '{text}'"
            )
        return ends

    def _has(self, number):
        low, high = self.low, self.high
        return (
            (not self.whole or number == int(number))
            and (low is None or (number > low if self.above else number >= low))
            and (high is None or (number < high if self.below else number <= high))
        )

    def __str__(self):
        bounds = []
        if self.low is not None:
            bounds.append(f"above {self.low}" if self.above else f"of {self.low} or more")
        if self.high is not None:
            bounds.append(f"below {self.high}" if self.below else f"of {self.high} or less")
        kind = "a whole number" if self.whole else "a number"
        return " ".join([kind, " and ".join(bounds)]).rstrip()


def _read(value):
    """``value`` as a finite int or float; None where it is none."""
    if isinstance(value, str):
        try:
            value = float(value) if "_" not in value else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an int that no float can hold
        return None


COUNT = Number(1, 10**6, whole=True)  # of jobs, processes, talkers
RATE = Number(1000, 655350, whole=True)  # Hz, as FLAC has them
SEED = Number(0, 2**32 - 1, whole=True)  # what NumPy takes
SECONDS = Number(0, 10**6)
