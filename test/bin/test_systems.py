"""What a recipe reads of its systems, line by line."""

import shutil

import pytest
import yaml
from declared import SYSTEMS, SYSTEMS_DIR

from espnet_tse_ser.bin import systems
from espnet_tse_ser.errors import UserError, run

FIELDS = {"front_end": 3, "file": 2, "statistics": 7, "recogniser": 9, "joint": 6, "row": 10}
FIELDS |= {"preserved": 7, "sweep": 2, "encoder": 2, "encoded": 2}


@pytest.fixture
def conf(tmp_path):
    """A ``conf`` with the paper's systems and configurations whose contents do not matter."""
    shutil.copytree(SYSTEMS_DIR, tmp_path / "systems")
    for name in ("train_tse", "train_ser", "train_tse_ser", "train_tse_big"):
        (tmp_path / f"{name}.yaml").write_text("frontend: logmel\n")
    return tmp_path


@pytest.fixture
def printed(conf, capsys):
    def printed(*more, names=""):
        """kind -> the lines of it, as lists of fields."""
        options = [f"--conf_dir={conf}/systems", f"--systems={names}"]
        for kind, name in (("tse", "tse"), ("ser", "ser"), ("joint", "tse_ser")):
            options.append(f"--{kind}_config={conf}/train_{name}.yaml")
        systems.main([*options, *more])
        found = {kind: [] for kind in FIELDS}
        for line in capsys.readouterr().out.splitlines():
            kind, *fields = line.split("|")
            assert len(fields) == FIELDS[kind]
            found[kind].append([field.removeprefix(f"{conf}/") for field in fields])
        return found

    return printed


def test_lines_of_all_systems(printed):
    found = printed()
    assert found["front_end"] == [["default", "train_tse.yaml", "tse_train"]]
    assert found["statistics"] == [
        ["ser_stats_default/clean", "clean", "", "default", "train_ser.yaml", "", ""],
        ["ser_stats_default/noisy", "noisy", "", "default", "train_ser.yaml", "", ""],
        ["ser_stats_default/denoised", "denoised", "default", "default", "train_ser.yaml", "", ""],
    ]
    assert found["recogniser"] == [
        [f"ser_{condition}_default", directory, condition, *more, "", "emotion"]
        for directory, condition, *more, _ in found["statistics"]
    ]
    assert found["joint"] == [
        ["tse_ser_ft_default", "ser_stats_default/denoised", "default", "train_ser.yaml"]
        + ["train_tse_ser.yaml", "ser_denoised_default"]
    ]
    assert [row[0] for row in found["row"]] == list(SYSTEMS)
    rows = {row[0]: row[1:] for row in found["row"]}
    assert rows["clean_noisy"] == (
        ["default", "noisy", "", "default", "recogniser", "ser_clean_default", ""]
        + ["train_ser.yaml", rows["clean_noisy"][-1]]
    )
    assert rows["base"][1:6] == (
        ["denoised", "default", "default", "recogniser", "ser_denoised_default"]
    )
    assert rows["ft"][:7] == (
        ["default", "joint", "default", "default", "joint", "tse_ser_ft_default", ""]
    )
    configs = [path.rpartition("/")[2] for path in rows["ft"][-1].split(",")]
    assert configs == ["train_tse.yaml", "train_ser.yaml", "train_tse_ser.yaml"]
    assert found["preserved"] == [
        ["ft_default", "ser_clean_default", "ft/default", "clean_clean/default"]
        + ["clean_noisy/default", "clean_denoised/default", "default"]
    ]


def test_files_of_ones_own_classes(printed, conf, monkeypatch):
    text = "encoder: my.encoder:A\npooling: my.encoder:B\nmodel: plain:C\nspecaug: specaug\n"
    (conf / "train_ser.yaml").write_text(text)
    monkeypatch.chdir(conf)
    monkeypatch.setenv("ESPNET_TSE_SER_CODE", str(conf / "local"))
    (conf / "local/my").mkdir(parents=True)
    (conf / "local/my/encoder.py").touch()
    with pytest.raises(UserError, match="train_ser.yaml: model: plain:C: .*plain.py: no such file"):
        printed()
    (conf / "local/plain.py").touch()
    for line in printed()["statistics"]:
        assert line[-1] == "local/my/encoder.py,local/plain.py"


def test_chosen_systems_tags_and_mixtures(printed):
    found = printed(
        "--tse_tag=a", "--ser_tag=b", "--joint_tag=c", "--mix_tag=m", names="clean_clean ft"
    )
    assert [row[:2] for row in found["row"]] == [["clean_clean", "b"], ["ft", "a+b+c"]]
    assert [line[0] for line in found["recogniser"]] == ["ser_clean_b_m", "ser_denoised_a+b_m"]
    assert [line[0] for line in found["joint"]] == ["tse_ser_ft_a+b+c_m"]
    assert found["front_end"] == [["a", "train_tse.yaml", "tse_train"]] and found["preserved"] == []


def test_a_system_of_one_file(printed, conf, monkeypatch):
    monkeypatch.chdir(conf)
    text = "row: 9\nlabel: x\ntrain: joint\ntest: joint\nfront_end: train_tse_big.yaml\n"
    (conf / "systems/scratch.yaml").write_text(text)
    found = printed(names="scratch")
    assert found["front_end"] == [["big", "train_tse_big.yaml", "tse_train"]]
    assert found["joint"][0][0] == "tse_ser_scratch_big+default+default"
    assert found["joint"][0][-1] == "" and found["recogniser"] == []
    assert [line[:3] for line in found["statistics"]] == (
        [["ser_stats_big+default/denoised", "denoised", "big"]]
    )


def test_a_teacher_comes_first(printed, conf):
    """Of a system that is not asked for, and then of it alone."""
    text = "row: 0\nlabel: x\ntrain: denoised\ntest: denoised\nteacher: clean_clean\n"
    (conf / "systems/taught.yaml").write_text(text + f"recogniser: {conf}/train_ser_trnet.yaml\n")
    (conf / "train_ser_trnet.yaml").write_text("model: trnet\n")
    found = printed(names="taught")
    directory = "ser_denoised_default+trnet"
    assert [(line[0], line[-2], line[-1]) for line in found["recogniser"]] == [
        ("ser_clean_default", "", "emotion"),
        (directory, "ser_clean_default", "trnet"),
    ]
    assert [line[0] for line in found["statistics"]] == (
        ["ser_stats_default/clean", "ser_stats_default+trnet/denoised"]
    )
    assert [row[0] for row in found["row"]] == ["taught"]
    (conf / "systems/other.yaml").write_text(text.replace("clean_clean", "noisy_noisy"))
    with pytest.raises(UserError, match="teacher: 'noisy_noisy' is to be a system with train: cl"):
        printed(names="other")
    (conf / "systems/other.yaml").write_text(text.replace("clean_clean", "other"))
    with pytest.raises(UserError, match="teacher: 'other' is to be a system with train: cl"):
        printed(names="other")
    other = f"row: 9\nlabel: y\ntrain: clean\ntest: noisy\nrecogniser: {conf}/train_ser_b.yaml\n"
    (conf / "systems/clean_b.yaml").write_text(other)
    (conf / "train_ser_b.yaml").touch()
    text = (conf / "systems/taught.yaml").read_text().replace("clean_clean", "clean_b")
    (conf / "systems/other.yaml").write_text(text)
    with pytest.raises(UserError, match="taught: its recogniser has the tags of that of other, bu"):
        printed(names="taught other")


def test_a_configuration_that_is_not_there_is_named_at_once(printed, conf):
    text = "row: 9\nlabel: x\ntrain: joint\ntest: joint\nstarts_from: base\n"
    for key in ("front_end", "joint"):
        (conf / "systems/other.yaml").write_text(f"{text}{key}: conf/none.yaml\n")
        with pytest.raises(UserError, match="conf/none.yaml: no such configuration"):
            printed(names="other")
    (conf / "train_tse_ser.yaml").write_text("base: none.yaml\n")
    with pytest.raises(UserError, match=r"train_tse_ser.yaml: line 1: base: none.yaml: no such"):
        printed()


def test_encoders_that_configurations_name(printed, conf):
    (conf / "train_ssl.yaml").write_text("max_epoch: 1\n")
    named = f"frontend: ssl\nfrontend_conf: {{arch: {conf}/train_ssl.yaml}}\n"
    for name in ("train_ser_a", "train_se_b"):
        (conf / f"{name}.yaml").write_text(named)
    texts = {
        "one": f"train: noisy\ntest: noisy\nenhances: true\nrecogniser: {conf}/train_ser_a.yaml",
        "two": f"train: denoised\ntest: denoised\nfront_end: {conf}/train_se_b.yaml",
    }
    for name, text in texts.items():
        text += "\nlabel: x\nrow: 9\nby_default: false\n"
        (conf / f"systems/{name}.yaml").write_text(text)
    found = printed(names="one two base")
    assert found["encoder"] == [["default", "train_ssl.yaml"]]
    assert found["encoded"] == [["train_se_b.yaml", "default"], ["train_ser_a.yaml", "default"]]
    kinds = {row[0]: row[5] for row in found["row"]}
    assert kinds == {"one": "enhancer", "two": "recogniser", "base": "recogniser"}
    assert "one" not in [row[0] for row in printed()["row"]]
    (conf / "other").mkdir()
    (conf / "other/train_ssl.yaml").write_text("max_epoch: 2\n")
    (conf / "train_ser_a.yaml").write_text(named.replace("train_ssl", "other/train_ssl"))
    with pytest.raises(UserError, match="other/train_ssl.yaml' has the tag 'default', as "):
        printed(names="one two")
    (conf / "train_ssl.yaml").unlink()
    with pytest.raises(UserError, match="train_ssl.yaml: no such configuration"):
        printed(names="two")


def test_a_table_of_another_program(printed, conf):
    text = "row: 9\nlabel: x\ntrain: elsewhere\ntest: noisy\nhypotheses: theirs/hyp.tsv\n"
    (conf / "systems/theirs.yaml").write_text(text)
    found = printed(names="theirs")
    assert found.pop("row") == [
        ["theirs", "hyp", "noisy", "", "", "table", "theirs/hyp.tsv", "", "", "theirs/hyp.tsv"]
    ]
    assert not any(found.values())


@pytest.mark.parametrize(
    "frontend, frontend_conf, frozen",
    [
        ("ssl", {"layer": 5}, "frozen"),
        ("ssl", {"layer": "weighted"}, ""),
        ("ssl", {"layer": 5, "finetune": False}, "frozen"),
        ("ssl", {"layer": 5, "finetune": True}, ""),
        ("ssl", {"layer": 5, "finetune": "yes"}, ""),
        ("ssl", {"layer": 5, "finetune": "True"}, ""),
        ("ssl", {"layer": 5, "finetune": "no"}, "frozen"),
        ("ssl", {"finetune": True, "layer": "weighted"}, ""),
        ("logmel", {"n_mels": 80}, ""),
        ("logmel", None, ""),
        ("ssl", None, "frozen"),
    ],
)
def test_what_is_frozen(printed, conf, frontend, frontend_conf, frozen):
    config = {"frontend": frontend, "frontend_conf": frontend_conf}
    (conf / "train_ser.yaml").write_text(yaml.safe_dump(config))
    found = printed()
    assert [line[5] for line in found["statistics"]] == [frozen] * 3
    assert [line[6] for line in found["recogniser"]] == [frozen] * 3
    assert {row[7] for row in found["row"][:5]} == {frozen} and found["row"][5][7] == ""


def test_errors(printed, conf, capsys):
    with pytest.raises(UserError, match="--systems: no system 'best'; known: clean_clean clean_n"):
        printed(names="ft best")
    with pytest.raises(UserError, match="the tag 'a b': only letters"):
        printed("--ser_tag=a b")
    (conf / "train_ser.yaml").write_text("frontend: ssl\nfrontend_conf: {finetune: perhaps}\n")
    message = "train_ser.yaml: frontend_conf: finetune: expected true or false, got 'perhaps'"
    with pytest.raises(UserError, match=message):
        printed()
    assert run(systems.main, ["--conf_dir", f"{conf}/none", "--tse_config=a", "--ser_config=b",
                              "--joint_config=c"]) == 2  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert "none: no <name>.yaml in it; each declares a system" in captured.err


@pytest.mark.parametrize("line", ["sources: esd", "sources: 'esd' # new", "{sources: esd}"])
def test_sweeps_and_whom_they_draw_from(printed, tmp_path, line):
    (tmp_path / "snr_0.yaml").write_text("snr: 0\n")
    (tmp_path / "other.yaml").write_text(f"{line}\n")
    found = printed(f"--sweeps_dir={tmp_path}", "--sweeps=snr_0 other")
    assert found["sweep"] == [["snr_0", ""], ["other", "esd"]]


def test_a_set_of_sources_that_is_no_name(printed, tmp_path):
    (tmp_path / "other.yaml").write_text("sources: a|b/c\n")
    with pytest.raises(UserError, match="other.yaml: sources: "):
        printed(f"--sweeps_dir={tmp_path}", "--sweeps=other")
