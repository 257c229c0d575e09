"""Atomic files and tables."""

import errno
import os

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import (
    AtomicFiles,
    atomic_path,
    read_json,
    read_text,
    read_tsv,
    write_json,
    write_text,
    write_tsv,
)


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "a.flac"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".flac"
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert os.listdir(path.parent) == ["a.flac"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_reported_with_the_file(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError) as caught, atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(path) and caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_failed_rename_is_reported_with_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_text(path, "text")
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_many_files(tmp_path):
    with AtomicFiles() as files:
        for number in range(2 * AtomicFiles.WAITING):
            files.write(tmp_path / "new" / f"{number}.txt", b"%d" % number)
            there = [p for p in (tmp_path / "new").iterdir() if not p.name.startswith(".tmp.")]
            assert number - len(there) < AtomicFiles.WAITING
            assert all(p.read_text() == p.stem for p in there)  # never half of one
    assert {p.name: p.read_text() for p in (tmp_path / "new").iterdir()} == {
        f"{number}.txt": str(number) for number in range(2 * AtomicFiles.WAITING)
    }


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_files_written_before_a_failure_are_there(tmp_path, error):
    with pytest.raises(error), AtomicFiles() as files:
        for number in range(5):
            files.write(tmp_path / str(number), b"whole")
        raise error
    assert sorted(os.listdir(tmp_path)) == list("01234")


def test_a_failure_in_a_thread_is_reported_with_the_file(tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(IsADirectoryError) as caught, AtomicFiles() as files:
        for number in range(3):
            files.write(tmp_path / str(number), b"whole")
    assert caught.value.filename == str(tmp_path / "1")
    assert set(os.listdir(tmp_path)) - {"2"} == {"0", "1"}
    assert (tmp_path / "0").read_text() == "whole"


def test_a_failure_in_a_thread_stops_the_next_files(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught, AtomicFiles() as files:
        for number in range(100 * AtomicFiles.WAITING):
            files.write(tmp_path / str(number), b"whole")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "0")
    assert number <= AtomicFiles.WAITING
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_reported_with_the_file_of_many(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OSError) as caught, AtomicFiles() as files:
        files.write(tmp_path / "a", b"whole")
    assert caught.value.filename == str(tmp_path / "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("read", [read_text, read_json, read_tsv])
def test_text_that_is_not_utf_8(tmp_path, read):
    path = tmp_path / "a.txt"
    path.write_bytes("é ü".encode("latin-1"))
    with pytest.raises(UserError, match=r"a.txt: is not UTF-8 text \(byte 0xe9 at position 0\)"):
        read(path)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    value = {"b": [1, 2.5], "a": {"ü": None}}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text(encoding="utf-8").index('"a"') < path.read_text().index('"b"')
    path.write_text("{")
    with pytest.raises(UserError, match="a.json: not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match="b.json: no such file"):
        read_json(tmp_path / "b.json")


def test_tsv(tmp_path):
    path = tmp_path / "a.tsv"
    rows = [{"id": "a", "x": "1.5"}, {"id": 'quoted "b"', "x": ""}]
    write_tsv(path, rows, ["id", "x"])
    assert path.read_text().splitlines()[0] == "id\tx"
    assert read_tsv(path, ["x"]) == rows


@pytest.mark.parametrize(
    "text, message",
    [
        ("id\ty\na\t1\n", r"line 1: column\(s\) x missing"),
        ("", r"line 1: column\(s\) id, x missing"),
        ("id\tx\na\t1\nb\n", "line 3: expected 2 tab-separated fields"),
        ("id\tx\na\t1\t2\n", "line 2: expected 2 tab-separated fields"),
    ],
)
def test_bad_tsv(tmp_path, text, message):
    path = tmp_path / "a.tsv"
    write_text(path, text)
    with pytest.raises(UserError, match=f"a.tsv: {message}"):
        read_tsv(path, ["id", "x"])


def test_missing_tsv(tmp_path):
    with pytest.raises(UserError, match="a.tsv: no such table; run the stage"):
        read_tsv(tmp_path / "a.tsv")


def test_what_a_killed_process_left_is_removed_with_the_file_that_it_wrote(tmp_path):
    for name in ("1", "23"):
        (tmp_path / f".tmp.{name}.a.b.flac").write_text("half")
    (tmp_path / ".tmp.1.other.flac").write_text("of a job that may be alive")
    with AtomicFiles() as files:
        files.write(tmp_path / "a.b.flac", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp.1.other.flac", "a.b.flac"]
    assert (tmp_path / "a.b.flac").read_bytes() == b"whole"
