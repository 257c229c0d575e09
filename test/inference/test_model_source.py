"""Models by name: those that come with the package, and those of the Hugging Face hub."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
import soundfile

from espnet_tse_ser import errors
from espnet_tse_ser.bin import extract_files, infer
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference import shipped
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.model_source import fingerprint
from espnet_tse_ser.inference.packing import pack

SIGNALS = 0.1 * np.random.default_rng(0).standard_normal((2, 8000))


@pytest.fixture
def comes_with(tmp_path, monkeypatch, joint_dir):
    """Where two models come with the package, the default one and another."""
    monkeypatch.setattr(shipped, "DIRECTORY", tmp_path / "pretrained")
    for name in (shipped.DEFAULT, "other"):
        pack(joint_dir, tmp_path / "pretrained" / name, small=True)
    return tmp_path


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A huggingface_hub whose cache is a directory that a test fills; ``calls``: what is asked."""
    hub = types.SimpleNamespace(calls=[], cache=tmp_path / "cache")

    def snapshot_download(repository, *, revision, allow_patterns):
        hub.calls.append((repository, revision))
        assert {"*.yaml", "*.pth", "*.json", "*.zip"} == set(allow_patterns)
        return str(hub.cache)

    module = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return hub


def test_models_that_come_with_the_package(comes_with, joint_dir, monkeypatch):
    expected = TSESER.from_pretrained(comes_with / "pretrained/other")(*SIGNALS)
    for words in ((), (shipped.DEFAULT,), ("other",)):
        assert TSESER.from_pretrained(*words)(*SIGNALS).probabilities == expected.probabilities
    # A directory of the same name is meant only where it is named as one.
    monkeypatch.chdir(comes_with)
    shutil.copytree(joint_dir, "other")
    assert fingerprint("other") == fingerprint(shipped.DEFAULT) != fingerprint("./other")
    with pytest.raises(UserError, match="^mine: is no .* .other, ravdess_libri.; give one of th"):
        TSESER.from_pretrained("mine")


def test_none_comes_with_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "DIRECTORY", tmp_path)
    message = (
        f"^{shipped.DEFAULT}: is no directory or archive of a model here, and no model that comes "
        "with this installation .there is none.; give one of these, or a repository of the "
        "Hugging Face hub, user/name$"
    )
    with pytest.raises(UserError, match=message):
        TSESER.from_pretrained()


def test_what_comes_is_small():
    for name in shipped.names():
        parts = [path.stat().st_size for path in (shipped.DIRECTORY / name).iterdir()]
        assert sum(parts) <= 4 * 2**20
        assert {"config.yaml", "README.md", "calibration.json"} <= {
            path.name for path in (shipped.DIRECTORY / name).iterdir()
        }
        assert TSESER.from_pretrained(name).extracts


@pytest.mark.parametrize("form", ["files", "archive"])
def test_a_repository_of_the_hub(hub, joint_dir, form):
    expected = TSESER.from_pretrained(joint_dir)(*SIGNALS)
    pack(joint_dir, hub.cache / "fold1.zip" if form == "archive" else hub.cache)
    for name, revision in (("user/name", None), ("user/name@v1.0", "v1.0")):
        result = TSESER.from_pretrained(name)(*SIGNALS)
        assert result.probabilities == expected.probabilities
        assert hub.calls[-1] == ("user/name", revision)
    assert fingerprint("user/name") == fingerprint(joint_dir)


def test_a_repository_of_several_archives_or_of_none(hub, joint_dir):
    hub.cache.mkdir()
    with pytest.raises(UserError, match="cache/config.yaml: no such file; is .* a trained model"):
        TSESER.from_pretrained("user/name")
    for fold in "12":
        pack(joint_dir, hub.cache / f"fold{fold}.zip")
    with pytest.raises(UserError, match="user/name@v1: has 2 archives; get one of them, e.g. by "
                       "`hf download user/name fold1.zip`, and give that"):  # fmt: skip
        TSESER.from_pretrained("user/name@v1")


def test_what_the_hub_refuses(hub, monkeypatch):
    with pytest.raises(UserError, match="^user/name: is no directory or file here, and the downl"):
        hub.cache = types.SimpleNamespace(__str__=None)
        monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", _offline)
        TSESER.from_pretrained("user/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="^user/name: there is no such directory .* pip install"):
        TSESER.from_pretrained("user/name")


def _offline(*args, **options):
    raise ConnectionResetError(104, "reset")


@pytest.mark.parametrize("command", [infer, extract_files])
def test_commands_without_a_model(comes_with, joint_dir, monkeypatch, capsys, command):
    monkeypatch.chdir(comes_with)
    for name, signal in zip("me", SIGNALS, strict=True):
        soundfile.write(f"{name}.wav", signal, 16000)
    words = ["m.wav", "e.wav", "--output_wav=o.wav"]
    results = []
    for more in ([], ["--model_dir=other"], [f"--model_dir={joint_dir}"]):
        assert errors.run(command.main, words + more) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    assert results[0]["model"] == fingerprint("other") != results[2]["model"]
    assert errors.run(command.main, [*words, "--model_dir=none"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: none: is no directory or archive") and line.count("\n") == 1
