"""Configurations that say only what differs from another."""

import pytest

from espnet_tse_ser.configuration import chain, read_configuration
from espnet_tse_ser.errors import UserError

BASE = """encoder: shift_cnn
encoder_conf: {ndiv: 16, dropout: 0.1}
frontend: ssl
frontend_conf: {arch: custom, arch_conf: {type: hubert, layers: [1, 2]}, finetune: false}
optim_conf: {lr: 1e-3, betas: [0.9, 0.99]}
max_seconds: 7.5
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write("conf/base.yaml", BASE)
    return write


@pytest.mark.parametrize(
    ("own", "changed"),
    [
        ("", {}),
        ("max_epoch: 3\n", {"max_epoch": 3}),
        ("max_seconds: null\n", {"max_seconds": None}),
        # a component that is named brings its own options
        ("encoder: shift_lstm\n", {"encoder": "shift_lstm", "encoder_conf": None}),
        ("encoder: shift_cnn\n", {"encoder_conf": None}),
        ("encoder: a\nencoder_conf: {b: 1}\n", {"encoder": "a", "encoder_conf": {"b": 1}}),
        ("encoder_conf: {ndiv: 4}\n", {"encoder_conf": {"ndiv": 4, "dropout": 0.1}}),
        ("encoder_conf: null\n", {"encoder_conf": None}),
        # lists are not merged; mappings in mappings are, by the same rule
        (
            "optim_conf: {betas: [0.5], eps: 1}\n",
            {"optim_conf": {"lr": 0.001, "betas": [0.5], "eps": 1}},
        ),
        (
            "frontend_conf: {arch_conf: {layers: [3]}}\n",
            {
                "frontend_conf": {
                    "arch": "custom",
                    "arch_conf": {"type": "hubert", "layers": [3]},
                    "finetune": False,
                }
            },
        ),
        (
            "frontend_conf: {arch: HUBERT_BASE}\n",
            {"frontend_conf": {"arch": "HUBERT_BASE", "finetune": False}},
        ),
    ],
)
def test_merging(write, own, changed):
    path = write("conf/own.yaml", f"base: base.yaml  # and what differs\n{own}")
    expected = dict(read_configuration("conf/base.yaml")) | changed
    given = read_configuration(path)
    for key, value in expected.items():
        assert given.get(key) == value
    assert given.keys() <= expected.keys()


def test_a_chain_of_files_and_where_their_values_are(write):
    write("conf/tuning/one.yaml", "# on it\nbase: ../base.yaml\noptim_conf: {lr: 1}\nfs: 8000\n")
    write("other/two.yaml", "base: ../conf/tuning/one.yaml\noptim_conf: {lr: 2}\n")
    assert chain("other/two.yaml") == ["other/two.yaml", "conf/tuning/one.yaml", "conf/base.yaml"]
    config = read_configuration("other/two.yaml")
    assert (config["optim_conf"]["lr"], config["fs"]) == (2, 8000) and "base" not in config
    assert config.where("encoder") == "conf/base.yaml: encoder"
    assert config.where("fs") == "conf/tuning/one.yaml: fs"
    merged = "other/two.yaml (base: conf/tuning/one.yaml (base: conf/base.yaml))"
    assert config.where("optim_conf") == f"{merged}: optim_conf"
    assert config.where("specaug") == "other/two.yaml: specaug"


def test_a_base_is_looked_for_beside_the_real_file(write, tmp_path):
    path = write("recipe/conf/tuning/own.yaml", "base: ../base.yaml\n")
    write("recipe/conf/base.yaml", "max_epoch: 1\n")
    (tmp_path / "conf/linked.yaml").symlink_to(path)
    (tmp_path / "base.yaml").write_text("max_epoch: 2\n")  # beside the link it would be this one
    assert chain("conf/linked.yaml") == ["conf/linked.yaml", "recipe/conf/base.yaml"]
    assert chain(tmp_path / "conf/linked.yaml")[1] == str(tmp_path / "recipe/conf/base.yaml")
    assert read_configuration("conf/linked.yaml") == {"max_epoch": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "# x\nbase: none.yaml\n",
            r"conf/own.yaml: line 2: base: none.yaml: no such file; .*/conf",
        ),
        ("base: .\n", "conf/own.yaml: line 1: base: .: no such file"),
        ("base:\n", "conf/own.yaml: line 1: base: : no such file"),
        ("base: own.yaml\n", "conf/own.yaml: line 1: base: own.yaml: goes round in a circle"),
        ("base: linked.yaml\n", "line 1: base: linked.yaml: goes round in a circle"),
        (
            "base: other.yaml\n",
            "conf/other.yaml: line 1: base: own.yaml: goes .*drop a base of conf/own.yaml conf/oth",
        ),
        ("{base: base.yaml}\n", "conf/own.yaml: write base as a line of its own"),
        ("'base': base.yaml\n", "conf/own.yaml: write base as a line of its own"),
        (" base: base.yaml\n", "conf/own.yaml: write base as a line of its own"),
        ("base: bad.yaml\n", "conf/bad.yaml: line 3: not valid YAML"),
        ("base: base.yaml\nbase: base.yaml\n", "own.yaml: line 2: .*'base' is there twice"),
        ("base: 'base.yaml'\n", "line 1: base: 'base.yaml': no such file"),
    ],
)
def test_bases_that_are_none(write, tmp_path, text, message):
    write("conf/own.yaml", text)
    write("conf/other.yaml", "base: own.yaml\n")
    write("conf/bad.yaml", "a: 1\nb: [\n")
    (tmp_path / "conf/linked.yaml").symlink_to("own.yaml")
    with pytest.raises(UserError, match=message):
        read_configuration("conf/own.yaml")


def test_no_configuration(tmp_path):
    with pytest.raises(UserError, match="none.yaml: no such configuration"):
        read_configuration(tmp_path / "none.yaml")
