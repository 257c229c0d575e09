"""Stage 6, of encoders: a pretraining of seconds; it repeats, resumes and is taken by others."""

import numpy as np
import pytest
import tiny_ssl
import torch
import yaml
from tiny_corpora import write_noise
from tiny_experiments import assert_measures

from espnet_tse_ser.bin import ssl_train, tse_train
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.frontends.loading import load_front_end
from espnet_tse_ser.frontends.model_files import files_of
from espnet_tse_ser.recognise.pretrained import pretraining_of, with_encoder
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend
from espnet_tse_ser.tasks.ssl import SSLTask
from espnet_tse_ser.tasks.ssl_enhancement import SSLEnhancementTask
from espnet_tse_ser.training.checkpoints import load_state

CONFIG = {
    "arch_conf": tiny_ssl.ARCH | {"extractor_conv_layer_config": [[8, 40, 20], [8, 16, 16]]},
    "model_conf": {"codes": 8, "mask_width": 2},
    "mixing_conf": {
        "segment": 3200,
        "enroll_segment": None,
        "steps_per_epoch": 2,
        "valid_examples": 3,
        "valid_share": 0.2,
        "snr_set": ["clean", 0],
    },
    "batch_size": 2,
    "optim": "adam",
    "optim_conf": {"lr": 0.01},
    "max_epoch": 2,
    "best_model_criterion": [["valid", "loss", "min"]],
    "keep_nbest_models": 2,
}


@pytest.fixture
def train(tmp_path, tiny_pool):
    write_noise(tmp_path / "noise")

    def run(output_dir, *further, **changes):
        (tmp_path / "train_ssl.yaml").write_text(yaml.safe_dump(CONFIG | changes))
        options = {"config": "train_ssl.yaml", "noise": "noise", "output_dir": output_dir}
        command = [str(o) for n, v in options.items() for o in (f"--{n}", tmp_path / v)]
        ssl_train.main([*command, "--pool", str(tiny_pool), *further])
        return tmp_path / output_dir

    return run


def test_a_training_that_is_resumed_ends_as_one_that_was_not(train):
    whole = train("whole")
    assert_measures(SSLTask, whole)
    parts = train("parts", "--max_epoch", "1")
    train("parts")
    before, after = (load_state(path / "2epoch.pth") for path in (whole, parts))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_recogniser_takes_it(train):
    encoder = train("exp")
    config = {"frontend": "ssl", "frontend_conf": {"arch": "conf/train_ssl.yaml", "layer": 1}}
    assert pretraining_of(config) == "conf/train_ssl.yaml"
    conf = with_encoder(config, str(encoder), "train_ser.yaml")
    assert conf["arch"] == "custom" and conf["layer"] == 1
    frontend = SSLFrontend(**conf)
    state = load_state(encoder / "valid.loss.best.pth")
    for name, value in frontend.ssl.state_dict().items():
        assert torch.equal(value, state[f"frontend.ssl.{name}"])
    with pytest.raises(UserError, match="train_ser.yaml: .* is the configuration of a pretraining"):
        with_encoder(config, None, "train_ser.yaml")
    with pytest.raises(UserError, match="--encoder: train_ser.yaml names no pretraining"):
        with_encoder({"frontend": "logmel"}, str(encoder), "train_ser.yaml")
    assert with_encoder({"frontend_conf": {"arch": "HUBERT_BASE"}}, None, "x") == {
        "arch": "HUBERT_BASE"
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch_conf": {"type": "bert"}}, "arch_conf: type: expected one of wav2vec2"),
        ({"model_conf": {"code": 1}}, "model_conf: unknown key 'code'"),
        ({"model_conf": {"mask_width": 20}}, "mixing_conf: segment .* encoder, 6420 samples"),
        ({"mixing_conf": {}}, "mixing_conf: an encoder takes no enrollment; give enroll_segment"),
        ({"arch_conf": tiny_ssl.ARCH}, "arch_conf: the strides .* 320 samples"),
        ({"sample_rate": 8000}, "sample_rate: expected 16000"),
    ],
)
def test_configurations_that_do_not_fit(train, changes, message):
    with pytest.raises(UserError, match=f"train_ssl.yaml: {message}"):
        train("exp", **changes)


def test_a_front_end_on_it(train, tmp_path, tiny_pool):
    """Enhancement by an encoder of its own: it is trained, loaded and used as every front-end."""
    encoder = train("exp")
    conf = {"arch": "conf/train_ssl.yaml", "layer": "weighted", "layer_norm": True}
    config = {key: value for key, value in CONFIG.items() if key != "arch_conf"}
    config |= {"frontend": "ssl", "frontend_conf": conf | {"finetune": True}}
    config |= {"model_conf": {"mask_hidden": 8}}
    (tmp_path / "train_se.yaml").write_text(yaml.safe_dump(config))
    command = ["--config", str(tmp_path / "train_se.yaml"), "--pool", str(tiny_pool)]
    command += ["--noise", str(tmp_path / "noise"), "--output_dir", str(tmp_path / "se")]
    with pytest.raises(UserError, match="train_se.yaml: .* --encoder has to name; run stage 6"):
        tse_train.main(command)
    tse_train.main([*command, "--encoder", str(encoder)])
    assert_measures(SSLEnhancementTask, tmp_path / "se")
    front_end = load_front_end(tmp_path / "se")
    assert not front_end.needs_enrollment and not files_of(tmp_path / "se").needs_enrollment
    rng = np.random.default_rng(0)
    mixtures = [0.1 * rng.standard_normal(n).astype(np.float32) for n in (5000, 3500)]
    together = extract(front_end, mixtures)
    for mixture, estimate in zip(mixtures, together, strict=True):
        np.testing.assert_allclose(extract(front_end, [mixture])[0], estimate, atol=1e-5)
        assert not np.allclose(estimate, mixture, atol=1e-3)
