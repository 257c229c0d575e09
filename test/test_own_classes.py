"""Classes of a user's own: found where the user says, checked, recorded, and never run unasked."""

import os
import py_compile
import zipfile

import pytest
import torch
import yaml
from own_encoder import TEXT, write_encoder
from tiny_commands import main_of, make_command

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.packing import pack
from espnet_tse_ser.models.build_ser import build_ser_model, check_ser_config
from espnet_tse_ser.own_classes import VARIABLE, checksums, find_module, load_class
from espnet_tse_ser.training.checkpoints import load_state, read_config


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The directory of modules, with an encoder in it."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "local"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    write_encoder(tmp_path / "local")
    return tmp_path / "local"


OWN = {"encoder": "plain:Plain", "encoder_conf": {"channels": 6}, "max_epoch": 1}


def _train(training, tiny, directory, **changes):
    command = make_command(training, directory, tiny, **changes)
    main_of(training)([*command, "--output_dir", str(directory / training)])
    return directory / training


def _refused(path, sentinel, message):
    """The model is refused with this message, and nothing of a module has run."""
    with pytest.raises(UserError, match=message):
        TSESER.from_pretrained(path)
    assert not sentinel.exists()


def test_a_plain_encoder_is_two_files(code, tiny, tmp_path, monkeypatch):
    exp = _train("ser", tiny, tmp_path, **OWN, best_model_criterion=[["valid", "ua", "max"]])
    config = read_config(exp)
    assert config["encoder"] == "plain:Plain" and config["encoder_conf"] == {"channels": 6}
    assert config["modules"] == checksums({"encoder": "plain:Plain"}, str)
    assert load_state(exp / "valid.ua.best.pth")["encoder.linear.weight"].shape[0] == 6
    speech = torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    probabilities = TSESER.from_pretrained(exp)(speech).probabilities

    # Part of a joint model, and of an archive.
    joint = _train("tse_ser", tiny | {"ser_dir": exp}, tmp_path, max_epoch=1)
    assert read_config(joint)["ser"]["modules"] == config["modules"]
    (joint / "valid.ua.best.pth").symlink_to("1epoch.pth")
    for name, model in (("ser", exp), ("joint", joint)):
        pack(model, tmp_path / f"{name}.zip")
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
            assert archive.read("code/plain.py").decode() == TEXT
            archive.extractall(tmp_path / name)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "ser/code"))
    assert TSESER.from_pretrained(tmp_path / "ser")(speech).probabilities == probabilities
    TSESER.from_pretrained(tmp_path / "joint")

    # It runs only where the user says so, and only as it was.
    sentinel = tmp_path / "it_ran"
    monkeypatch.delenv(VARIABLE)
    message = f"config.yaml: encoder: plain:Plain is a class in a file plain.py, .* set {VARIABLE}"
    _refused(exp, sentinel, message)
    _refused(tmp_path / "joint", sentinel, f"config.yaml: ser: encoder: .* set {VARIABLE}")
    monkeypatch.setenv(VARIABLE, str(code))
    (code / "plain.py").write_text(f"{TEXT}\nopen({str(sentinel)!r}, 'w')\n")
    message = f"encoder: plain:Plain: {code}/plain.py is not the file that the model was trained"
    _refused(exp, sentinel, message)
    write_encoder(code)
    (code / "other.py").write_text(f"open({str(sentinel)!r}, 'w')\n")
    path = tmp_path / "ser/config.yaml"
    for changes in ({"encoder": "other:X"}, {"pooling": "other:X"}, {"model": "other:X"}):
        path.write_text(yaml.safe_dump(config | changes))
        _refused(tmp_path / "ser", sentinel, "other.py is not the file .* .SHA-256 None")
    path.write_text(yaml.safe_dump(config | {"modules": None}))
    _refused(tmp_path / "ser", sentinel, "plain.py is not the file")


def test_every_component_may_be_ones_own(code, ser_config):
    parts = {
        "frontend": "recognise.frontend:LogMelFrontend",
        "normalize": "recognise.normalize:GlobalMVN",
        "specaug": "recognise.specaug:SpecAugment",
        "preencoder": "recognise.stem:ConvStem",
        "encoder": "recognise.shift_cnn:ShiftCNN",
        "pooling": "recognise.pooling:StatsPooling",
        "model": "models.espnet_ser_model:ESPnetSERModel",
    }
    config = dict(ser_config)
    for kind, ours in parts.items():
        module, name = ours.split(":")
        path = code / "parts" / f"{kind}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from espnet_tse_ser.{module} import {name}\nclass Mine({name}): pass\n")
        config[kind] = f"parts.{kind}:Mine"
    config["modules"] = checksums({kind: config[kind] for kind in parts}, str)
    model = build_ser_model(config, "train.yaml")
    assert {type(getattr(model, kind)).__name__ for kind in [*parts][:-1]} == {"Mine"}
    assert type(model).__name__ == "Mine"
    torch.manual_seed(0)
    again = build_ser_model(config, "train.yaml")
    torch.manual_seed(0)
    names = {"normalize": "global_mvn", "specaug": "specaug", "model": "emotion"}
    ours = build_ser_model(ser_config | names, "train.yaml")
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"channels": 0}, "channels: expected a whole number of 1 or more"),
        ({"channels": 1.5}, "channels: expected a whole number"),
        ({"bias": "maybe"}, "bias: expected true or false"),
        ({"bias": 0}, "bias: expected true or false"),
        ({"size": 3}, "unknown key 'size'; known: channels, bias"),
    ],
)
def test_its_options_are_checked_as_ours(code, ser_config, conf, message):
    config = ser_config | {"encoder": "plain:Plain", "encoder_conf": conf}
    config["modules"] = checksums({"encoder": "plain:Plain"}, str)
    with pytest.raises(UserError, match=f"^train.yaml: encoder_conf: {message}"):
        build_ser_model(config, "train.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Plain(:\n", r"cannot be imported \(SyntaxError: .*line 1\)"),
        ("import no_such_package\n", r"cannot be imported \(ModuleNotFoundError: No module named"),
        ("from . import sister\n", r"cannot be imported \(\w*ImportError|ModuleNotFoundError"),
        ("1 / 0\n", r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("class Other: pass\n", "has no class Plain that is a torch.nn.Module"),
        ("class Plain: pass\n", "has no class Plain that is a torch.nn.Module"),
        ("Plain = 3\n", "has no class Plain that is a torch.nn.Module"),
        (TEXT.replace("bias: bool", "bias: list"), "bias is annotated with <class 'list'>, which"),
        (TEXT.replace("bias: bool", "bias: 'Nothing'"), "name 'Nothing' is not defined"),
    ],
)
def test_modules_that_cannot_be_used(code, text, message):
    (code / "plain.py").write_text(text)
    with pytest.raises(
        UserError, match=f"^x.yaml: encoder: plain:Plain: {code}/plain.py: .*{message}"
    ):
        load_class("plain:Plain", "x.yaml: encoder")


@pytest.mark.parametrize(
    "name",
    ["plain", "plain:", ":Plain", "../plain:Plain", "/plain:Plain", "a b:C", "plain:P:Q", "a..b:C"],
)
def test_names_that_are_none(code, name):
    with pytest.raises(UserError, match="^x.yaml: encoder: expected a class of your own"):
        find_module(name, "x.yaml: encoder")


def test_nothing_but_files_of_the_directory(code):
    for name in ("os:PathLike", "torch.nn:Linear", "espnet_tse_ser.recognise.stem:ConvStem"):
        with pytest.raises(UserError, match=rf"{name}: {code}/\S+.py: no such file"):
            load_class(name, "x.yaml: encoder")


def test_compiled_code_is_not_taken_for_the_file(code, tmp_path):
    path, sentinel = code / "plain.py", tmp_path / "it_ran"
    text = path.read_text()
    path.write_text(f"open({str(sentinel)!r}, 'w')\n".ljust(len(text), "#"))
    status = path.stat()
    py_compile.compile(path)
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # so that it would be taken
    assert path.stat().st_size == status.st_size and (code / "__pycache__").exists()
    assert load_class("plain:Plain", "x").__name__ == "Plain" and not sentinel.exists()


def test_the_message_names_the_kind(ser_config):
    with pytest.raises(
        UserError,
        match="pooling: 'max' is not known; use stats, attention, attentive_stats, or a c",
    ):
        check_ser_config(ser_config | {"pooling": "max"}, str)
