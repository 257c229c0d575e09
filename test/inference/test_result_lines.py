"""Results that a later run adds to."""

import json

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.inputs import Item
from espnet_tse_ser.inference.results import Results

SETTINGS = {"model": "abc", "segment_seconds": None}
ITEMS = [Item("a", "a.wav", ("e.wav", "f.wav")), Item("b é", "b é.wav"), Item("c", "a.wav")]
RESULT = {
    "label": "ang",
    "probabilities": {"ang": 0.75, "sad": 0.25},
    "seconds": 1.5,
    "segments": [{"start": 0}],
    "warnings": ["short", "clipped"],
}


@pytest.fixture(params=["jsonl", "tsv"])
def path(request, tmp_path):
    return tmp_path / "out" / f"r.{request.param}"


def _write(path, items=ITEMS, **more):
    results = Results(path, settings=SETTINGS, **more)
    for item in items:
        if item not in results:
            results.write(item, RESULT)


def test_what_is_written(path):
    _write(path)
    lines = path.read_text().splitlines()
    if path.suffix == ".jsonl":
        assert json.loads(lines[0]) == {
            "id": "a", "mixture": "a.wav", "enrollment": ["e.wav", "f.wav"], **RESULT, **SETTINGS,
        }  # fmt: skip
        assert json.loads(lines[1])["id"] == "b é" and len(lines) == 3
        return
    header = "id mixture enrollment label p_ang p_sad seconds warnings model segment_seconds"
    assert lines[0].split("\t") == header.split()
    first = "a|a.wav|e.wav;f.wav|ang|0.75|0.25|1.5|short / clipped|abc|"
    assert lines[1] == first.replace("|", "\t").replace("/", "|") and len(lines) == 4


def test_nothing_is_written_twice(path):
    _write(path)
    whole = path.read_bytes()
    _write(path)
    assert path.read_bytes() == whole
    results = Results(path, settings=SETTINGS)
    assert len(results) == 3 and all(item in results for item in ITEMS)
    assert Item("d", "a.wav") not in results
    with pytest.raises(UserError, match="has a result of 'a' from .*; give another --output"):
        assert Item("a", "a.wav", ("other.wav",)) in results
    with pytest.raises(UserError, match="'.csv' names no form of results; end it in .jsonl or .t"):
        Results(path.with_suffix(".csv"), settings=SETTINGS)
    assert Results(path.with_suffix(".csv"), "jsonl").form == "jsonl"


def test_killed_at_any_byte(path):
    _write(path)
    whole = path.read_bytes()
    for left in range(len(whole)):
        path.write_bytes(whole[:left])
        _write(path)
        assert path.read_bytes() == whole, left


def test_a_file_of_other_settings_or_kind(path, tmp_path):
    _write(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="has model abc, but now it is def; give another name"):
        Results(path, settings=SETTINGS | {"model": "def"})
    with pytest.raises(UserError, match="has segment_seconds (None)?, but now it is 3"):
        Results(path, settings=SETTINGS | {"segment_seconds": 3})
    with pytest.raises(UserError, match="--output .* is an input as well"):
        Results(path, inputs=[str(path)])
    other = "tsv" if path.suffix == ".jsonl" else "jsonl"
    with pytest.raises(UserError, match="holds no results of this kind"):
        Results(path, other)
    assert path.read_bytes() == before
    for content in (b"RIFF\0\0\n\0", b"notes", b'{"id": "a"}\n' * 2, b"id\tmixture\tx\na\tb\tc\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="holds no results of this kind|line [12]: is no resul"):
            Results(path, settings=SETTINGS)
        assert path.read_bytes() == content


def test_on_standard_output(capsys):
    _write(None, ITEMS[:1])
    assert json.loads(capsys.readouterr().out)["id"] == "a"
    _write(None, form="tsv")
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4 and out[0].startswith("id\tmixture\t")


def test_a_name_that_no_table_can_hold(tmp_path):
    with pytest.raises(UserError, match="r.*: id: .* has a tab"):
        _write(tmp_path / "r.tsv", [Item("r\t1", "r\t1")])
    assert not (tmp_path / "r.tsv").exists()
