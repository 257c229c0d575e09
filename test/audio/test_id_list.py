"""Lists of ids."""

import pytest

from espnet_tse_ser.audio.id_list import read_ids, read_lines, select
from espnet_tse_ser.errors import UserError


def test_read(tmp_path):
    path = tmp_path / "train.lst"
    path.write_text("b\na\n")
    assert read_ids(path) == ["b", "a"]


def test_errors(tmp_path):
    path = tmp_path / "train.lst"
    with pytest.raises(UserError, match="train.lst: no such list"):
        read_ids(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="train.lst: is empty"):
        read_ids(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="train.lst: is not UTF-8 text"):
        read_ids(path)
    path.write_text("a\nb\na\n")
    with pytest.raises(UserError, match="duplicate id 'a'"):
        read_ids(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_other_systems(tmp_path, end):
    path = tmp_path / "train.lst"
    path.write_bytes(("\ufeffb" + end + " a" + end + end).encode())
    assert read_ids(path) == ["b", "a"]


@pytest.mark.parametrize("line", ["../x", "/x", "a b", "a /w/a.wav", "a,b", ".a", "a\u200b"])
@pytest.mark.parametrize("read", [read_ids, read_lines])
def test_lines_that_are_no_ids(tmp_path, line, read):
    path = tmp_path / "train.lst"
    path.write_text(f"a\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="train.lst: line 3: .*cannot be an id"):
        read(path)


def test_lines_as_they_are(tmp_path):
    path = tmp_path / "train.lst"
    path.write_text("")
    assert read_lines(path) == []
    path.write_text("b\na\nb")
    assert read_lines(path) == ["b", "a", "b"]


def test_select():
    assert select({"a": 1, "b": 2, "c": 3}, ["c", "a"], "x.scp") == {"c": 3, "a": 1}
    with pytest.raises(UserError, match=r"x.scp: 2 of 3 id\(s\) are missing, first 'd'"):
        select({"a": 1}, ["a", "d", "e"], "x.scp")
