"""What every command says of paths that lead to something else: one line, and status 2."""

import importlib
import shutil

import numpy as np
import pytest
import yaml
from declared import SYSTEMS_DIR
from score_tables import write_scores
from tiny_corpora import write_noise

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin import pack
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics.tables import TSE_COLUMNS


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_mixtures, joint_dir, ser_config):
    """What the commands need beside the fixtures that all tests share, and wrong things."""
    root = tmp_path_factory.mktemp("paths")
    write_scores(root, systems=("noisy_noisy", "base"))
    shutil.copytree(root / "scores", root / "tests/a")
    (root / "conf").mkdir()
    (root / "conf/a.yaml").write_text("sweep: s\nvalue: 1\nabout: x\nsnr: 3\n")
    (root / "tse.yaml").write_text("mixing_conf: {segment: 4000, enroll_segment: 4000}\n")
    ser = {**ser_config, "normalize": "global_mvn"}
    (root / "ser.yaml").write_text(yaml.safe_dump(ser))
    pack.main(["--model_dir", str(joint_dir), "--output", str(root / "model.zip")])
    write_noise(root / "noise")
    (root / "hyp").mkdir()
    hypotheses = ["id\treference\thypothesis\tp_ang\tp_hap\tp_neu\tp_sad\n"]
    for utt, emotion in read_table(tiny_mixtures / "mix/utt2emo").items():
        if read_table(tiny_mixtures / "mix/utt2fold")[utt] == "1":
            hypotheses.append(f"{utt}\t{emotion}\tang\t1\t0\t0\t0\n")
    (root / "theirs.tsv").write_text("".join(hypotheses))
    path = root / "recognised/noisy_noisy/default/fold1/hyp.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("".join(hypotheses))
    write_tsv(root / "tse.tsv", [], TSE_COLUMNS)
    wrong = root / "wrong"
    (wrong / "directory").mkdir(parents=True)
    (wrong / "empty").touch()
    (wrong / "garbage").write_bytes(np.random.default_rng(0).bytes(3000))
    (wrong / "words").write_text("some words here\nand there\n")
    (wrong / "other.tsv").write_text("id\tvalue\na\t1\n")
    (wrong / "broken.yaml").write_text("a: [1,\n")
    (wrong / "list.yaml").write_text("- 1\n")
    (wrong / "loop").symlink_to("loop")
    return root


WRONG = ("missing", "directory", "empty", "garbage", "words", "words/x", "other.tsv")
WRONG += ("broken.yaml", "list.yaml", "loop", "x" * 300)

# command -> its options that name what it reads (and, after a "/", the others)
COMMANDS = {
    "check_data": "targets sources pretrain table_dir",
    "compare": "A B",
    "evaluate": "config targets sources table_dir systems_dir / folds row output_dir",
    "format_audio": "data_dir / output_dir",
    "import_hypotheses": "table data_dir ids / labels output",
    "pack": "model_dir / output",
    "preservation": "data_dir condition clean_hyp / output_dir folds",
    "mixture_table": "targets sources / output_dir dev_share",
    "results": "scores_dir exp_dir systems_dir / output_dir",
    "score": "scores_dir table_dir tse_scores systems_dir / folds",
    "ser_features": "config / scp output_dir",
    "ser_stats": "config scp splits / output_dir",
    "simulate": "table_dir targets sources / output_dir",
    "systems": "conf_dir ser_config / tse_config joint_config",
    "sweeps_report": "sweeps_dir conf_dir scores_dir systems_dir / output_dir",
    "tse_stats": "config pool noise / output_dir",
    "upload": "archive / hf_repo",
}
READ = [
    (command, option)
    for command, options in COMMANDS.items()
    for option in options.partition(" / ")[0].split()
]
WRITTEN = [c for c, options in COMMANDS.items() if "output_dir" in options]
WRITTEN = [c for c in WRITTEN if c not in ("evaluate", "ser_features")]  # refuse others first


@pytest.fixture
def options(root, tmp_path, tiny_mixtures, tiny_pool, joint_dir):
    """command -> option -> value, with which it would do its work."""
    mix, emo = tiny_mixtures / "mix", tiny_mixtures / "emo"
    shared = {
        "targets": emo,
        "sources": tiny_mixtures / "interferer",
        "pretrain": tiny_pool,
        "pool": tiny_pool,
        "noise": root / "noise",
        "table_dir": tiny_mixtures / "table",
        "splits": tiny_mixtures / "table/splits",
        "data_dir": mix,
        "scp": mix / "wav.scp",
        "config": root / "ser.yaml",
        "output_dir": tmp_path / "out",
        "folds": "1",
        "systems_dir": SYSTEMS_DIR,
    }
    own = {
        "compare": {"A": root / "scores/base/default", "B": root / "scores/base/default"},
        "evaluate": {
            "config": root / "conf/a.yaml",
            "row": ("noisy_noisy/default", joint_dir, "none"),
        },
        "format_audio": {"data_dir": tiny_mixtures / "interferer"},
        "import_hypotheses": {
            "table": root / "theirs.tsv",
            "ids": tiny_mixtures / "table/splits/fold1/test.lst",
            "labels": "ang hap neu sad",
            "output": tmp_path / "hyp.tsv",
        },
        "pack": {"model_dir": joint_dir, "output": tmp_path / "model.zip"},
        "preservation": {
            "condition": mix / "wav.scp",
            "clean_hyp": root / "recognised/noisy_noisy/default/fold1/hyp.tsv",
        },
        "mixture_table": {"dev_share": "0.5"},
        "results": {"scores_dir": root / "scores", "exp_dir": root},
        "score": {"scores_dir": root / "recognised", "tse_scores": root / "tse.tsv"},
        "systems": {
            "conf_dir": SYSTEMS_DIR,
            "tse_config": "conf/train_tse.yaml",
            "ser_config": root / "ser.yaml",
            "joint_config": "conf/train_tse_ser.yaml",
        },
        "sweeps_report": {
            "sweeps_dir": root / "tests",
            "conf_dir": root / "conf",
            "scores_dir": root / "scores",
        },
        "tse_stats": {"config": root / "tse.yaml"},
        "upload": {"archive": root / "model.zip", "hf_repo": "user/model"},
    }
    return {
        command: {
            name: own.get(command, {}).get(name, shared.get(name))
            for name in names.replace(" / ", " ").split()
        }
        for command, names in COMMANDS.items()
    }


def fails_in_one_line(command, options, capsys):
    words = []
    for name, value in options.items():
        if name in "AB":
            words.append(str(value))
        elif name == "condition":
            hyp = [str(options["clean_hyp"])]
            words += ["--condition", "noisy", str(value), *hyp]
        elif name == "row":
            words += ["--row", *map(str, value)]
        elif name == "tse_scores":
            words.append(f"--tse_scores=default={value}")
        else:
            words.append(f"--{name}={value}")
    capsys.readouterr()
    main = importlib.import_module(f"espnet_tse_ser.bin.{command}").main
    assert run(main, words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "INFO" not in line]
    assert len(errors) == 1 and errors[0].startswith("error: ")
    return errors[0]


@pytest.mark.parametrize("command, option", READ, ids=map(" ".join, READ))
def test_what_is_read(root, options, command, option, capsys):
    for name in WRONG:
        wrong = root / "wrong" / name
        if name == "directory" and option == "exp_dir":
            continue  # no training has been there: nothing to plot
        line = fails_in_one_line(command, {**options[command], option: wrong}, capsys)
        assert str(wrong) in line, line


@pytest.mark.parametrize("command", WRITTEN)
def test_where_is_written(root, options, command, capsys):
    for name in ("words", "words/x", "loop"):
        wrong = root / "wrong" / name
        line = fails_in_one_line(command, {**options[command], "output_dir": wrong}, capsys)
        assert str(wrong) in line, line
    assert (root / "wrong/words").read_text() == "some words here\nand there\n"
