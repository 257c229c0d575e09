"""Configurations and weights on disk: strict loading, and what is refused."""

import os
import pickle

import pytest
import torch
import yaml

from espnet_tse_ser.checkpoints import (
    chosen_criterion,
    find_weights,
    load_state,
    load_weights,
    read_config,
)
from espnet_tse_ser.errors import UserError


def _net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(_net().state_dict(), path)
    return path


class Payload:
    """What unpickling must never run."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_weights_are_loaded(weights, caplog):
    net = _net()
    with caplog.at_level("INFO"):
        load_weights(net, weights)
    saved = load_state(weights)
    assert all(torch.equal(v, saved[k]) for k, v in net.state_dict().items())
    assert "7 of 7 tensors loaded" in caplog.text


def test_prefix_and_optional(tmp_path, weights):
    state = load_state(weights)
    path = tmp_path / "whole.pth"
    whole = {f"part.{k}": v for k, v in state.items()} | {"partner.x": torch.ones(1)}
    torch.save(whole, path)
    net = _net()
    load_weights(net, path, prefix="part")
    assert torch.equal(net[0].weight, state["0.weight"])
    with pytest.raises(UserError, match="7 missing, 0 unknown"):
        load_weights(_net(), path, prefix="other")
    torch.save(state | {"classifier.weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="1 unknown.* first 'classifier.weight' .unknown to the m"):
        load_weights(_net(), path)
    load_weights(_net(), path, optional=("classifier",))
    net = _net()
    net.add_module("classifier", torch.nn.Linear(2, 2))
    load_weights(net, weights, optional=("classifier",))
    load_weights(net, path, optional=("classifier",))  # of another shape: left as it is


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("1.bias"), r"1 missing, 0 unknown, 0 of another.*'1.bias' \(missing in"),
        (lambda s: s.update({"0.weight": torch.ones(4, 5)}), r"\(4, 5\) instead of \(4, 3\)"),
        (lambda s: s.update(more=torch.ones(1)), r"'more' \(unknown to the model\)"),
        (lambda s: s.clear(), "7 missing"),
    ],
)
def test_another_architecture(weights, change, message):
    state = load_state(weights)
    change(state)
    torch.save(state, weights)
    net = _net()
    before = net[0].weight.clone()
    with pytest.raises(UserError, match=f"weights.pth: weights of another.*{message}") as error:
        load_weights(net, weights)
    assert "use the configuration that the weights were trained with" in str(error.value)
    assert torch.equal(net[0].weight, before)  # nothing was loaded


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"hello world, this is text\n", b"\x80", b"PK\x03\x04", bytes(range(256))],
)
def test_a_file_of_something_else(weights, content):
    weights.write_bytes(content)
    with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
        load_state(weights)
    assert "\n" not in str(error.value)


def test_a_truncated_file(weights):
    whole = weights.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
            load_state(weights)
        assert "train it again" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("save", [torch.save, lambda v, p: p.write_bytes(pickle.dumps(v))])
def test_a_pickled_object_is_refused(weights, monkeypatch, tmp_path, save):
    monkeypatch.chdir(tmp_path)
    save({"0.weight": Payload()}, weights)
    with pytest.raises(UserError, match="weights.pth: cannot be loaded as weights") as error:
        load_state(weights)
    # Never advise to load it all the same, as PyTorch's message does.
    assert "weights_only" not in str(error.value) and "options" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "value", [[1, 2], torch.ones(2), {0: torch.ones(1)}, {"epoch": 3}, {"model": {}}, "text"]
)
def test_not_a_state_dict(weights, value):
    torch.save(value, weights)
    with pytest.raises(UserError, match="weights.pth: is not a state dict"):
        load_state(weights)


def test_no_such_weights(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such file"):
        load_state(tmp_path / "none.pth")
    with pytest.raises(UserError, match=f"{tmp_path}: cannot be"):
        load_state(tmp_path)
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; has the training in"):
        find_weights(tmp_path, "valid.ua")
    (tmp_path / "valid.ua.best.pth").touch()
    assert find_weights(tmp_path, "valid.ua") == tmp_path / "valid.ua.best.pth"


def test_configurations(tmp_path):
    with pytest.raises(UserError, match="config.yaml: no such file; is .* a trained model"):
        read_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    assert read_config(tmp_path) == {"a": 1}
    with pytest.raises(UserError, match="is .* a trained model"):
        read_config(path)  # a file instead of its directory
    for text, message in (
        ("a: [1", "line 1: not valid YAML"),
        ("- 1\n", "expected a mapping of options, got list"),
        ("", "expected a mapping of options, got NoneType"),
        ("a: !!python/object/apply:os.mkdir [pwned]\n", "line 1: not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=f"config.yaml: {message}") as error:
            read_config(tmp_path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="config.yaml: is not UTF-8 text .byte 0xff at position 0"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "criteria", [None, [], "valid", ["valid", "ua", "max"], [["valid", "ua"]], [[1, 2, 3]], [[]]]
)
def test_no_criterion_is_chosen_by(tmp_path, criteria):
    with pytest.raises(UserError, match="^a/config.yaml: best_model_criterion: expected a list"):
        chosen_criterion({"best_model_criterion": criteria}, "a/config.yaml")


def test_weights_that_are_not_kept(tmp_path):
    assert chosen_criterion({}, "a/config.yaml") == "valid.ua"
    criteria = {"best_model_criterion": [["valid", "wa", "max"], ["valid", "loss", "min"]]}
    assert chosen_criterion(criteria, "a/config.yaml") == "valid.wa"
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; has the training in"):
        find_weights(tmp_path, "valid.ua")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(criteria))
    with pytest.raises(UserError, match="keeps valid.wa, valid.loss only; add it and train again"):
        find_weights(tmp_path, "valid.ua")
    with pytest.raises(UserError, match="valid.wa.best.pth: no such file; has the training in"):
        find_weights(tmp_path, "valid.wa")
