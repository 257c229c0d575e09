"""Kinds of values, and a configuration held against them."""

import math

import pytest

from espnet_tse_ser.errors import UserError
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
    check_options,
    options_of,
)
from espnet_tse_ser.values.numbers import Number

COUNT = Number(1, 9, whole=True)
nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Flag(), True, True),
        (Flag(), "False", False),
        (Flag(), "yes", True),
        (Text(), "SNR, dB", "SNR, dB"),
        (Id(), "ang", "ang"),
        (Choice("gLN", "cLN"), "GLN", "gLN"),
        (Only(False), "false", False),
        (Only(None), None, None),
        (Only(1), 1, 1),
        (Maybe(COUNT), None, None),
        (Maybe(COUNT), "null", None),
        (Maybe(COUNT), "2.0", 2),
        (Either(Choice("last"), COUNT), "last", "last"),
        (Either(Choice("last"), COUNT), "3", 3),
        (Several(COUNT), 3, [3]),
        (Several(COUNT, 2, 2), ("1", 2.0), [1, 2]),
        (Several(COUNT, 0), [], []),
        (Interval(-5, 5), ["-5", 5], (-5.0, 5.0)),
        (Interval(-5, 5), (2, 2), (2.0, 2.0)),
        (Mapping(), {"a": [1]}, {"a": [1]}),
    ],
)
def test_what_is_meant_is_taken(kind, value, expected):
    found = kind(value)
    assert found == expected and type(found) is type(expected)


WRONG = {
    "flag": (Flag(), (0, 1, 2, None, "", "maybe", [True], {}, nan)),
    "text": (Text(), ("", "  ", 3, None, True, ["a"], "two\nlines", "bell\a", "a\tb")),
    "id": (Id(), ("", "a b", "a,b", "../a", ".a", "a\x00", 3, None, True, "a/b", "x" * 300)),
    "choice": (Choice("mul", "concat"), ("add", "", None, 1, True, ["mul"], "mul add")),
    "only": (Only(False), (True, "true", None, 0, 1, "x")),
    "maybe": (Maybe(COUNT), (0, 10, "", "x", nan, [], [1], True, False)),
    "either": (Either(Choice("last"), COUNT), (0, "first", None, True, 1.5)),
    "pair": (Several(COUNT, 2, 2), (1, [1], [1, 2, 3], [0, 1], "12", None, {"a": 1}, [[1], 2])),
    "some": (Several(COUNT, 1, 3), ([], [1, 2, 3, 4], ["a"], None, nan, {})),
    "interval": (Interval(-5, 5), (1, [2, 1], [1], [1, 2, 3], [nan, 1], [-inf, 0], [0, 9], "ab")),
    "mapping": (Mapping(), (None, [], [1], "a", 3, True, {1: 2}, {True: 1})),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_meant_is_refused(name):
    kind, values = WRONG[name]
    for value in values:
        with pytest.raises(ValueError) as caught:
            kind(value)
        message = str(caught.value)
        assert message.startswith(f"expected {kind}, got ") and "\n" not in message


def test_messages_are_short_lines():
    for value in ("x" * 10**6, [[[["deep"]]]] * 1000, {str(i): i for i in range(10**4)}, 10**3000):
        for kind in (COUNT, Flag(), Interval(0, 1), Either(COUNT, Flag()), Several(COUNT)):
            with pytest.raises(ValueError) as caught:
                kind(value)
            assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def take(size, layers: COUNT, dropout: Number(0, 1) = 0.5, bias: Flag() = True, *, other=3):
    """Takes three options; size and other are none."""


def test_options_are_annotated_parameters():
    assert list(options_of(take)) == ["layers", "dropout", "bias"]
    conf = {"layers": "2", "bias": "no"}
    assert check_options(conf, take, "here") == {"layers": 2, "bias": False}
    assert conf == {"layers": "2", "bias": "no"}
    assert check_options(None, {"a": COUNT}, "here") == {}


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ([], r"a.yaml: conf: expected a mapping of options, got \[\]; correct it"),
        ("layers", "a.yaml: conf: expected a mapping of options, got 'layers'"),
        ({"layers": 1, 2: 3}, "a.yaml: conf: expected a mapping of options, got "),
        ({"layer": 1}, "a.yaml: conf: unknown key 'layer'; known: layers, dropout, bias"),
        ({"layers": 1, "size": 1}, "a.yaml: conf: unknown key 'size'"),
        ({}, "a.yaml: conf: has no 'layers'; give a whole number of 1 or more"),
        ({"layers": 0}, "a.yaml: conf: layers: expected a whole .*, got 0; correct it"),
        ({"layers": 1, "bias": 1}, "a.yaml: conf: bias: expected true or false, got 1"),
    ],
)
def test_what_does_not_fit_names_the_place(conf, message):
    with pytest.raises(UserError, match=message):
        check_options(conf, take, "a.yaml: conf")
