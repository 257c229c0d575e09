"""Which recordings names stand for; pipes as files."""

import io
import os
import socket
import sys
import threading

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.inputs import Item, Reader, find_items


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac", "in/c.WAV", "in/deep/d.m4a", "in/notes.txt", "in/.e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_folders_and_patterns(place):
    assert find_items(["a.wav", "none.wav"]) == [Item(n, n) for n in ("a.wav", "none.wav")]
    assert [i.mixture for i in find_items(["in"])] == ["in/c.WAV", "in/deep/d.m4a"]
    assert [i.mixture for i in find_items(["*.*a*"])] == ["a.wav", "b.flac"]
    assert [i.mixture for i in find_items(["**/*.m4a"])] == ["in/deep/d.m4a"]
    (place / "x[1].wav").touch()
    assert [i.mixture for i in find_items(["x[1].wav"])] == ["x[1].wav"]
    assert find_items([], ["in", "*.wav"]) == [Item(n, n) for n in ("in", "*.wav")]
    both = find_items(["a.wav", "in"], [], ["e.wav", "f.wav"])
    assert {i.enrollments for i in both} == {("e.wav", "f.wav")} and len(both) == 3


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.tsv", "m 1.wav\te.wav\n\nn.wav\te.wav;f.wav\tthe n\r\nn.wav\t\n"),
        ("t.tsv", "id\tx\tmixture\tenrollment\n\t5\tm 1.wav\te.wav\nthe n\t\tn.wav\te.wav; f.wav\n"
         "\t\tn.wav\t\n"),
        ("t.csv", 'mixture,enrollment,id\n"m 1.wav",e.wav,\nn.wav,e.wav;f.wav,the n\nn.wav,,\n'),
    ],
)  # fmt: skip
def test_tables(place, name, lines):
    (place / name).write_text(lines)
    assert find_items([name], [], ["g.wav"]) == [
        Item("m 1.wav", "m 1.wav", ("e.wav",)),
        Item("the n", "n.wav", ("e.wav", "f.wav")),
        Item("n.wav", "n.wav", ("g.wav",)),
    ]


def test_a_list_of_names(place, monkeypatch):
    (place / "l.txt").write_text("a.wav\nb.flac\n")
    expected = [Item("a.wav", "a.wav", ("e",)), Item("b.flac", "b.flac", ("e",))]
    assert find_items(["l.txt"], [], ["e"]) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\r\nb.flac")))
    assert find_items(["-"], [], ["e"]) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty", None, "empty: has no audio files in it; give another folder"),
        (" ", None, "a name of a recording is empty"),
        ("none*.wav", None, "no file is named like this; check the pattern"),
        ("none.tsv", None, "none.tsv: no such table of recordings"),
        ("t.tsv", "a\nb\tc\td\te\n", "t.tsv: line 2: expected mixture enrollment id, got 4 fields"),
        ("t.tsv", "mixture\tid\n\tx\n", "t.tsv: line 2: expected mixture id"),
        ("t.tsv", "\n\n", "t.tsv: names no recordings"),
        (
            "t.tsv",
            "a\nb\na\n",
            "'a': is there twice; give it once, or another id in a table .columns mixture",
        ),
        ("t.tsv", b"RIFF\0\0", "t.tsv: line 1: control character"),
        ("-", b"RIFF\0\xff", "standard input is no list of recordings; .* give /dev/stdin inst"),
    ],
)
def test_what_names_nothing(place, monkeypatch, name, content, message):
    (place / "empty").mkdir()
    content = content.encode() if isinstance(content, str) else content
    if name == "-":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    elif content is not None:
        (place / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_items([name])


def _audio():
    content = io.BytesIO()
    soundfile.write(
        content, 0.1 * np.random.default_rng(0).standard_normal(70000), 16000, format="WAV"
    )
    return content.getvalue()


def test_pipes_are_read_once(tmp_path):
    number, end = os.pipe()
    threading.Thread(target=lambda: (os.write(end, _audio()), os.close(end)), daemon=True).start()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(_audio()), daemon=True).start()
    ours, theirs = socket.socketpair()
    threading.Thread(target=lambda: (theirs.sendall(_audio()), theirs.close()), daemon=True).start()
    with Reader() as reader:
        for name in (f"/dev/fd/{number}", str(fifo), f"/dev/fd/{ours.fileno()}"):
            assert reader.seconds(name) == 70000 / 16000
            samples, rate, found = reader.read(name)
            assert (samples.shape, rate, found) == ((70000, 1), 16000, name)
            file = reader.file(name)
            assert file != name and os.path.isfile(file)
    assert not os.path.exists(file)
    os.close(number)
    ours.close()


def test_errors_name_the_pipe(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(b"text"), daemon=True).start()
    with Reader() as reader, pytest.raises(UserError, match=f"^{fifo}: cannot be read as audio"):
        with reader.named():
            reader.seconds(str(fifo))


def test_an_enrollment_is_read_once(tmp_path):
    (tmp_path / "e.wav").write_bytes(_audio())
    names = (str(tmp_path / "e.wav"),)
    with Reader() as reader:
        first = reader.enrollment(names)
        assert reader.enrollment(names) is first and first[0][1:] == (16000, names[0])
