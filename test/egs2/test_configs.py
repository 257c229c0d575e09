"""Every configuration of every recipe is parsed by its task and builds its model."""

from pathlib import Path

import pytest
import yaml

from espnet_tse_ser.data.dynamic import EMOTION_DEFAULTS, PRETRAINING_DEFAULTS, complete_options
from espnet_tse_ser.ser.build import build_ser_model
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.tse.build import build_extraction_model

ROOT = Path(__file__).parents[2]


def configs(kind):
    """Configurations ``train_<kind>*.yaml`` that are no links, relative to the repository."""
    found = sorted(ROOT.glob(f"egs2/*/tse_ser1/conf/**/train_{kind}*.yaml"))
    names = [str(p.relative_to(ROOT)) for p in found if not p.is_symlink()]
    return [n for n in names if kind != "tse" or "train_tse_ser" not in n]


def parse(task, path):
    return parse_task_options(task, ["--config", str(ROOT / path), "--output_dir", "unused"])


def test_every_configuration_is_of_a_known_kind():
    known = {name for kind in ("tse", "ser", "tse_ser") for name in configs(kind)}
    found = {
        str(p.relative_to(ROOT))
        for p in ROOT.glob("egs2/*/tse_ser1/conf/**/*.yaml")
        if p.parent.name != "tests"  # variations of the mixtures, not models
    }
    links = {n for n in found if (ROOT / n).is_symlink()}
    assert found - links == known
    assert all((ROOT / link).resolve().is_file() for link in links)


@pytest.mark.parametrize("path", configs("tse"))
def test_tse(path):
    from espnet_tse_ser.tasks.tse import TSETask

    options = parse(TSETask, path)
    complete_options(options.mixing_conf, PRETRAINING_DEFAULTS)
    config = vars(options) | {"model_conf": {**options.model_conf, "num_speakers": 7}}
    model = build_extraction_model(config)
    names = dict(model.named_parameters())
    # The adaptation lies after the first repeat (arXiv 2409.19585, section 2).
    tcn = options.extractor_conf
    assert tcn["i_adapt_layer"] == tcn["layer"] - 1
    assert names["encoder.conv1d.weight"].shape[0] == options.encoder_conf["channel"]


@pytest.mark.parametrize("percent", [10, 50])
def test_shares_of_pretraining_data_differ_in_nothing_else(percent):
    conf = ROOT / "egs2/ravdess_mix/tse_ser1/conf"
    expected = yaml.safe_load((conf / "train_tse.yaml").read_text())
    expected["mixing_conf"]["speaker_share"] = percent / 100
    assert yaml.safe_load((conf / f"tuning/train_tse_{percent}pct.yaml").read_text()) == expected


@pytest.mark.parametrize("path", configs("ser"))
def test_ser(path):
    from espnet_tse_ser.tasks.ser import SERTask

    options = parse(SERTask, path)
    if options.frontend == "ssl":  # without its weights, which are downloaded
        options.frontend_conf = options.frontend_conf | {"weights": None}
    model = build_ser_model(vars(options))
    assert model.classifier.out_features == len(options.labels)


@pytest.mark.parametrize("path", configs("tse_ser"))
def test_joint(path):
    from espnet_tse_ser.models.build import build_joint_model
    from espnet_tse_ser.tasks.tse_ser import TSESERTask

    options = parse(TSESERTask, path)
    complete_options(options.mixing_conf, EMOTION_DEFAULTS)
    recipe = "egs2/mini_iemocap_mix/tse_ser1/conf"
    tse = yaml.safe_load((ROOT / recipe / "train_tse_debug.yaml").read_text())
    ser = yaml.safe_load((ROOT / recipe / "train_ser_debug.yaml").read_text())
    tse["model_conf"] = {}
    config = {"tse": tse, "ser": {"labels": ["ang", "neu"]} | ser}
    model = build_joint_model(config | {"model_conf": options.model_conf})
    assert (model.w_tse, model.w_ser) == (1.0, 1.0)
