"""Files of PyTorch: what is read, what is refused, and that nothing in them runs."""

import collections
import datetime
import io
import os
import re

import numpy as np
import pytest
import torch
from evil_files import EVIL, write_bomb, write_evil

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.plain_files import (
    DamagedFile,
    OtherObjects,
    load_plain,
    only_plain_files,
    plain,
)

VALUES = {
    "tensors": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)},
    "numbers": {"a": 1, "b": 2.5, "c": True, "d": None, "e": "text", "f": 2**70, "g": float("nan")},
    "sequences": [1, (2, 3), {4}, {"x": [], "y": {}}],
    "types": [torch.float16, torch.Size([2]), torch.device("cpu"), b"bytes"],
}


@pytest.mark.parametrize("save", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_plain_values_are_read_as_they_were(tmp_path, value, save):
    torch.save(value, tmp_path / "x.pth", **save)
    assert repr(load_plain(tmp_path / "x.pth", "")) == repr(value) == repr(plain(value))


def test_a_state_dict_keeps_its_versions(tmp_path):
    state = torch.nn.BatchNorm1d(2).state_dict()
    torch.save(plain(state), tmp_path / "x.pth")
    assert load_plain(tmp_path / "x.pth", "")._metadata == state._metadata


@pytest.mark.parametrize(("payload", "save"), EVIL)
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, payload, save):
    monkeypatch.chdir(tmp_path)
    write_evil(tmp_path / "x.pth", payload, save)
    with pytest.raises(OtherObjects) as error:
        load_plain("x.pth", "train it again")
    message = str(error.value)
    pattern = r"x.pth: holds other objects .* \(.+\): it may run code, and is not read; train it a"
    assert re.match(pattern, message) and "\n" not in message
    assert "weights_only" not in message
    assert not (tmp_path / "pwned").exists()
    # The test can tell: read without care, the file does run.
    torch.load("x.pth", weights_only=False) if "pickle" not in save else _unpickle("x.pth")
    assert (tmp_path / "pwned").exists()


def _unpickle(path):
    import pickle

    with open(path, "rb") as stream:
        pickle.load(stream)


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (lambda p: torch.save({"a": np.ones(3)}, p), "numpy"),
        (lambda p: torch.save({"a": torch.nn.functional.relu}, p), "torch.nn.functional.relu"),
        (lambda p: torch.save({"a": np.array(None)[()], "b": np.dtype("V8")}, p), "numpy.dtype"),
        (lambda p: torch.save(io.BytesIO, p), "_?io.BytesIO"),
        (lambda p: torch.save(datetime.date(2000, 1, 1), p), "datetime.date"),
        (lambda p: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), p), "__torch__"),
    ],
)
def test_other_objects_are_called_what_they_are(tmp_path, save, name):
    save(str(tmp_path / "x.pth"))
    with pytest.raises(OtherObjects, match=rf"plain values \(.*{name}"):
        load_plain(tmp_path / "x.pth", "")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"text\n" * 9, b"\x80\x02", b"PK\x03\x04", bytes(range(256))]
)
def test_a_file_of_something_else(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"x.pth: is damaged, or not as .*; make it") as error:
        load_plain(tmp_path / "x.pth", "make it again")
    assert "\n" not in str(error.value) and error.value.reason


@pytest.mark.parametrize("save", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_truncated_file_is_damaged(tmp_path, save):
    path = tmp_path / "x.pth"
    torch.save(VALUES["tensors"], path, **save)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, len(whole) // 23):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile):
            load_plain(path, "")


def test_a_pickle_of_another_protocol_is_not_called_dangerous(tmp_path):
    torch.save(VALUES["tensors"], tmp_path / "x.pth", pickle_protocol=4)
    with pytest.raises(DamagedFile, match="files by default .a pickle of another protocol"):
        load_plain(tmp_path / "x.pth", "")


def test_a_file_that_unpacks_to_more_than_itself(tmp_path):
    write_bomb(tmp_path / "x.pth")
    with pytest.raises(DamagedFile, match=r"its parts are said to have 100\d+ bytes"):
        load_plain(tmp_path / "x.pth", "")


def test_what_is_no_file(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such file; train"):
        load_plain(tmp_path / "none.pth", "train it")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match=f"{path}: is no file; train"):
            load_plain(path, "train it")


@pytest.mark.parametrize("value", [np.float64(1), np.int8(1), np.bool_(1), np.str_("a")])
def test_no_scalars_of_numpy(tmp_path, value):
    torch.save({"x": value}, tmp_path / "x.pth")
    with pytest.raises(OtherObjects, match=r"numpy._core.multiarray.scalar, numpy.dtype\)"):
        load_plain(tmp_path / "x.pth", "")


def test_what_is_written_is_plain(tmp_path):
    value = {
        "stats": collections.defaultdict(dict, {1: {"loss": np.float32(0.5), "n": np.int64(3)}}),
        "tensor": torch.ones(2),
    }
    torch.save(plain(value), tmp_path / "x.pth")
    read = load_plain(tmp_path / "x.pth", "")
    assert repr(read) == repr({"stats": {1: {"loss": 0.5, "n": 3}}, "tensor": torch.ones(2)})
    for other in (print, np.ones(2), object(), io.BytesIO()):
        with pytest.raises(UserError, match="holds .* which cannot be read again safely"):
            plain({"a": [other]})


def test_loading_of_others_is_made_safe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_evil(tmp_path / "x.pth")
    torch.save(VALUES["tensors"], "good.pth")
    before = torch.load
    with only_plain_files():
        with pytest.raises(OtherObjects):
            torch.load("x.pth", map_location="cpu", weights_only=False)
        assert repr(torch.load("good.pth", "cpu")) == repr(VALUES["tensors"])
        assert torch.load("good.pth", map_location="meta")["a"].is_meta
        with open("good.pth", "rb") as stream:  # as processes send tensors
            assert repr(torch.load(stream)) == repr(VALUES["tensors"])
    assert torch.load is before and not (tmp_path / "pwned").exists()
