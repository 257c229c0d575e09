"""Systems of `tse_ser.sh`: what they need is run, and no more."""

import itertools
import re
import shutil

import pytest
from shell_recipes import PAPER, bash, calls, declare, run


def test_systems_get_what_they_need_and_no_more(recipe):
    assert run(recipe, "--folds 1 --systems 'clean_clean clean_noisy'").returncode == 0
    done = calls(recipe)
    assert not {c.split()[0] for c in done} & {"tse_train", "extract", "tse_score", "tse_ser_train"}
    rows = {c.split("exp/scores/")[1].split("/fold")[0] for c in done if c.startswith("recognize")}
    assert rows == {"clean_clean/default", "clean_noisy/default"}
    # What a system starts from is trained and not tested.
    assert run(recipe, "--folds 1 --systems ft").returncode == 0
    done = calls(recipe)
    assert "exp/ser_denoised_default/fold1" in next(c for c in done if c.startswith("ser_train"))
    assert "--ser_dir exp/ser_denoised_default/fold1" in next(
        c for c in done if c.startswith("tse_ser_train")
    )
    rows = {c.split("exp/scores/")[1].split("/fold")[0] for c in done if c.startswith("recognize")}
    assert rows == {"ft/default"}


def test_a_system_added_with_one_file_runs_alone(recipe):
    assert run(recipe, "--folds 1").returncode == 0
    calls(recipe)
    text = "train: noisy\ntest: noisy\nrecogniser: conf/train_ser_big.yaml\n"
    declare(recipe, "noisy_big", text)
    (recipe / "conf/train_ser_big.yaml").write_text("name: big\n")
    assert run(recipe, f"--folds 1 --systems '{PAPER} noisy_big'").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done] == [
        *("ser_stats", "ser_train", "recognize", "score", "results", "evaluate", "sweeps_report")
    ]
    assert "--output_dir exp/ser_noisy_big/fold1" in done[1]
    assert "--row noisy_big/big conf/train_ser_big.yaml" in done[3]
    assert "--row noisy_big/big exp/ser_noisy_big conf/train_ser_big.yaml" in done[5]
    status = bash(f"./status.sh --folds 1 --systems '{PAPER} noisy_big'", recipe)
    assert re.search(r"scores of noisy_big big +done", status.stdout)


def test_an_encoder_is_pretrained_before_what_it_is_in(recipe):
    (recipe / "conf/train_ssl.yaml").write_text("name: ssl\n")
    named = "frontend: ssl\nfrontend_conf: {arch: conf/train_ssl.yaml, layer: 1}\n"
    for name in ("ser_a", "se_b"):
        (recipe / f"conf/train_{name}.yaml").write_text(named)
    text = "train: noisy\ntest: noisy\nenhances: true\nrecogniser: conf/train_ser_a.yaml\n"
    declare(recipe, "one", text)
    text = "train: denoised\ntest: denoised\nfront_end: conf/train_se_b.yaml\n"
    declare(recipe, "two", text)
    assert run(recipe, "--folds 1 --systems 'one two' --ssl_args '--x 1'").returncode == 0
    done = calls(recipe)
    names = [c.split()[0] for c in done]
    first = done[names.index("ssl_train")]
    assert first.startswith("ssl_train --config conf/train_ssl.yaml --pool dump/clean/pretrain ")
    assert "--output_dir exp/ssl_default --seed 0 --x 1" in first
    assert names.index("ssl_train") < names.index("tse_train")
    taken = {c.split()[0] for c in done if "--encoder exp/ssl_default" in c}
    assert taken == {"tse_train", "ser_features", "ser_stats", "ser_train"}
    assert ["--encoder" in c for c in done if c.startswith("ser_train")] == [True, False]
    (recognized,) = (c for c in done if c.startswith("recognize") and "scores/one/a" in c)
    assert "--output_audio exp/scores/one/a/fold1/audio" in recognized
    # Another encoder makes all of it anew.
    (recipe / "conf/train_ssl.yaml").write_text("name: other\n")
    result = run(recipe, "--folds 1 --systems one --stage tse --stop_stage tse")
    assert result.returncode == 1 and "exp/ssl_default" in result.stderr


def test_two_joint_configurations_and_two_front_ends(recipe):
    for name in ("tse_b", "tse_ser_b"):
        (recipe / f"conf/train_{name}.yaml").write_text(f"name: {name}\n")
    for tse, joint in itertools.product(("tse", "tse_b"), ("tse_ser", "tse_ser_b")):
        configs = f"--tse_config conf/train_{tse}.yaml --joint_config conf/train_{joint}.yaml"
        result = run(recipe, f"--folds 1 --systems 'base ft' --stop_stage score {configs}")
        assert result.returncode == 0, result.stderr
    rows = {str(p.parent.relative_to(recipe)) for p in recipe.glob("exp/scores/*/*/fold1")}
    assert rows == {
        *(f"exp/scores/base/{tag}" for tag in ("default", "b+default")),
        *("exp/scores/ft/default", "exp/scores/ft/default+default+b"),
        *("exp/scores/ft/b+default+default", "exp/scores/ft/b+default+b"),
    }
    trained = [c for c in calls(recipe) if c.split()[0] in ("tse_train", "ser_train")]
    assert len(trained) == 4


def test_a_front_end_from_elsewhere(recipe):
    """It is not trained, and nothing is counted for it; what is made of it has its tag."""
    model = recipe / "elsewhere/tcn"
    model.mkdir(parents=True)
    for name in ("config.yaml", "valid.loss.best.pth"):
        (model / name).write_text("a: 1\n")
    options = "--folds 1 --systems 'base ft' --stop_stage joint --frontend elsewhere/tcn"
    result = run(recipe, options)
    assert result.returncode == 0, result.stderr
    done = calls(recipe)
    assert "front_end --source elsewhere/tcn --output_dir exp/tse_tcn" in done
    assert not [c for c in done if c.split()[0] in ("tse_train", "tse_stats")]
    assert "extract --model_dir exp/tse_tcn --data_dir dump/mix" in "\n".join(done)
    assert "--tse_dir exp/tse_tcn " in next(c for c in done if c.startswith("tse_ser_train"))
    status = bash(f"./status.sh {options}", recipe)
    assert re.search(r"tse_tcn +done", status.stdout)
    assert run(recipe, options).returncode == 0
    assert calls(recipe) == []
    # Beside it one that is trained, and with a rate that the model does not say.
    assert run(recipe, "--folds 1 --systems base --stop_stage joint").returncode == 0
    assert [c.split()[0] for c in calls(recipe)][:2] == ["tse_stats", "tse_train"]
    options = options.replace("tcn", "tcn/valid.loss.best.pth --tse_tag b --frontend_fs 16000")
    assert run(recipe, options).returncode == 0
    source = "elsewhere/tcn/valid.loss.best.pth"
    command = f"front_end --source {source} --output_dir exp/tse_b --frontend_fs 16000"
    assert command in calls(recipe)


def model_elsewhere(recipe):
    """A directory with the files of a front-end."""
    model = recipe / "elsewhere"
    model.mkdir()
    for name in ("config.yaml", "valid.loss.best.pth"):
        (model / name).write_text("a: 1\n")
    return model


def test_a_front_end_that_was_refused_is_asked_for_again(recipe):
    model_elsewhere(recipe)
    options = "--folds 1 --systems base --stop_stage tse --frontend elsewhere"
    assert run(recipe, options, FAIL_ON="front_end").returncode == 1
    result = run(recipe, f"{options} --frontend_fs 16000")
    assert result.returncode == 0, result.stderr
    assert calls(recipe)[-1].endswith("--frontend_fs 16000")
    # But what stands there is not made anew with other settings, be it a training.
    for name in ("front_end.json", "config.yaml"):
        (recipe / "exp/tse_elsewhere/front_end.json").rename(recipe / "exp/tse_elsewhere" / name)
        result = run(recipe, options)
        assert result.returncode == 1 and "was made with other settings" in result.stderr


def test_a_system_with_a_front_end_from_elsewhere(recipe):
    declare(recipe, "base_b", "train: denoised\ntest: denoised\nfront_end: user/model.b\n")
    assert run(recipe, "--folds 1 --systems 'base base_b' --stop_stage score").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done if "exp/tse_" in c.partition("--output_dir")[2]] == [
        *("tse_stats", "tse_train", "front_end")
    ]
    assert "front_end --source user/model.b --output_dir exp/tse_model.b" in done
    assert (recipe / "exp/scores/base_b/model.b+default/fold1").is_dir()


def test_a_front_end_from_elsewhere_that_changes_is_noticed(recipe):
    model = model_elsewhere(recipe)
    options = "--folds 1 --systems base --stop_stage extract --frontend elsewhere"
    assert run(recipe, options).returncode == 0
    (model / "valid.loss.best.pth").write_text("a: 2\n")
    result = run(recipe, options)
    assert result.returncode == 1 and "exp/tse_elsewhere was made with other set" in result.stderr
    # What it says helps, and all below follows. (The hub's models are known by their record alone.)
    shutil.rmtree(recipe / "exp/tse_elsewhere")
    result = run(recipe, f"{options} --frontend_fs 16000")
    assert result.returncode == 1
    assert "dump/denoised_elsewhere was made with other settings" in result.stderr
    assert "exp/tse_elsewhere/front_end.json" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elsewhere", "elsewhere: there is no such directory or file"),
        ("conf", "conf: has no config.yaml or meta.yaml"),
        ("x|y/tcn", "'x|y/tcn': a | is in it, which stands between fields; rename it"),
    ],
)
def test_a_front_end_from_nowhere(recipe, name, message):
    (recipe / "x|y/tcn").mkdir(parents=True)
    for file in ("config.yaml", "valid.loss.best.pth"):
        (recipe / "x|y/tcn" / file).write_text("a: 1\n")
    result = run(recipe, f"--frontend '{name}'")
    assert result.returncode == 2 and message in result.stderr and calls(recipe) == []


def test_hypotheses_of_another_program(recipe):
    (recipe / "other.tsv").write_text("id\tlabel\n")
    declare(recipe, "other", "train: elsewhere\ntest: noisy\nhypotheses: other.tsv\n")
    assert run(recipe, "--folds 1 --systems 'noisy_noisy other'").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done].count("import_hypotheses") == 1
    assert "--row other/other other.tsv" in next(c for c in done if c.startswith("score"))
    assert "other/" not in next(c for c in done if c.startswith("evaluate"))


def test_joint_training_from_scratch_gets_what_it_needs(recipe):
    assert run(recipe, "--folds 1 --systems scratch --labels 'ang neu'").returncode == 0
    from_scratch = (
        "--ser_config conf/train_ser.yaml --labels ang neu "
        "--stats exp/ser_stats_default/denoised/fold1/feats_stats.npz "
    )
    done = calls(recipe)
    assert [from_scratch in c for c in done if c.startswith("tse_ser_train")] == [True]
    assert not any(c.startswith("ser_train") for c in done)


def test_more_seeds_train_and_test_once_more(recipe):
    options = "--systems 'noisy_noisy joint_noisy' --folds '1 2' --seed 3"
    assert run(recipe, options).returncode == 0
    calls(recipe)
    assert run(recipe, f"{options} --more_seeds '7 8'").returncode == 0
    done = calls(recipe)
    names = [c.split()[0] for c in done]
    assert {n: names.count(n) for n in names} == {
        **{"ser_train": 4, "tse_ser_train": 4, "recognize": 8, "score": 1, "results": 1},
        "evaluate": 1,
        "sweeps_report": 1,
    }
    joint = next(
        c for c in done if "tse_ser_joint_noisy_default/fold2_seed8" in c and "tse_ser_train" in c
    )
    assert "--ser_dir exp/ser_noisy_default/fold2_seed8" in joint and "--seed 8" in joint
    assert "--split data/mix/splits/fold2 " in joint
    score = next(c for c in done if c.startswith("score"))
    assert "--folds 1 2 --seed 3 --seeds 7 8" in score
    for wrong in ("'7 3'", "'7 7'", "x"):
        assert run(recipe, f"{options} --more_seeds {wrong}").returncode == 2


def test_the_status_of_every_training(recipe, run_pl):
    options = "--systems 'clean_clean noisy_noisy joint_noisy' --folds '1 2'"
    assert run(recipe, options, FAIL_ON="ser_noisy_default/fold2").returncode == 1
    result = bash(f"./status.sh {options}", recipe)
    assert result.returncode == 0, result.stderr
    lines = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    assert lines[0] == ["", "all", "fold1", "fold2"]
    assert lines[1] == ["tse_default", "done"]
    assert lines[3] == ["ser_noisy_default", "done", "FAILED"]
    assert lines[4] == ["tse_ser_joint_noisy_default", "-", "-"]
    assert lines[5] == ["scores of clean_clean default", "-", "-"]
    assert "FAILED: exp/ser_noisy_default/fold2/log/ser_train.log (exit status 2)" in result.stdout
    assert not (recipe / "exp/scores").exists()
    other = bash(f"./status.sh {options} --mix_tag same", recipe).stdout
    assert re.search("^scores of clean_clean default_same +-", other, re.MULTILINE)
