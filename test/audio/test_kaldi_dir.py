"""Kaldi's two-column files."""

import pytest

from espnet_tse_ser.audio.kaldi_dir import invert, read_table, write_table
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
        ("a\tx y\n", r"line 1: .*cannot be an id: .*U\+0009"),
        (" x\n", "line 1: expected"),
        ("a x\n\nb x\n", "line 2: expected"),
        ("\n", "line 1: expected"),
        ("", "is empty"),
        ("a x\nb cat x |\n", "line 2: 'b': cat x .: pipes are not supported: write a file"),
        ("a x.ark:0\nb x.ark\n", "line 2: 'b': x.ark: of an archive one entry is read"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "wav.scp").write_text(text)
    with pytest.raises(UserError, match=f"wav.scp: {message}"):
        read_table(tmp_path / "wav.scp")


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="wav.scp: no such file; run the stage"):
        read_table(tmp_path / "wav.scp")
    with pytest.raises(UserError, match="^'': is no file; run the stage"):
        read_table("")


def test_not_utf_8(tmp_path):
    (tmp_path / "wav.scp").write_bytes("a x\nb é\n".encode("latin-1"))
    with pytest.raises(UserError, match="wav.scp: is not UTF-8 text"):
        read_table(tmp_path / "wav.scp")


NO_IDS = [
    "..",
    "../x",
    "/x/y",
    "a/b",
    "a\\b",
    "a,b",
    ".x",
    "a\u200b",
    "a\u00a0b",
    "\ufeffa",
    "e\u0301",
]


@pytest.mark.parametrize("key", NO_IDS)
def test_keys_that_are_no_ids(tmp_path, key):
    path = tmp_path / "wav.scp"
    path.write_text(f"!a x\n{key} x\n", encoding="utf-8")
    with pytest.raises(UserError, match="wav.scp: line 2: .*cannot be an id"):
        read_table(path)
    path.unlink()
    with pytest.raises(UserError, match="wav.scp: .*cannot be an id"):
        write_table(path, {"!a": "x", key: "x"})
    assert not path.exists()


@pytest.mark.parametrize("name", ["utt2spk", "utt2emo", "utt2category", "spk2utt"])
@pytest.mark.parametrize("value", [*NO_IDS, "a \u200b"])
def test_values_that_are_no_ids(tmp_path, name, value):
    path = tmp_path / name
    path.write_text(f"a x\nb {value}\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}: line 2: 'b': .*cannot be an id"):
        read_table(path)
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: 'b': .*cannot be an id"):
        write_table(path, {"a": "x", "b": value})
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "utt2fold",
            "10",
            ["01", "00", "1.0", "-1", "+1", "A", "\u0661", "\u00b2", "1 2", "1e1", "1_0"],
        ),
        (
            "utt2num_samples",
            "1600",
            ["0", "-5", "1.5", "1e4", "nan", "many", "9" * 20, "1_0", "016"],
        ),
        ("utt2lufs", "-23.5", ["nan", "inf", "-inf", "loud", "1e9", "-101", "1_0", "-23,5"]),
    ],
)
def test_values_that_are_no_numbers(tmp_path, name, good, bad):
    path = tmp_path / name
    write_table(path, {"a": good})
    assert read_table(path) == {"a": good}
    for value in bad:
        path.write_text(f"a {good}\nb {value}\n", encoding="utf-8")
        with pytest.raises(UserError, match=f"{name}: line 2: 'b': "):
            read_table(path)
        with pytest.raises(UserError, match=f"{name}: 'b': "):
            write_table(path, {"a": good, "b": value})


@pytest.mark.parametrize(
    "table",
    [
        *({"a b": "x"}, {"": "x"}, {"a": ""}, {"a": " "}, {"a": "x "}, {"a": "\u00a0x"}),
        *({"a": "x\ny"}, {"a": "x\ty"}, {"a": "x\ry"}, {"a": "x\0y"}, {"a": "x\x7fy"}),
        {"a": "caf\udce9.wav"},
    ],
)
def test_unwritable_tables(tmp_path, table):
    with pytest.raises(UserError, match="^.*/t: "):
        write_table(tmp_path / "t", table)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_files_of_other_systems(tmp_path, end, mark, last):
    text = mark + end.join(["a x y", "b z"]) + (end if last else "")
    (tmp_path / "wav.scp").write_bytes(text.encode())
    assert read_table(tmp_path / "wav.scp") == {"a": "x y", "b": "z"}


def test_invert():
    assert invert({"u3": "b", "u2": "a", "u1": "b"}) == {"a": "u2", "b": "u1 u3"}
