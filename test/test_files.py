"""Atomic files and tables."""

import errno
import json
import math
import os
import socket
from pathlib import Path

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import (
    AtomicFiles,
    _temporary,
    atomic_path,
    is_written,
    read_json,
    read_text,
    read_tsv,
    read_yaml,
    to_json,
    write_json,
    write_text,
    write_tsv,
)
from espnet_tse_ser.values.ids import check_fold, check_id


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


@pytest.mark.parametrize("text", ["[]", "[{}]", "1", "null", '"a"', "true"])
def test_json_that_is_no_object(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a.json: not valid JSON \(expected an object, got \w+\)"):
        read_json(path)


@pytest.mark.parametrize("text", ["a: 1\n", '{"a": 1}', "a\n1\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\ufeff\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_of_other_systems(tmp_path, text, mark, end):
    path = tmp_path / "a.txt"
    path.write_bytes((mark + text.replace("\n", end)).encode())
    assert read_text(path) == text
    read = {"a: 1\n": read_yaml, '{"a": 1}': read_json, "a\n1\n": lambda p: read_tsv(p, ["a"])[0]}
    assert {k: int(v) for k, v in read[text](path).items()} == {"a": 1}


@pytest.mark.parametrize("code", [*range(9), 11, 12, *range(14, 32), 127])
@pytest.mark.parametrize("read", [read_text, read_json, read_tsv, read_yaml])
def test_control_characters_are_named_with_their_line(tmp_path, code, read):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n'th" + bytes([code]) + b"ree'\n")
    with pytest.raises(UserError, match=f"a.txt: line 3: control character 0x{code:02x}; is it"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1"])
def test_text_in_another_encoding(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_text("fünf 5\n", encoding=encoding)
    with pytest.raises(UserError, match="a.txt: .*UTF-8"):
        read_text(path)


def test_what_no_utf_8_can_hold_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a.txt: 'b caf\\udce9.wav' is not UTF-8 text"):
        write_text(tmp_path / "a.txt", "a x.wav\nb caf\udce9.wav\nc y.wav\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_written(tmp_path):
    assert not is_written(tmp_path / "a") and not is_written(tmp_path)
    (tmp_path / "a").touch()
    assert not is_written(tmp_path / "a")
    (tmp_path / "a").write_text("x")
    assert is_written(tmp_path / "a") and is_written(str(tmp_path / "a"))


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


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "the value"),
        ([1, math.inf], "'1'"),
        ({"a": {"b": [{}, {"c": -math.inf}]}}, "'a'.b.1.c"),
        ({"a": (1.0, float("nan"))}, "'a'.1"),
    ],
)
def test_json_has_no_numbers_that_are_none(tmp_path, value, place):
    with pytest.raises(UserError, match=f"a.json: {place} would be NaN or infinite"):
        write_json(tmp_path / "a.json", value)
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError, match=f"the mixture: {place} would be"):
        to_json(value, "the mixture")
    (tmp_path / "a.json").write_text(json.dumps(value))  # as Python writes it
    with pytest.raises(UserError, match="a.json: not valid JSON .*NaN|Infinity"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "[1,]", "{'a': 1}", "[" * 10**5, "9" * 10**4, "nan", "1 2"])
def test_what_is_no_json(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="a.json: not valid JSON"):
        read_json(tmp_path / "a.json")


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
        ("id\tx\na\t1\n\nb\t2\n", "line 3: expected 2 tab-separated fields"),
        ('id\tx\na\t"1\nb\t2"\nc\t3\n', "line 2: expected 2 tab-separated fields in one line"),
        ('id\tx\na\t1\nb\t"2\nc\t3\n', "line 3: unexpected end of data"),
        ('id\tx\na\t"1"2\n', "line 2: .* expected after"),
        ('"id\nx"\tx\na\t1\n', r"line 1: column\(s\) id missing"),
        ("id\tx\tx\na\t1\t2\n", "line 1: column 'x' is there twice"),
        ("id\tx\t\na\t1\t2\n", "line 1: a column has no name"),
        ("id\tx\na\t1\0\n", "line 2: control character 0x00"),
    ],
)
def test_bad_tsv(tmp_path, text, message):
    path = tmp_path / "a.tsv"
    write_text(path, text)
    with pytest.raises(UserError, match=f"a.tsv: {message}"):
        read_tsv(path, ["id", "x"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tsv_of_other_systems(tmp_path, end):
    path = tmp_path / "a.tsv"
    path.write_bytes(("\ufeff" + end.join(["id\tx", 'a\t"1,2"', 'b\tsay ""hi""', "", ""])).encode())
    assert read_tsv(path, ["id"]) == [{"id": "a", "x": "1,2"}, {"id": "b", "x": 'say ""hi""'}]


@pytest.mark.parametrize(
    "value", ["", " ", '"', '""', 'a "b" c', '"a"', "a,b", "'", "#", "ü \u200b", "-", "=1+1"]
)
def test_tsv_values_survive(tmp_path, value):
    path = tmp_path / "a.tsv"
    rows = [{"id": value, "x": "1"}, {"id": "a", "x": value}, {"id": value, "x": value}]
    write_tsv(path, rows, ["id", "x"])
    assert read_tsv(path) == rows
    write_tsv(path, [{"id": value}, {"id": "a"}], ["id"])
    assert read_tsv(path) == [{"id": value}, {"id": "a"}]


@pytest.mark.parametrize("value", ["a\tb", "a\nb", "a\n", "\r", "a\0b", "\x1b[31m", "caf\udce9"])
def test_tsv_values_that_would_not_survive(tmp_path, value):
    for cell in (value, tmp_path / value):
        with pytest.raises(UserError, match="a.tsv: .*(is it the name of a file|cannot hold)"):
            write_tsv(tmp_path / "a.tsv", [{"id": "a", "x": cell}], ["id", "x"])
        assert list(tmp_path.iterdir()) == []


def test_checks_of_columns_name_the_line(tmp_path):
    path = tmp_path / "a.tsv"
    write_text(path, "id\tfold\na\t1\n../b\t01\n")
    for column, check in (("id", check_id), ("fold", check_fold)):
        with pytest.raises(UserError, match=f"a.tsv: line 3: {column}: .* cannot be a"):
            read_tsv(path, ["id"], {column: check})


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


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path):
    """Root could rename a file to /dev/null."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    before = sorted(path.lstat().st_mode for path in tmp_path.iterdir())
    for name in ("fifo", "link", "socket"):
        with pytest.raises(UserError, match="is a device, a pipe or a socket, which a file would"):
            write_text(tmp_path / name, "x")
        with pytest.raises(UserError, match="is a device"), AtomicFiles() as writer:
            writer.write(tmp_path / name, b"x")
    assert sorted(path.lstat().st_mode for path in tmp_path.iterdir()) == before
    (tmp_path / "file").write_text("old")
    (tmp_path / "to_file").symlink_to(tmp_path / "file")
    write_text(tmp_path / "to_file", "new")
    assert (tmp_path / "file").read_text() == "old"  # a link is replaced


def test_the_name_for_a_device_is_refused_before_anything_is_written():
    for path in ("/dev/null", "/dev/full", "/dev/stdout", "/dev/tty0"):
        with pytest.raises(UserError, match=f"{path}: is a device"):
            _temporary(Path(path))  # never more than the check: it would break the machine


@pytest.mark.parametrize("name", ["", ".", "..", "x/.."])
def test_what_is_no_name_of_a_file(name):
    with pytest.raises(UserError, match="is no name of a file"):
        write_text(name, "x")
