"""Numbers that a user gives, on a command line or in a configuration: one rule for both."""

import argparse
import math
import reprlib
from dataclasses import dataclass

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlevel = 3


def shown(value):
    """``value`` as a message shows it: one short line, whatever it is.

    >>> shown([1.5, "two"])
    "[1.5, 'two']"
    """
    return _REPR.repr(value)


@dataclass(frozen=True)
class Number:
    """A kind of number and its range; call it with a value to have it checked.

    A text is read as the number that it says: YAML takes ``2e-3`` for a text, and quotes happen.
    What is not a number of this kind (a truth value, NaN, infinity, 2.5 for a whole number) is
    refused, never rounded.

    Args:
        low, high: the range; None for no bound.
        whole: whole numbers only; odd: of these the odd ones.
        above: ``low`` itself is not allowed; below: nor is ``high``.

    >>> Number(0, 1)("1e-3"), Number(1, whole=True)(16.0)
    (0.001, 16)
    """

    low: float | None = None
    high: float | None = None
    whole: bool = False
    odd: bool = False
    above: bool = False
    below: bool = False

    def __call__(self, value):
        """Return ``value`` as an int or a float.

        Raises:
            ValueError: it is not such a number; the message says what is expected and what came.
        """
        number = _read(value)
        if number is None or not self._has(number):
            raise ValueError(f"expected {self}, got {shown(value)}")
        return int(number) if self.whole or self.odd else number

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
            and (not self.odd or number % 2 == 1)
            and (low is None or (number > low if self.above else number >= low))
            and (high is None or (number < high if self.below else number <= high))
        )

    def __str__(self):
        bounds = []
        if self.low is not None:
            bounds.append(f"above {self.low}" if self.above else f"of {self.low} or more")
        if self.high is not None:
            bounds.append(f"below {self.high}" if self.below else f"of {self.high} or less")
        kind = "an odd number" if self.odd else "a whole number" if self.whole else "a number"
        return " ".join([kind, " and ".join(bounds)]).rstrip()


COUNT = Number(1, 10**6, whole=True)  # of jobs, processes, talkers
RATE = Number(1000, 655350, whole=True)  # Hz, as FLAC has them
SEED = Number(0, 2**31 - 1, whole=True)  # every generator takes it, and its sum with an epoch
SECONDS = Number(0, 10**6)
UTTERANCE_SECONDS = Number(0.1, 600)  # of what a model gets
BATCH_SIZE = Number(1, 4096, whole=True)
# Of networks. The bounds are no advice: beyond them a number is a slip, and no memory holds it.
CHANNELS = Number(1, 8192, whole=True)
LAYERS = Number(1, 100, whole=True)
KERNEL = Number(1, 1023, odd=True)
DROPOUT = Number(0, 1, below=True)
SHARE = Number(0, 1)


def _read(value):
    """``value`` as a finite int or float; None where it is none."""
    if isinstance(value, str):
        try:
            plain = value.isascii() and "_" not in value
            value = float(value) if plain else None
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an int that no float can hold
        return None
