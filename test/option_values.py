"""Values that an option of a kind must refuse, made from the kind itself."""

import math

from espnet_tse_ser.values.kinds import (
    Choice,
    Either,
    Flag,
    Id,
    Interval,
    Mapping,
    Maybe,
    Only,
    Several,
    Text,
)
from espnet_tse_ser.values.numbers import Number

NO_NUMBERS = (
    "abc",
    "",
    True,
    False,
    math.nan,
    math.inf,
    -math.inf,
    [],
    [[1]],
    {},
    "1_0",
    "0x1",
    "\u0663",
)


def wrong_values(kind):
    """Values that do not fit; of a `Number` with everything just beyond its range."""
    if isinstance(kind, Maybe):
        return [value for value in wrong_values(kind.kind) if value is not None]
    if isinstance(kind, Number):
        values = [*NO_NUMBERS, None]
        values += [1.5] if kind.whole or kind.odd else []
        values += [4] if kind.odd else []
        if kind.low is not None:
            values += [kind.low - 1, str(kind.low - 1), -(10.0**30)]
            values += [kind.low] if kind.above else []
        if kind.high is not None:
            values += [kind.high + 1, 10.0**30, 10**400]
            values += [kind.high] if kind.below else []
        return values
    if isinstance(kind, Flag):
        return [0, 1, "maybe", None, [True], math.nan]
    if isinstance(kind, Choice):
        return ["no such choice", "", None, 1, True, ["a"], {}]
    if isinstance(kind, (Text, Id)):
        return ["", 3, True, None, ["a"], {"a": 1}, "two\nlines"]
    if isinstance(kind, Only):
        return ["something else", 7, [1]]
    if isinstance(kind, Several):
        least = max(kind.least, 1)
        values = [[value] * least for value in wrong_values(kind.kind)]
        values += [[None], math.nan]
        values += [] if isinstance(kind.kind, Mapping) else [{}]  # one need not be in a list
        return values + ([[1] * (kind.most + 1)] if kind.most else [])
    if isinstance(kind, Interval):
        return [5, None, [1], [1, 2, 3], [2, 1], [math.nan, 1], ["a", "b"], [kind.low - 1, 0], "ab"]
    if isinstance(kind, Either):
        values = [value for part in kind.kinds for value in wrong_values(part)]
        return [v for v in values if all(_refuses(part, v) for part in kind.kinds)]
    return ["text", ["list"], True]  # a mapping, or a size


def _refuses(kind, value):
    try:
        kind(value)
    except ValueError:
        return True
    return False
