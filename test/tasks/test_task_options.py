"""Options of the trainings: each is held against what it can be, and the message has its place."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from option_values import wrong_values

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.tasks.ser import SERTask
from espnet_tse_ser.tasks.tse import TSETask
from espnet_tse_ser.tasks.tse_ser import TSESERTask
from espnet_tse_ser.values.kinds import check_option

CONF = Path(__file__).parents[2] / "egs2/mini_iemocap_mix/tse_ser1/conf"
TASKS = {
    "tse": (TSETask, CONF / "train_tse_debug.yaml"),
    "ser": (SERTask, CONF / "train_ser_debug.yaml"),
    "joint": (TSESERTask, CONF / "train_tse_ser_debug.yaml"),
}


def parse(tmp_path, name, changes, *further):
    """Options of a debug configuration with other values of some keys."""
    task, path = TASKS[name]
    config = yaml.safe_load(path.read_text()) | changes
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    return parse_task_options(task, ["--config", str(path), *further])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grad_clip: -1\n", "/base.yaml: grad_clip: expected"),
        ("max_epochs: 1\n", "/base.yaml: unknown key 'max_epochs'"),
        ("seed: 1\n", "/base.yaml: seed: the command line rules it"),
        ("optim_conf: {lr: fast}\n", r"/own.yaml \(base: .*/base.yaml\): optim_conf: lr: expected"),
    ],
)
def test_a_message_names_the_file_that_a_value_is_in(tmp_path, text, message):
    (tmp_path / "base.yaml").write_text(text)
    path = tmp_path / "own.yaml"
    path.write_text("base: base.yaml\noptim_conf: {eps: 1e-6}\n")
    with pytest.raises(UserError, match=message):
        parse_task_options(TSESERTask, ["--config", str(path)], seed=0)


def options_with_kinds(task):
    from espnet_tse_ser.tasks.options import get_kinds

    return {key: kind for key, kind in get_kinds(task).items() if key not in ("help", "config")}


@pytest.mark.parametrize("name", TASKS)
def test_every_option_has_a_kind(name):
    kinds = options_with_kinds(TASKS[name][0])
    assert len(kinds) > 100
    for key, kind in kinds.items():
        if key == "criterions":  # its own check comes later
            continue
        for value in wrong_values(kind):
            with pytest.raises(UserError, match=f"^a.yaml: {key}: expected "):
                check_option(value, kind, f"a.yaml: {key}")


RANGES = {
    "accum_grad": (0, -1, 1.5, "x"),
    "batch_size": (0, -8, "many", 1e9, None),
    "grad_clip": (0, -5, float("nan"), float("inf"), None),
    "keep_nbest_models": (0, [], [0], -1, [1, "x"]),
    "log_interval": (0, -1),
    "max_cache_size": (-1, "lots", True),
    "max_epoch": (0, -1, 2.5, True, None, [3]),
    "ngpu": (-1, 1.5, "all"),
    "num_workers": (-1, 0.5, 1000),
    "patience": (-1, "never"),
    "seed": (-1, 2**31, 0.5, "random"),
    "train_dtype": ("float16", "float64", 32),
    "valid_batch_size": (0, -1),
}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("key", RANGES)
def test_what_is_out_of_range_names_the_file_and_the_key(tmp_path, name, key):
    for value in RANGES[key]:
        with pytest.raises(UserError) as caught:
            parse(tmp_path, name, {key: value})
        assert str(caught.value).startswith(f"{tmp_path}/train.yaml: {key}: expected ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TASKS)
def test_an_option_of_the_command_line_is_named(tmp_path, name):
    for option, value in (("max_epoch", "0"), ("batch_size", "x"), ("seed", "-1"), ("ngpu", "1.5")):
        with pytest.raises(UserError, match=f"^--{option}: expected a whole number .*'{value}'; "):
            parse(tmp_path, name, {}, f"--{option}", value)
    with pytest.raises(UserError, match="^--optim_conf: lr: expected a number above 0, got -1"):
        parse(tmp_path, name, {}, "--optim_conf", "lr=-1")


def test_numbers_are_what_they_are_meant_to_be(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "optim: AdamW\noptim_conf: {lr: 2e-3, weight_decay: '0.05'}\ngrad_clip: 1e1\n"
        "max_epoch: '3'\nbatch_size: 8.0\nkeep_nbest_models: 2\nresume: 'no'\nmax_cache_size: 2MB\n"
    )
    options = parse_task_options(SERTask, ["--config", str(path), "--num_workers", "2e0"])
    assert options.optim_conf == {"lr": 0.002, "weight_decay": 0.05} and options.optim == "adamw"
    assert options.grad_clip == 10.0 and options.max_epoch == 3 and options.batch_size == 8
    assert type(options.max_epoch) is type(options.batch_size) is int
    assert options.keep_nbest_models == [2] and options.resume is False
    assert options.max_cache_size == 2e6 and options.num_workers == 2
    assert options.config == str(path)


OPTIM_CONF = [
    ({"lr": 0}, "optim_conf: lr: expected a number above 0"),
    ({"lr": "fast"}, "optim_conf: lr: expected a number above 0"),
    ({"lr": None}, "optim_conf: lr: expected a number above 0"),
    ({"lr": [1e-3]}, "optim_conf: lr: expected a number above 0"),
    ({"lr": -1e-3}, "optim_conf: lr: expected a number above 0, got -0.001"),
    ({"weight_decay": -0.1}, "optim_conf: weight_decay: expected a number of 0 or more"),
    ({"betas": 0.9}, "optim_conf: betas: expected a list of 2"),
    ({"betas": [0.9, 1.0]}, "optim_conf: betas: expected a list of 2"),
    ({"eps": -1}, "optim_conf: eps: expected a number of 0 or more"),
    ({"maximize": True}, "optim_conf: maximize: expected False, all that is supported"),
    ({"learning_rate": 1e-3}, "optim_conf: unknown key 'learning_rate'; known: .*lr"),
    ([1], "optim_conf: expected a mapping"),
    (None, "optim_conf: expected a mapping"),
]


@pytest.mark.parametrize(("conf", "message"), OPTIM_CONF)
def test_optimizers(tmp_path, conf, message):
    with pytest.raises(UserError, match=f"train.yaml: {message}"):
        parse(tmp_path, "ser", {"optim": "adamw", "optim_conf": conf})


SCHEDULERS = [
    ("tristagelr", {"max_steps": 0}, "max_steps: expected a whole number of 1 or more"),
    ("tristagelr", {"warmup_ratio": 1.5}, "warmup_ratio: expected a number of 0 or more"),
    ("tristagelr", {"warmup_ratio": 0.5}, "tristagelr: .*; correct it"),
    ("warmuplr", {"warmup_steps": -1}, "warmup_steps: expected a whole number of 0 or more, or ep"),
    ("tristagelr", {"max_steps": "x epochs"}, "max_steps: expected a whole number .* got 'x ep"),
    (
        "trapezoid_per_epoch",
        {"warmup": "1 epochs", "hold": 0, "total": 3},
        "warmup: expected a who",
    ),
    ("steplr", {"step_size": "2 epochs"}, "step_size: expected a whole number of 1 or more"),
    ("warmup_cosine", {}, "has no|missing"),
    ("warmup_cosine", {"warmup_steps": "x"}, "warmup_steps: expected a whole number"),
    (
        "warmup_cosine",
        {"warmup_steps": 9, "max_steps": 9, "init_lr": 0, "min_lr": 0},
        "warmup_cosine: warmup_steps 9 must be less than max_steps 9",
    ),
    ("reducelronplateau", {"mode": "down"}, "reducelronplateau: .*; correct it"),
    ("reducelronplateau", {"factor": 1}, "factor: expected a number above 0 and below 1"),
    ("steplr", {}, "steplr: .*step_size"),
    ("steplr", {"step_size": 0}, "step_size: expected a whole number of 1 or more"),
    ("lambdalr", {}, "lambdalr: "),
    ("lambdalr", {"lr_lambda": "lambda x: x"}, "unknown key 'lr_lambda'"),
    ("noamlr", {"model_size": 0}, "model_size: expected a number above 0"),
    ("cosineannealinglr", {"T_max": 0}, "T_max: expected a whole number of 1 or more"),
    ("onecyclelr", {"max_lr": 0.1}, "onecyclelr: "),
]


@pytest.mark.parametrize(("scheduler", "conf", "message"), SCHEDULERS)
def test_schedulers(tmp_path, scheduler, conf, message):
    with pytest.raises(UserError, match=f"train.yaml: scheduler(_conf)?: .*{message}"):
        parse(tmp_path, "ser", {"scheduler": scheduler, "scheduler_conf": conf})


@pytest.mark.parametrize(
    ("scheduler", "conf"),
    [
        ("tristagelr", {"max_steps": "1e3"}),
        ("reducelronplateau", {"factor": "0.5", "patience": 3}),
        ("steplr", {"step_size": 2}),
        ("multisteplr", {"milestones": [3, 9]}),
        ("exponentiallr", {"gamma": 0.9}),
        ("cosineannealinglr", {"T_max": 9}),
        ("noamlr", {}),
        ("warmuplr", {"warmup_steps": 100}),
        ("piecewiselinearwarmuplr", {}),
        ("onecyclelr", {"max_lr": 0.1, "total_steps": 100}),
        ("cosineannealingwarmrestarts", {"T_0": 3}),
        ("cosineannealingwarmuprestarts", {"first_cycle_steps": 30}),
        ("exponentialdecaywarmup", {"max_lr": 0.1, "min_lr": 0.01, "total_steps": 50}),
        ("trapezoid", {"warmup": 1, "hold": 1, "total": 3}),
        ("trapezoid", {"warmup": 1, "hold": "1 epochs", "total": "3 epochs"}),
    ],
)
def test_schedulers_that_fit(tmp_path, scheduler, conf):
    options = parse(tmp_path, "ser", {"scheduler": scheduler, "scheduler_conf": conf})
    assert options.scheduler == scheduler


CRITERIA = [
    ("best_model_criterion", [["valid", "uar", "max"]], "'uar' is not measured in valid; use one"),
    ("best_model_criterion", [["valid", "ua", "maxx"]], "the better ua is its max, not 'maxx'"),
    ("best_model_criterion", [["valid", "ua", "min"]], "the better ua is its max, not 'min'"),
    ("best_model_criterion", [["valid", "loss", "max"]], "the better loss is its min"),
    ("best_model_criterion", [["test", "ua", "max"]], "there is no phase 'test'; use train, valid"),
    ("best_model_criterion", [["train", "ua", "max"]], "'ua' is not measured in train"),
    ("best_model_criterion", None, "expected a list"),
    ("best_model_criterion", [], "expected a list"),
    ("best_model_criterion", [["valid", "ua"]], "expected a list"),
    ("best_model_criterion", ["valid", "ua", "max"], "expected a list"),
    ("best_model_criterion", [[1, 2, 3]], "expected a list"),
    ("early_stopping_criterion", ["valid", "uar", "max"], "'uar' is not measured in valid"),
    ("early_stopping_criterion", ["valid", "loss", "max"], "the better loss is its min"),
    ("early_stopping_criterion", ["valid", "ua"], "expected a list of 3"),
    ("early_stopping_criterion", None, "expected a list of 3"),
    ("val_scheduler_criterion", ["valid", "f1"], "'f1' is not measured in valid"),
    ("val_scheduler_criterion", ["valid", "loss", "min"], "expected a list of 2"),
]


@pytest.mark.parametrize("name", ["ser", "joint"])
@pytest.mark.parametrize(("key", "value", "message"), CRITERIA)
def test_criteria_name_what_is_measured(tmp_path, name, key, value, message):
    with pytest.raises(UserError, match=f"^{tmp_path}/train.yaml: {key}: {message}"):
        parse(tmp_path, name, {key: value})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([["valid", "ua", "max"]], "'ua' is not measured in valid; use one of si_snr_loss, loss"),
        ([["valid", "si_snr_loss", "min"]], "later stages take .*valid, loss, min"),
        ([["valid", "speaker_loss", "min"]], "'speaker_loss' is not measured in valid"),
        ([["valid", "loss", "max"]], "the better loss is its min"),
    ],
)
def test_criteria_of_pretraining(tmp_path, value, message):
    with pytest.raises(UserError, match=f"train.yaml: best_model_criterion: {message}"):
        parse(tmp_path, "tse", {"best_model_criterion": value})


def test_a_criterion_of_the_command_line(tmp_path):
    options = parse(tmp_path, "ser", {}, "--best_model_criterion", "valid,wa,max", "valid,ua,max")
    assert options.best_model_criterion == [["valid", "wa", "max"], ["valid", "ua", "max"]]
    with pytest.raises(UserError, match="^--best_model_criterion: 'uar' is not measured in valid"):
        parse(tmp_path, "ser", {}, "--best_model_criterion", "valid,uar,max")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ser", {"max_seconds": 0}, "max_seconds: expected a number of 0.1 or more"),
        ("ser", {"max_seconds": -1}, "max_seconds: expected a number of 0.1 or more"),
        ("ser", {"fs": True}, "fs: expected a whole number"),
        ("ser", {"labels": ["ang"]}, "labels: expected a list of 2 or more"),
        ("ser", {"labels": ["ang", "ang"]}, "labels: 'ang' is there twice"),
        ("ser", {"iterator_type": "none"}, "iterator_type: expected one of sequence"),
        ("ser", {"batch_type": "folded"}, "batch_type: folded needs one fold_length"),
        ("ser", {"batch_type": "catbel"}, "batch_type: expected one of unsorted"),
        ("ser", {"no_forward_run": True}, "no_forward_run: expected False, all that is supported"),
        ("ser", {"collect_stats": True}, "collect_stats: expected False"),
        ("ser", {"print_config": True}, "print_config: expected False"),
        ("ser", {"use_deepspeed": True}, "use_deepspeed: expected False"),
        ("ser", {"init_param": ["x.pth"]}, r"init_param: expected \[\], all that is supported"),
        ("ser", {"allow_multi_rates": True}, "allow_multi_rates: expected False"),
        ("ser", {"use_amp": True}, "use_amp: needs a GPU"),
        ("ser", {"optim": "lbfgs"}, "optim(_conf)?: lbfgs: "),
        (
            "ser",
            {"exclude_weight_decay_conf": {"bias": True}},
            "exclude_weight_decay_conf: unknown",
        ),
        (
            "ser",
            {"specaug_conf": {"time_width": 3}},
            "specaug_conf: there is no specaug that takes",
        ),
        ("ser", {"encoder_conf": None}, "encoder_conf: expected a mapping"),
        ("ser", {"encoder_conf": ["ndiv"]}, "encoder_conf: expected a mapping"),
        ("ser", {"encoder_conf": {"num_blocks": 10**9}}, "encoder_conf: num_blocks: expected"),
        ("ser", {"model_conf": {"dropout": 1.5}}, "model_conf: dropout: expected"),
        ("ser", {"model_conf": {"label_smoothing": 1}}, "model_conf: label_smoothing: expected"),
        ("ser", {"optim": "sdg"}, "optim: expected one of adam, "),
        ("ser", {"ngpu": 64}, r"ngpu: 64 GPU\(s\) are asked for, \d+ can be used"),
        ("tse", {"mixing_conf": {"segment": -5}}, "mixing_conf: segment: expected a whole number"),
        ("tse", {"mixing_conf": None}, "mixing_conf: expected a mapping"),
        ("tse", {"sample_rate": 0}, "sample_rate: expected a whole number"),
        ("tse", {"enroll_segment": 16000}, "enroll_segment: expected None, all that is supported"),
        ("tse", {"num_iters_per_epoch": 9}, "num_iters_per_epoch: expected None"),
        ("joint", {"mixing_conf": {"dynamic": 2}}, "mixing_conf: dynamic: expected true or false"),
        ("joint", {"model_conf": {"w_tse": -1}}, "model_conf: w_tse: expected a number of 0"),
    ],
)
def test_what_leads_to_no_model_or_another_one(tmp_path, name, changes, message):
    with pytest.raises(UserError, match=f"^{tmp_path}/train.yaml: {message}"):
        parse(tmp_path, name, changes)


@pytest.mark.parametrize("key", ["seed", "output_dir", "config", "no_such_key", "help"])
def test_what_the_command_line_rules_is_not_in_a_configuration(tmp_path, key):
    path = tmp_path / "a.yaml"
    path.write_text(f"{key}: 3\n")
    with pytest.raises(UserError, match=f"^{path}: (unknown key '{key}'|{key}: the command line)"):
        parse_task_options(SERTask, ["--config", str(path)], seed=1, output_dir="x")


def test_abbreviations_are_refused(tmp_path):
    for option in ("--conf", "--max_epo", "--lab"):
        with pytest.raises(UserError, match=f"unrecognized arguments: {option}"):
            parse(tmp_path, "ser", {}, option, "3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1e-3", {"a": 0.001}),
        ("a.b=x", {"a": {"b": "x"}}),
        ("a={b: [1, 2]}", {"a": {"b": [1, 2]}}),
        ("{a: 1, 'c': True}", {"a": 1, "c": True}),
        ("a=", {"a": None}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_mappings_of_the_command_line(text, expected):
    import argparse

    from espnet_tse_ser.espnet.mapping_action import MappingAction

    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", action=MappingAction, default={"z": 1})
    assert parser.parse_args(["--conf", text]).conf == {"z": 1} | expected
    assert parser.parse_args([]).conf == {"z": 1}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {path}')",
        "a=!!python/object/apply:os.system ['touch {path}']",
        "!!python/object/apply:os.system ['touch {path}']",
        "{{'a': __import__('os').system('touch {path}')}}",
        "[1, 2]",
        "word",
        "a=[1",
    ],
)
def test_mappings_of_the_command_line_run_nothing(tmp_path, text):
    path = tmp_path / "was_here"
    with pytest.raises(UserError, match="--model_conf"):
        parse(tmp_path, "ser", {}, "--model_conf", text.format(path=path))
    assert not path.exists()


@pytest.mark.parametrize("name", ["tse_train", "ser_train", "tse_ser_train"])
def test_a_command_ends_at_once_with_one_line(tmp_path, tse_dir, name):
    key = {"tse_train": "tse", "ser_train": "ser", "tse_ser_train": "joint"}[name]
    path = tmp_path / "train.yaml"
    path.write_text(TASKS[key][1].read_text() + "accum_grad: 0\n")
    directory = str(tmp_path)
    command = ["--config", str(path), "--output_dir", f"{directory}/exp"]
    command += {
        "tse_train": ["--pool", directory],
        "ser_train": ["--scp", directory, "--data_dir", directory, "--split", directory],
        "tse_ser_train": ["--data_dir", directory, "--targets", directory]
        + ["--sources", directory, "--split", directory, "--tse_dir", str(tse_dir)]
        + ["--ser_config", str(TASKS["ser"][1]), "--stats", directory],
    }[name]
    done = subprocess.run(
        [sys.executable, "-m", f"espnet_tse_ser.bin.{name}", *command],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "rror" in text]
    assert line.startswith(f"error: {path}: accum_grad: expected a whole number of 1 or more")
    assert "Traceback" not in done.stderr and not (tmp_path / "exp").exists()
