"""SERTask: rebuilding from config.yaml, the recipes' configurations, errors."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import tiny_ssl
import torch
import yaml

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.tasks.ser import SERTask

EGS = Path(__file__).parents[2] / "egs2"
CONFIGS = sorted(
    {p.resolve() for p in EGS.glob("*/tse_ser1/conf/**/train_ser*.yaml") if p.is_file()}
)
KNOWN_ARCHS = ("HUBERT_BASE", "WAV2VEC2_BASE", "WAVLM_BASE_PLUS")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "train_ser.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "frontend_conf": {"n_mels": 12},
                "normalize": "global_mvn",
                "preencoder": "conv_stem",
                "preencoder_conf": {"output_size": 16},
            }
        )
    )
    return path


@pytest.fixture
def stats(tmp_path):
    path = tmp_path / "feats_stats.npz"
    np.savez(path, count=10, sum=np.full(12, 30.0), sum_square=np.full(12, 130.0))
    return path


def _dry_run(tmp_path, config, *further):
    command = ["--config", str(config), "--output_dir", str(tmp_path / "exp"), "--dry_run", "true"]
    SERTask.main(args=parse_task_options(SERTask, [*command, *further]))
    return yaml.safe_load((tmp_path / "exp" / "config.yaml").read_text())


def test_config_and_checkpoint_alone_rebuild_the_model(tmp_path, config, stats):
    written = _dry_run(tmp_path, config, "--stats_file", str(stats), "--labels", "a", "b")
    assert written["labels"] == ["a", "b"]
    assert str(stats) not in (tmp_path / "exp" / "config.yaml").read_text()
    options = parse_task_options(SERTask, ["--config", str(config), "--stats_file", str(stats)])
    trained = SERTask.build_model(options)
    stats.unlink()
    for rebuilt in (build_ser_model(written), SERTask.build_model(argparse.Namespace(**written))):
        state = trained.state_dict()
        state["classifier.weight"], state["classifier.bias"] = torch.zeros(2, 16), torch.zeros(2)
        rebuilt.load_state_dict(state)
        assert rebuilt.normalize.mean.tolist() == [3.0] * 12
        assert rebuilt.normalize.std.tolist() == [2.0] * 12


def test_ssl_weights_are_not_needed_again(tmp_path):
    arch = tiny_ssl.ARCH | {
        "type": "wavlm",
        "encoder_num_layers": 1,
        "encoder_num_buckets": 8,
        "encoder_max_distance": 16,
    }
    conf = {"arch": "custom", "arch_conf": arch}
    config = {"labels": ["a", "b"], "frontend": "ssl", "encoder": "shift_cnn", "pooling": "stats"}
    first = build_ser_model(config | {"frontend_conf": conf | {"weights": None}})
    weights = tmp_path / "weights.pt"
    torch.save(first.frontend.ssl.state_dict(), weights)
    path = tmp_path / "train_ser.yaml"
    path.write_text(yaml.safe_dump(config | {"frontend_conf": conf | {"weights": str(weights)}}))
    written = _dry_run(tmp_path, path)
    assert written["frontend_conf"] == conf | {"weights": None}
    trained = SERTask.build_model(parse_task_options(SERTask, ["--config", str(path)]))
    weights.unlink()
    rebuilt = build_ser_model(written)
    rebuilt.load_state_dict(trained.state_dict())
    for name, value in first.frontend.ssl.state_dict().items():
        assert torch.equal(value, rebuilt.frontend.ssl.state_dict()[name])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parents[-1]}{p.stem}")
def test_configurations_of_the_recipes(path):
    options = parse_task_options(SERTask, ["--config", str(path)])
    if options.frontend == "ssl":
        # Same class, small: the real size takes seconds and a gigabyte.
        arch = options.frontend_conf["arch"]
        assert arch in (*KNOWN_ARCHS, "custom") or (path.parents[1] / arch).is_file()
        return
    model = SERTask.build_model(options)
    assert model.labels == ["ang", "hap", "neu", "sad"]
    streams = {name: torch.randn(1, 16000) for name in model.inputs}
    streams |= {f"{name}_lengths": torch.tensor([16000]) for name in model.inputs}
    logits = model.eval().logits(**streams)
    assert torch.isfinite(logits).all()


def test_there_are_configurations_of_the_recipes():
    assert len(CONFIGS) >= 5


def test_defaults_can_be_overridden_by_the_configuration(tmp_path):
    config = tmp_path / "train_ser.yaml"
    config.write_text("num_workers: 3\nbest_model_criterion:\n- [valid, wa, max]\n")
    options = parse_task_options(SERTask, ["--config", str(config), "--keep_nbest_models", "2"])
    assert options.num_workers == 3 and options.keep_nbest_models == [2]
    assert options.best_model_criterion == [["valid", "wa", "max"]]
    assert options.resume and not options.use_matplotlib


@pytest.mark.parametrize(
    ("text", "further", "message"),
    [
        ("no_such_key: 1\n", [], "unknown key 'no_such_key'"),
        ("", ["--no_such_option", "1"], "no_such_option"),
        ("seed: 1\n", ["--no_such_option", "1"], "unrecognized arguments: --no_such_option"),
        ("seed: 1\n", ["--batch_size", "many"], "--batch_size: expected a whole number"),
        ("frontend: mfcc\n", [], "frontend: expected one of logmel, ssl, or a class .*got 'mfcc'"),
        ("fs: [1\n", [], "train_ser.yaml: line 2: not valid YAML"),
        ("# all is commented out\n", [], "train_ser.yaml: expected a mapping of options"),
    ],
)
def test_wrong_options_are_user_errors(tmp_path, text, further, message):
    config = tmp_path / "train_ser.yaml"
    config.write_text(text or "seed: 0\n")
    with pytest.raises(UserError, match=message):
        SERTask.build_model(parse_task_options(SERTask, ["--config", str(config), *further]))


def test_a_random_crop_and_a_fixed_length_exclude_each_other(tmp_path):
    further = ["--frontend_conf", "fixed_seconds=0.5"]
    with pytest.raises(UserError, match="max_seconds .* and fixed_seconds .* exclude each other"):
        parse_task_options(SERTask, [*further, "--max_seconds", "0.4"])
    config = tmp_path / "train_ser.yaml"
    config.write_text("frontend_conf: {fixed_seconds: 0.5, n_mels: 16}\n")
    written = _dry_run(tmp_path, config)
    assert build_ser_model(written).frontend.fixed_samples == 8000
    message = "--frontend_conf: fixed_seconds: expected a number of 0.1 or more"
    with pytest.raises(UserError, match=message):
        options = ["--config", str(config), "--frontend_conf", "fixed_seconds=-1"]
        SERTask.build_model(parse_task_options(SERTask, options))


def test_missing_configuration_and_needless_statistics(tmp_path, stats):
    with pytest.raises(UserError, match="none.yaml: no such configuration"):
        parse_task_options(SERTask, ["--config", str(tmp_path / "none.yaml")])
    with pytest.raises(UserError, match="--stats_file needs --normalize global_mvn"):
        SERTask.build_model(parse_task_options(SERTask, ["--stats_file", str(stats)]))
