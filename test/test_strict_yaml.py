"""YAML as configurations are written in it."""

import math
import time

import pytest
import yaml

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.strict_yaml import parse

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2E5", 200000.0),
        ("1.5e3", 1500.0),
        ("-2e+1", -20.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+3", 3),
        ("010", 10),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("yes", True),
        ("No", False),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("'1e-3'", "1e-3"),
        ("1e999", math.inf),
        ("1e", "1e"),
        ("e3", "e3"),
        (".", "."),
        ("[1e-4, [2], {a: 3e0}]", [1e-4, [2], {"a": 3.0}]),
    ],
)
def test_values(text, value):
    (found,) = parse(f"key: {text}", "a.yaml").values()
    assert found == value and type(found) is type(value)


def test_not_a_number():
    assert math.isnan(parse("a: .NaN", "a.yaml")["a"])
    assert parse("a: " + "9" * 6000, "a.yaml")["a"] == math.inf  # Python refuses such an int


def test_merges_and_aliases():
    text = "base: &base {lr: 1e-3, betas: &b [0.9, 0.99]}\nother:\n  <<: *base\n  lr: 2\nmore: *b\n"
    assert parse(text, "a.yaml")["other"] == {"lr": 2, "betas": [0.9, 0.99]}
    assert parse(text, "a.yaml")["more"] == [0.9, 0.99]


def test_what_is_dumped_is_read():
    """ESPnet writes config.yaml with PyYAML, by the rules of YAML 1.1."""
    value = {
        "lr": 1e-05,
        "large": 1e20,
        "none": None,
        "flags": [True, False],
        "texts": ["yes", "010", "1:30", "2024-01-01", "", "a: b", "# no", "ä", "null", "a\nb"],
        "empty": [{}, []],
        "whole": [0, -7, 16000],
    }
    for style in (None, False, True):
        assert parse(yaml.safe_dump(value, default_flow_style=style), "a.yaml") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: .*the key 'a' is there twice, first in line 1"),
        ("a: {b: 1, c: 2, b: 3}", "line 1: .*the key 'b' is there twice"),
        ("a: &x {b: 1, b: 2}\nc:\n  <<: *x", "line 1: .*the key 'b' is there twice"),
        ("1: 2", "line 1: .*a key that is no text"),
        ("yes: 2", "line 1: .*a key that is no text"),
        ("~: 2", "line 1: .*a key that is no text"),
        ("? [a]\n: b", "line 1: .*a key that is no text"),
        ("a: !!python/object/apply:os.system [touch x]", "line 1: .*the tag .*os.system is not"),
        ("a: !!python/name:os.system", "line 1: .*the tag"),
        ("a: !!int abc", "line 1: .*the tag"),
        ("a: !!timestamp abc", "line 1: .*the tag"),
        ("a: ! x", "line 1: .*the tag"),
        ("a: &x [*x]", "line 1: .*an alias that is a part of itself"),
        ("a: &x {b: *x}", "line 1: .*an alias that is a part of itself"),
        (BOMB, "line 6: .*its aliases stand for too much"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)), "too much"),
        ("[" * 5000, "nested too deeply"),
        ("{a: " * 5000, "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("a: [1", "line 1: .*expected ',' or ']'"),
        ("\ta: 1", r"line 1: .*'\\t'"),
        ("a: b: c", "line 1: .*mapping values are not allowed"),
        ("a: *x", "line 1: .*undefined alias"),
        ("<<: 1", "line 1: .*merging"),
        ("a: 1\n---\nb: 2", "line 2: .*single document"),
        ("a: \x00", "not valid YAML"),
        ("a: '", "line 1: .*end of stream"),
        ("k: 1\n" * 20000, "too large for a configuration"),
    ],
)
def test_what_misleads_is_refused(text, message):
    start = time.monotonic()
    with pytest.raises(UserError, match=f"^a.yaml: .*{message}"):
        parse(text, "a.yaml")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a mapping of options, got NoneType"),
        (b"# nothing\n", "expected a mapping of options, got NoneType"),
        (b"- a\n", "expected a mapping of options, got list"),
        (b"text", "expected a mapping of options, got str"),
        (b"5", "expected a mapping of options, got int"),
        ("name: café".encode("latin-1"), "is not UTF-8 text"),
        ("a: 1".encode("utf-16"), "is not UTF-8 text"),
        (b"a: 1\n" * 10**6, "is too large for a configuration"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, data, message):
    path = tmp_path / "train.yaml"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_bytes("\ufeffa: 1e-3\r\nb: ä\r\n".encode())
    assert read_yaml(path) == {"a": 0.001, "b": "ä"}
    for other in (tmp_path, tmp_path / "none.yaml", "/dev/zero", ""):
        with pytest.raises(UserError, match="no such configuration"):
            read_yaml(other)
