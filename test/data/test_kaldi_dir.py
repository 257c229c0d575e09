"""Kaldi's two-column files."""

import pytest

from espnet_tse_ser.data.kaldi_dir import invert, read_table, write_table
from espnet_tse_ser.errors import UserError


def test_round_trip_in_the_c_locale(tmp_path):
    table = {"b": "two words", "B": 1, "a-1": "x", "a": "y", "é": "z"}
    write_table(tmp_path / "t", table)
    assert read_table(tmp_path / "t") == {k: str(v) for k, v in table.items()}
    keys = [line.split()[0] for line in (tmp_path / "t").read_text(encoding="utf-8").splitlines()]
    assert keys == sorted(table, key=lambda k: k.encode("utf-8"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("a x\na y\n", "line 2: duplicate id 'a'"),
        ("b x\na y\n", "line 2: 'a' is not sorted after 'b'; run `LC_ALL=C sort"),
        ("a x\nb\n", "line 2: expected '<id> <value>', got 'b"),
        ("a\tx\n", "line 1: expected"),
        ("\n", "line 1: expected"),
        ("", "is empty"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "wav.scp").write_text(text)
    with pytest.raises(UserError, match=f"wav.scp: {message}"):
        read_table(tmp_path / "wav.scp")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="wav.scp: no such file; run the stage"):
        read_table(tmp_path / "wav.scp")


def test_not_utf_8(tmp_path):
    (tmp_path / "wav.scp").write_bytes("a x\nb é\n".encode("latin-1"))
    with pytest.raises(UserError, match="wav.scp: is not UTF-8 text"):
        read_table(tmp_path / "wav.scp")


@pytest.mark.parametrize("table", [{"a b": "x"}, {"": "x"}, {"a": ""}, {"a": " "}])
def test_unwritable_tables(tmp_path, table):
    with pytest.raises(UserError, match="id '"):
        write_table(tmp_path / "t", table)
    assert not (tmp_path / "t").exists()


def test_invert():
    assert invert({"u3": "b", "u2": "a", "u1": "b"}) == {"a": "u2", "b": "u1 u3"}
