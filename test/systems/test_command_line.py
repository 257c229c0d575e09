"""Rows and tags on command lines."""

import pytest
from declared import SYSTEMS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.command_line import chosen_rows, parse_tagged, rows_of


def test_rows():
    found = rows_of([["ft/a+b+c", "x", "y"], ["base/default", "z", ""]], SYSTEMS)
    assert [(str(row.directory), *more) for row, *more in found] == [
        ("ft/a+b+c", "x", "y"),
        ("base/default", "z", ""),
    ]
    assert found[0][0].system is SYSTEMS["ft"] and rows_of([], SYSTEMS) == []


@pytest.mark.parametrize(
    "texts, message",
    [
        (["mine/default"], "--row mine/default: no system 'mine'; known: clean_clean "),
        (["/default"], "--row /default: no system ''; known"),
        ([""], "--row : no system ''; known"),
        (["ft"], "--row ft: no tag; give ft/TAG"),
        (["base/"], "--row base/: no tag; give base/TAG"),
        (["ft/a+b"], r"--row ft/a\+b: expected the tags of 3 parts, got 'a\+b'; correct it"),
        (["noisy_noisy/a+b"], "expected the tags of 1 parts"),
        (["ft/a/b"], "--row ft/a/b: the tag 'a/b'"),
        (["ft/../x"], "--row ft/../x: the tag '../x'"),
        (["base/a+../b"], "the tag '../b'"),
        (["ft/a", "base/a", "ft/a"], "--row ft/a: is there twice; name it once"),
    ],
)
def test_wrong_rows(texts, message):
    with pytest.raises(UserError, match=message):
        rows_of([[text, "x"] for text in texts], SYSTEMS)


def test_chosen_rows():
    assert chosen_rows(None) is None and chosen_rows("ft/a  base/b") == ["ft/a", "base/b"]
    for empty in ("", "  "):
        with pytest.raises(UserError, match="--rows is empty; name rows"):
            chosen_rows(empty)


def test_values_by_tag():
    assert parse_tagged("", "--x") == {}
    assert parse_tagged("a=b  c=d=e", "--x") == {"a": "b", "c": "d=e"}
    for text, item in (("a", "a"), ("a=", "a="), ("a=b =c", "=c"), ("=", "=")):
        with pytest.raises(UserError, match=f"--x: '{item}': expected a tag, '=' and a value"):
            parse_tagged(text, "--x")
    with pytest.raises(UserError, match="--x: 'a' is there twice; name it once"):
        parse_tagged("a=b c=d a=b", "--x")
