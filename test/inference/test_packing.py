import builtins
import io
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
import yaml

from espnet_tse_ser.bin import upload as bin_upload
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.model_source import fingerprint
from espnet_tse_ser.inference.packing import pack, upload


@pytest.fixture
def model_dir(tmp_path, ser_dir):
    """An experiment, whose best weights are those of its third epoch."""
    directory = tmp_path / "exp"
    directory.mkdir()
    shutil.copy(ser_dir / "config.yaml", directory)
    shutil.copy(ser_dir / "valid.ua.best.pth", directory / "3epoch.pth")
    (directory / "valid.ua.best.pth").symlink_to("3epoch.pth")
    return directory


def test_archive_holds_config_and_weights_and_is_reproducible(tmp_path, model_dir):
    pack(model_dir, tmp_path / "a.zip")
    pack(model_dir, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for name in ("valid.ua.best.pth", "config.yaml"):
            assert archive.read(name) == (model_dir / name).read_bytes()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_an_archive_is_a_model(tmp_path, model_dir):
    pack(model_dir, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    speech = 0.1 * np.random.default_rng(0).standard_normal(8000)
    expected = TSESER.from_pretrained(model_dir)(speech)
    for source in ("a.zip", "unpacked"):
        assert TSESER.from_pretrained(tmp_path / source)(speech) == expected
        assert fingerprint(tmp_path / source) == fingerprint(model_dir)
    whole = (tmp_path / "a.zip").read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "a.zip: is no directory of a model, and no whole archive"),
        (_zip({"x.txt": b"x"}), "a.zip: has no config.yaml in it; give an archive of stage 16"),
        (_zip({"config.yaml": b"a: 1"}), "a.zip/config.yaml: is neither a joint nor a SER model"),
    ):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(UserError, match=f"^{tmp_path}/{message}"):
            TSESER.from_pretrained(tmp_path / "a.zip")


def _zip(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def test_small_is_half_and_nearly_the_same(tmp_path, joint_dir, joint_config):
    training = {"max_epoch": 3, "tse_weights": "/home/somebody/x.pth", "ngpu": None}
    experiment = tmp_path / "exp"
    shutil.copytree(joint_dir, experiment)
    (experiment / "config.yaml").write_text(yaml.safe_dump(joint_config | training))
    for name in ("a", "b", "a.zip"):
        pack(experiment, tmp_path / name, small=True)
    parts = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert parts == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert parts == {name: archive.read(name) for name in archive.namelist()}
    assert yaml.safe_load(parts["config.yaml"]) == joint_config
    state = torch.load(io.BytesIO(parts["valid.ua.best.pth"]), weights_only=True)
    before = torch.load(joint_dir / "valid.ua.best.pth", weights_only=True)
    assert state.keys() == before.keys()
    assert all(v.dtype in (torch.float16, torch.int64) for v in state.values())
    model, expected = TSESER.from_pretrained(tmp_path / "a"), TSESER.from_pretrained(experiment)
    assert all(p.dtype == torch.float32 for p in model.model.parameters())
    rng = np.random.default_rng(0)
    for _ in range(3):
        signals = 0.1 * rng.standard_normal((2, 8000))
        result, other = model(*signals), expected(*signals)
        moved = [abs(p - other.probabilities[k]) for k, p in result.probabilities.items()]
        assert 0 < max(moved) < 1e-3
        np.testing.assert_allclose(result.speech, other.speech, atol=1e-3)
    large = experiment / "valid.ua.best.pth"
    torch.save(before | {"ser_model.classifier.bias": torch.full((4,), 1e5)}, large)
    with pytest.raises(UserError, match="a number is too large for 16 bits; pack it without --sm"):
        pack(experiment, tmp_path / "large", small=True)
    assert not (tmp_path / "large").exists()


def test_a_directory_does_not_replace_the_model(model_dir):
    before = {p.name: p.read_bytes() for p in model_dir.iterdir()}
    with pytest.raises(UserError, match="exp/config.yaml: is a part of the model; choose another"):
        pack(model_dir, model_dir, small=True)
    assert {p.name: p.read_bytes() for p in model_dir.iterdir()} == before


@pytest.mark.parametrize("wrong", ["text", "NaN", "another", "configuration"])
def test_what_cannot_be_loaded_is_not_packed(tmp_path, model_dir, ser_config, wrong):
    path, state = model_dir / "3epoch.pth", torch.load(model_dir / "3epoch.pth")
    if wrong == "text":
        path.write_bytes(b"weights")
    elif wrong == "NaN":
        torch.save(state | {"classifier.bias": torch.full((4,), torch.nan)}, path)
    elif wrong == "another":
        torch.save(state | {"classifier.bias": torch.zeros(5)}, path)
    else:
        config = yaml.safe_dump(ser_config | {"encoder": "cnn"})
        (model_dir / "config.yaml").write_text(config)
    name = "config.yaml" if wrong == "configuration" else "valid.ua.best.pth"
    with pytest.raises(UserError, match=f"{name}: "):
        pack(model_dir, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == [model_dir]


def test_unfinished_experiment_is_refused_and_leaves_nothing(tmp_path, model_dir):
    (model_dir / "valid.ua.best.pth").unlink()
    with pytest.raises(UserError, match="it was not trained: remove"):
        pack(model_dir, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == [model_dir]


def test_an_archive_does_not_replace_the_model(tmp_path, model_dir):
    before = {p.name: p.read_bytes() for p in model_dir.iterdir()}
    (tmp_path / "link.zip").symlink_to(model_dir / "config.yaml")
    for name in ("exp/config.yaml", "exp/valid.ua.best.pth", "exp/3epoch.pth", "link.zip"):
        with pytest.raises(UserError, match=f"{name}: is a part of the model"):
            pack(model_dir, tmp_path / name)
    assert {p.name: p.read_bytes() for p in model_dir.iterdir()} == before


# Classes of huggingface_hub (0.x with requests, 1.x with httpx) and of what it brings along.
# They are known by name: the package need not be installed.


class ConnectionError(OSError):  # noqa: A001 - requests.exceptions.ConnectionError
    pass


class TransportError(Exception):  # httpx.TransportError, which is no OSError
    pass


class ConnectError(TransportError):
    pass


class ReadTimeout(TransportError):
    pass


class OfflineModeIsEnabled(ConnectionError):
    pass


class LocalTokenNotFoundError(OSError):
    pass


class HFValidationError(ValueError):
    pass


class HfHubHTTPError(OSError):
    def __init__(self, message, status):
        super().__init__(message)
        self.response = types.SimpleNamespace(status_code=status)


class RepositoryNotFoundError(HfHubHTTPError):
    pass


class BadRequestError(HfHubHTTPError, ValueError):
    pass


@pytest.fixture
def archive(tmp_path, model_dir):
    pack(model_dir, tmp_path / "model.zip")
    return tmp_path / "model.zip"


@pytest.fixture
def hub(monkeypatch):
    """A huggingface_hub that notes the calls and raises what ``errors`` has for them."""
    hub = types.SimpleNamespace(calls=[], errors={})

    class HfApi:
        def create_repo(self, *args, **options):
            hub.calls.append(("create_repo", args, options))
            if "create_repo" in hub.errors:
                raise hub.errors["create_repo"]

        def upload_file(self, **options):
            hub.calls.append(("upload_file", (), options))
            if "upload_file" in hub.errors:
                raise hub.errors["upload_file"]

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=HfApi))
    return hub


def upload_line(archive, repository, capsys):
    """What the command says, which is one line, with status 2."""
    capsys.readouterr()
    assert run(bin_upload.main, [f"--archive={archive}", f"--hf_repo={repository}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_upload(archive, hub):
    upload(archive, "user/tse_ser.v2")
    assert hub.calls == [
        ("create_repo", ("user/tse_ser.v2",), {"exist_ok": True}),
        (
            "upload_file",
            (),
            dict(path_or_fileobj=archive, path_in_repo="model.zip", repo_id="user/tse_ser.v2"),
        ),
    ]


@pytest.mark.parametrize("call", ["create_repo", "upload_file"])
@pytest.mark.parametrize(
    "error, expected",
    [
        (ConnectError("Name or service not known"), "the hub cannot be reached"),
        (ReadTimeout("The read operation timed out"), "the hub cannot be reached"),
        (ConnectionError("Max retries exceeded"), "the hub cannot be reached"),
        (OfflineModeIsEnabled("offline mode is enabled"), "the hub cannot be reached"),
        (builtins.ConnectionResetError(104, "Connection reset"), "the hub cannot be reached"),
        (LocalTokenNotFoundError("Token is required"), "log in with `hf auth login`"),
        (HfHubHTTPError("401 Client Error", 401), "log in with `hf auth login`"),
        (RepositoryNotFoundError("401 Client Error", 401), "log in with `hf auth login`"),
        (HfHubHTTPError("403 Forbidden", 403), "take a token that may write"),
        (RepositoryNotFoundError("404 Not Found", 404), "no such user or repository"),
        (BadRequestError("400 Bad Request", 400), "the hub answers with status 400"),
        (HfHubHTTPError("503 Unavailable\nRequest ID: x", 503), "status 503 (503 Unavailable)"),
        (HFValidationError("Repo id must use"), "the hub does not take this name"),
        (RuntimeError("no xet"), "RuntimeError (no xet)"),
    ],
    ids=lambda value: getattr(value, "strerror", None) or str(value)[:12],
)
def test_a_failing_upload_says_which_it_is(archive, hub, call, error, expected, capsys):
    hub.errors[call] = error
    line = upload_line(archive, "user/model", capsys)
    assert line.startswith("error: user/model: the upload failed: ") and expected in line
    assert ("log in" in line) == ("log in" in expected)


@pytest.mark.parametrize(
    "name",
    [
        *("", "model", "user/model/extra", "user/", "/model", "a b/c", "user/mödel", "-x/y"),
        *("https://huggingface.co/user/model", "user/model\n", "../model", "user\\model"),
    ],
)
def test_a_name_that_is_none(archive, hub, name, capsys):
    assert "is no name of a repository; expected" in upload_line(archive, name, capsys)
    assert not hub.calls


def test_an_archive_that_is_none(archive, hub, tmp_path, capsys):
    assert "no such archive; run stage 16" in upload_line(tmp_path / "none.zip", "a/b", capsys)
    assert "no such archive; run stage 16" in upload_line(tmp_path, "a/b", capsys)
    whole = archive.read_bytes()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("notes.txt", "x")
    broken = bytearray(whole)
    broken[whole.index(b"config.yaml") + 13] ^= 255
    other = (tmp_path / "other.zip").read_bytes()
    for content in (b"", b"no zip", whole[:-30], whole[20:], bytes(broken), other):
        archive.write_bytes(content)
        assert "model.zip: is no archive of a model; delete" in upload_line(archive, "a/b", capsys)
    assert not hub.calls


def test_without_the_hub(archive, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install huggingface_hub" in upload_line(archive, "user/model", capsys)
