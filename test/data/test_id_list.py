"""Lists of ids."""

import pytest

from espnet_tse_ser.data.id_list import read_ids, select
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


def test_select():
    assert select({"a": 1, "b": 2, "c": 3}, ["c", "a"], "x.scp") == {"c": 3, "a": 1}
    with pytest.raises(UserError, match=r"x.scp: 2 of 3 id\(s\) are missing, first 'd'"):
        select({"a": 1}, ["a", "d", "e"], "x.scp")
