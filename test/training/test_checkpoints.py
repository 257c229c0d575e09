"""Configurations and weights on disk: strict loading, and what is refused."""

import pytest
import torch
import yaml
from evil_files import EVIL, write_bomb, write_evil

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.checkpoints import (
    chosen_criterion,
    find_weights,
    load_state,
    load_weights,
    read_config,
)


def _net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(_net().state_dict(), path)
    return path


def test_weights_are_loaded(weights, caplog):
    net = _net()
    with caplog.at_level("INFO"):
        load_weights(net, weights)
    saved = load_state(weights)
    assert all(torch.equal(v, saved[k]) for k, v in net.state_dict().items())
    assert "7 of 7 tensors loaded" in caplog.text


def test_optional(tmp_path, weights):
    state = load_state(weights)
    path = tmp_path / "whole.pth"
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
    with pytest.raises(UserError, match="weights.pth: is damaged, or not as") as error:
        load_state(weights)
    assert "\n" not in str(error.value)


def test_a_truncated_file(weights):
    whole = weights.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(UserError, match="weights.pth: is damaged, or not as") as error:
            load_state(weights)
        assert "train it again" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("payload", "save"), EVIL)
def test_a_pickled_object_is_refused(weights, monkeypatch, tmp_path, payload, save):
    monkeypatch.chdir(tmp_path)
    write_evil(weights, payload, save, within=load_state(weights))
    for load in (load_state, lambda path: load_weights(_net(), path)):
        with pytest.raises(UserError, match="weights.pth: holds other objects than ten") as error:
            load(weights)
        # Never advise to load it all the same, as PyTorch's message does.
        assert "weights_only" not in str(error.value) and "options" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


def _nested():
    return torch.nested.nested_tensor([torch.ones(1, 3), torch.ones(3, 3)])


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.eye(4, 3).to_sparse(), "is sparse or nested .torch.sparse_coo."),
        (torch.eye(4, 3).to_sparse_csr(), "is sparse or nested .torch.sparse_csr."),
        (_nested(), "is sparse or nested"),
        (torch.eye(4, 3).to(torch.complex64), "is of the type torch.complex64"),
        (
            torch.quantize_per_tensor(torch.eye(4, 3), 0.1, 0, torch.qint8),
            "of the type torch.qint8",
        ),
        (torch.eye(4, 3).to(torch.float8_e4m3fn), "is of the type torch.float8_e4m3fn"),
        (torch.empty(4, 3, device="meta"), "has no numbers"),
        (torch.ones(1).expand(4, 3), r"has a shape \(4, 3\) of more numbers than there are"),
        (torch.eye(4, 3)[:1].expand(4, 3), r"has a shape \(4, 3\) of more numbers than there are"),
        (torch.ones(1).expand(10**9, 10**9), "of more numbers than there are"),
        (
            torch.full((4, 3), float("nan")),
            r"1 of 7 tensors hold NaN .* first '0.weight' \(12 of its 12",
        ),
        (
            torch.tensor([[1.0, float("-inf"), 0.0]] * 4),
            r"first '0.weight' \(4 of its 12 numbers\)",
        ),
        (torch.eye(4, 3).bfloat16() / 0, r"first '0.weight' \(12 of its 12"),
        (
            torch.eye(4, 3, dtype=torch.int64),
            "is of the type torch.int64, the model's of torch.float",
        ),
        (torch.eye(4, 3) > 0, "is of the type torch.bool, the model's of torch.float32"),
        (
            torch.eye(4, 3).double() * 1e300,
            "'0.weight' .3 of its .* too large for the model's type",
        ),
        (torch.empty(0), r"\(0,\) instead of \(4, 3\)"),
        (torch.empty(4, 0), r"\(4, 0\) instead of \(4, 3\)"),
    ],
)
def test_tensors_that_are_no_weights(weights, tensor, reason):
    torch.save(load_state(weights) | {"0.weight": tensor}, weights)
    net = _net()
    before = net[0].weight.clone()
    with pytest.raises(UserError, match=f"weights.pth: .*{reason}") as error:
        load_weights(net, weights)
    assert "\n" not in str(error.value) and torch.equal(net[0].weight, before)


def test_whole_numbers_stay_whole(weights):
    state = load_state(weights)
    torch.save(state | {"1.num_batches_tracked": torch.tensor(1.5)}, weights)
    with pytest.raises(UserError, match="is of the type torch.float32, the model's of torch.int64"):
        load_weights(_net(), weights)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(weights, kind):
    state = {k: v.to(kind) if v.is_floating_point() else v for k, v in load_state(weights).items()}
    torch.save(state, weights)
    net = _net()
    load_weights(net, weights)
    assert torch.equal(net[0].weight, state["0.weight"].float())


def test_names_that_share_their_numbers(weights):
    shared = torch.ones(12)
    torch.save(load_state(weights) | {"0.weight": shared.view(4, 3), "0.bias": shared[:4]}, weights)
    net = _net()
    load_weights(net, weights)
    assert (net[0].weight == 1).all() and (net[0].bias == 1).all()


def test_a_file_that_unpacks_to_more_than_itself(weights):
    write_bomb(weights)
    with pytest.raises(UserError, match="weights.pth: is damaged.*its parts are said to have"):
        load_weights(_net(), weights)


def test_what_to_do_without_weights(tmp_path):
    exp = tmp_path / "exp"
    for make, message in (
        (lambda: None, "there is no .*exp: run the stage that trains it"),
        (exp.mkdir, "it was not trained: remove .*exp and run the stage"),
        ((exp / "checkpoint.pth").touch, "its training has begun: run the same command again"),
        (lambda: (exp / "valid.ua.best.pth").symlink_to("3epoch.pth"), "its training has begun"),
    ):
        make()
        with pytest.raises(UserError, match=f"valid.ua.best.pth: no such file; {message}"):
            find_weights(exp, "valid.ua")


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
    with pytest.raises(UserError, match=f"{tmp_path}: is no file"):
        load_state(tmp_path)
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; it was not trained"):
        find_weights(tmp_path, "valid.ua")
    (tmp_path / "valid.ua.best.pth").touch()
    assert find_weights(tmp_path, "valid.ua") == tmp_path / "valid.ua.best.pth"


def test_configurations(tmp_path):
    with pytest.raises(UserError, match="config.yaml: no such file; is .* a trained model"):
        read_config(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    assert read_config(tmp_path) == {"a": 1}
    with pytest.raises(UserError, match="config.yaml: is a file, not the directory of a model"):
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
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; it was not trained"):
        find_weights(tmp_path, "valid.ua")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(criteria))
    with pytest.raises(UserError, match="keeps valid.wa, valid.loss only; add it and train again"):
        find_weights(tmp_path, "valid.ua")
    with pytest.raises(UserError, match="valid.wa.best.pth: no such file; it was not trained"):
        find_weights(tmp_path, "valid.wa")
