"""Stage 11: a joint training of seconds from tiny experiments; it repeats, resumes, freezes."""

import numpy as np
import pytest
import tiny_espnet
import torch
import yaml
from sklearn.metrics import balanced_accuracy_score
from tiny_experiments import assert_measures, write_experiment
from two_processes import assert_close, train_in_two

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.bin import tse_ser_train
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.loading import take_model
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.training.checkpoints import load_state, read_config
from espnet_tse_ser.training.dynamic import length_batches

TRAINING = {
    "model_conf": {"w_tse": 0.1, "w_ser": 1.0},
    "mixing_conf": {"dynamic": True, "levels": "loudness"},
    "batch_size": 4,
    "optim": "adamw",
    "optim_conf": {"lr": 0.01, "weight_decay": 0.01},
    "max_epoch": 2,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("conf") / "train_tse_ser.yaml"
    path.write_text(yaml.safe_dump(TRAINING))
    return path


@pytest.fixture(scope="module")
def train(config, tiny_mixtures, tse_dir, ser_dir):
    def run(output_dir, *further, main=tse_ser_train.main, **changes):
        options = {
            "config": config,
            "data_dir": tiny_mixtures / "mix",
            "targets": tiny_mixtures / "emo",
            "sources": tiny_mixtures / "interferer",
            "split": tiny_mixtures / "table" / "splits" / "fold1",
            "tse_dir": tse_dir,
            "ser_dir": ser_dir,
            "output_dir": output_dir,
            "seed": 1,
        }
        options |= changes
        command = [[f"--{n}", str(v)] for n, v in options.items() if v is not None]
        main([*sum(command, []), *further])
        return output_dir

    return run


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    return train(tmp_path_factory.mktemp("joint") / "whole")


def _weights(directory):
    return torch.load(directory / "latest.pth", weights_only=True)


def _equal(first, second):
    return all(torch.equal(first[k], second[k]) for k in first.keys() | second.keys())


def test_dev_recall_is_that_of_the_saved_model(whole, tiny_mixtures):
    rows = read_tsv(
        whole / "epochs.tsv", ["epoch", "train_si_snr_loss", "train_ser_loss", "valid_ua"]
    )
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        total = 0.1 * float(row["valid_si_snr_loss"]) + float(row["valid_ser_loss"])
        assert float(row["valid_loss"]) == pytest.approx(total, rel=1e-4)
    # Independently: the best model over the dev list, one utterance at a time.
    model = TSESER.from_pretrained(whole)
    ids = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / "dev.lst")
    data = MixtureDir(tiny_mixtures / "mix", ids)
    assert len(length_batches(data.lengths, 4)[-1]) != 4  # the batches are uneven
    results = [model(data.audio("mix", u), data.audio("enroll", u)).label for u in ids]
    expected = balanced_accuracy_score([data.emotion(u) for u in ids], results)
    best = max(float(row["valid_ua"]) for row in rows)
    assert best == pytest.approx(expected, abs=1e-5)


def test_the_experiment_stands_alone(whole, tmp_path, tse_dir, ser_dir):
    text = (whole / "config.yaml").read_text()
    assert str(tse_dir) not in text and str(ser_dir) not in text
    config = read_config(whole)
    assert config["model_conf"] == TRAINING["model_conf"] and config["fs"] == 16000
    start = load_state(tse_dir / "valid.loss.best.pth")
    assert not _equal(start, {k: _weights(whole)[f"tse_model.{k}"] for k in start})


def test_a_speaker_encoder_stays_and_is_not_trained(train, whole, tse_dir, tse_config, tmp_path):
    conf = {"speaker_encoder": "resemblyzer"}
    model = build_extraction_model(tse_config | {"model_conf": conf})
    model.load_state_dict(load_state(tse_dir / "valid.loss.best.pth"), strict=False)
    model.speaker_encoder.load_pretrained()
    config = read_config(tse_dir)
    config["model_conf"] = conf
    tse = write_experiment(tmp_path / "tse", config, model, "valid.loss")
    found = _weights(train(tmp_path / "exp", "--max_epoch", "1", tse_dir=tse))
    assert read_config(tmp_path / "exp")["tse"]["model_conf"] == conf
    for name, value in model.speaker_encoder.state_dict().items():
        assert torch.equal(found[f"tse_model.speaker_encoder.{name}"], value)
    assert found["tse_model.speaker_projection.weight"].abs().max() > 0
    assert TSESER.from_pretrained(tmp_path / "exp").model.tse_model.speaker_encoder is not None


def test_what_is_measured_is_known_before(whole):
    from espnet_tse_ser.tasks.tse_ser import TSESERTask

    assert_measures(TSESERTask, whole)


def test_the_same_seed_gives_the_same_weights(train, whole, tmp_path):
    again = train(tmp_path / "again")
    assert _equal(_weights(again), _weights(whole))
    assert (again / "epochs.tsv").read_text() == (whole / "epochs.tsv").read_text()


def test_a_resumed_training_gives_the_same_weights(train, whole, tmp_path):
    parts = train(tmp_path / "parts", "--max_epoch", "1")
    assert not _equal(_weights(parts), _weights(whole))
    train(tmp_path / "parts")
    assert _equal(_weights(parts), _weights(whole))
    assert (parts / "epochs.tsv").read_text() == (whole / "epochs.tsv").read_text()


def test_a_schedule_in_epochs(train, whole, tiny_mixtures, tmp_path):
    short = ("--max_epoch", "1", "--scheduler", "tristagelr", "--scheduler_conf")
    exp = train(tmp_path / "exp", *short, "max_steps=1epochs")
    ids = read_ids(tiny_mixtures / "table" / "splits" / "fold1" / "train.lst")
    steps = -(-len(ids) // TRAINING["batch_size"])
    assert steps > 1 and read_config(exp)["scheduler_conf"]["max_steps"] == steps
    with pytest.raises(UserError, match=f"max_steps is {2 * steps} steps, .* {steps}: 1 epochs of"):
        train(tmp_path / "long", *short, "max_steps=2epochs")


@pytest.mark.parametrize("further", [(), ("--model_conf", "freeze_tse=true")])
def test_two_processes_train_as_one(train, tmp_path, further):
    def train_two(command):
        statuses, logs = train_in_two(tse_ser_train.main, command, tmp_path / "logs")
        assert statuses == [0, 0], logs

    one, two = tmp_path / "one", tmp_path / "two"
    assert_close(train(two, *further, main=train_two), train(one, *further))


def test_interferers_as_targets(train, two_each, tmp_path):
    """A batch may have no emotion to train on; it resumes, and goes on in two processes."""

    def run(name, *further, **changes):
        more = ["--mixing_conf", "swap_share=0.6", *further]
        return train(tmp_path / name, *more, sources=two_each, **changes)

    whole, _ = (
        run("whole", "--batch_size", "1"),
        run("parts", "--batch_size", "1", "--max_epoch", "1"),
    )
    assert _equal(_weights(run("parts", "--batch_size", "1")), _weights(whole))
    for row in read_tsv(whole / "epochs.tsv", ["train_ser_loss", "valid_ua"]):
        total = 0.1 * float(row["train_si_snr_loss"]) + float(row["train_ser_loss"])
        assert np.isfinite(total) and abs(float(row["train_loss"]) - total) > 0.01

    def train_two(command):
        statuses, logs = train_in_two(tse_ser_train.main, command, tmp_path / "logs")
        assert statuses == [0, 0], logs

    run("two", "--batch_size", "2", "--max_epoch", "1", main=train_two)


def test_mixed_precision(train, whole, tmp_path):
    options = ("--autocast", "bfloat16", "--max_epoch", "1")
    weights = _weights(train(tmp_path / "mixed", *options))
    assert all(torch.isfinite(v).all() for v in weights.values())
    types = {name: value.dtype for name, value in _weights(whole).items()}
    assert {name: value.dtype for name, value in weights.items()} == types
    assert not _equal(weights, _weights(train(tmp_path / "exact", "--max_epoch", "1")))
    rows = [read_tsv(tmp_path / name / "epochs.tsv")[0] for name in ("mixed", "exact")]
    mixed, exact = (float(row["train_loss"]) for row in rows)
    assert mixed == pytest.approx(exact, rel=0.1)
    speech = np.random.default_rng(0).uniform(-0.1, 0.1, 4000)
    assert TSESER.from_pretrained(tmp_path / "mixed")(speech, speech).label
    with pytest.raises(UserError, match="autocast: float16"):
        train(tmp_path / "half", "--autocast", "float16")
    with pytest.raises(UserError, match="compile: true is for GPUs"):
        train(tmp_path / "compiled", "--compile", "true")


@pytest.mark.parametrize("part", ["tse", "ser"])
def test_frozen_parts_keep_the_weights_they_came_with(train, tmp_path, tse_dir, ser_dir, part):
    exp = train(tmp_path / "exp", "--model_conf", f"freeze_{part}=true", "--max_epoch", "1")
    trained = _weights(exp)
    for name, path in (
        ("tse", tse_dir / "valid.loss.best.pth"),
        ("ser", ser_dir / "valid.ua.best.pth"),
    ):
        start = load_state(path)
        same = _equal(start, {k: trained[f"{name}_model.{k}"] for k in start})
        assert same == (name == part)


def test_recogniser_from_scratch_on_the_rendered_mixtures(train, tmp_path, ser_dir, ser_config):
    config = tmp_path / "train_ser.yaml"
    conf = {k: v for k, v in ser_config.items() if k != "labels"} | {"normalize": "global_mvn"}
    config.write_text(yaml.safe_dump(conf))
    stats = tmp_path / "feats_stats.npz"
    np.savez(stats, count=10, sum=np.full(16, -50.0), sum_square=np.full(16, 290.0))
    scratch = {"ser_dir": None, "ser_config": config}
    with pytest.raises(UserError, match="train_ser.yaml: normalize needs --stats; run stage 9"):
        train(tmp_path / "exp", **scratch)
    further = ["--max_epoch", "1", "--mixing_conf", "dynamic=false"]
    exp = train(tmp_path / "exp", *further, **scratch, stats=stats)
    assert (_weights(exp)["ser_model.normalize.mean"] == -5).all()
    assert (_weights(exp)["ser_model.normalize.std"] == 2).all()
    start = load_state(ser_dir / "valid.ua.best.pth")
    assert not torch.equal(start["classifier.weight"], _weights(exp)["ser_model.classifier.weight"])
    stats.unlink()
    config.unlink()
    result = TSESER.from_pretrained(exp)(np.sin(np.arange(4000.0)), np.cos(np.arange(3000.0)))
    assert sum(result.probabilities.values()) == pytest.approx(1.0)


def test_errors_name_what_is_wrong(train, tmp_path, tse_dir, ser_dir, tse_config):
    exp = tmp_path / "exp"
    with pytest.raises(UserError, match="give either --ser_dir .* or --ser_config"):
        train(exp, ser_dir=None)
    with pytest.raises(UserError, match="give either --ser_dir .* or --ser_config"):
        train(exp, ser_config="train_ser.yaml")
    with pytest.raises(UserError, match="--tse_dir .*: its config.yaml is not that of a TSE exp"):
        train(exp, tse_dir=ser_dir)
    with pytest.raises(UserError, match="--ser_dir .*: its config.yaml is not that of a SER exp"):
        train(exp, ser_dir=tse_dir)
    with pytest.raises(UserError, match="unrecognized arguments: --max_epochs"):
        train(exp, "--max_epochs", "3")
    with pytest.raises(UserError, match="mixing_conf: unknown key 'segments'"):
        train(exp, "--mixing_conf", "segments=3")
    with pytest.raises(UserError, match="train.lst: no such list of ids; run stage 2"):
        train(exp, split=tmp_path)
    with pytest.raises(UserError, match="config.yaml: no such file"):
        train(exp, tse_dir=tmp_path)
    other = tmp_path / "tse"
    other.mkdir()
    larger = tse_config["extractor_conf"] | {"hidden_dim": 24}
    (other / "config.yaml").write_text(yaml.safe_dump(tse_config | {"extractor_conf": larger}))
    (other / "valid.loss.best.pth").symlink_to(tse_dir / "valid.loss.best.pth")
    with pytest.raises(UserError, match="valid.loss.best.pth: weights of another architecture"):
        train(exp, tse_dir=other)
    assert not list(exp.glob("*.pth"))


def test_an_unknown_emotion(train, tmp_path, ser_dir, ser_config):
    from espnet_tse_ser.models.build_ser import build_ser_model

    config = ser_config | {"labels": ["ang", "hap", "neu"]}
    other = tmp_path / "ser"
    other.mkdir()
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(build_ser_model(config).state_dict(), other / "valid.ua.best.pth")
    with pytest.raises(UserError, match="unknown emotion 'sad'; known: ang hap neu; correct"):
        train(tmp_path / "exp", ser_dir=other)


def test_an_extractor_from_elsewhere(train, tmp_path):
    source = tiny_espnet.write(tmp_path / "source", tiny_espnet.tse())
    take_model(source, tmp_path / "tse", 16000)
    output_dir = train(tmp_path / "exp", "--max_epoch", "1", tse_dir=tmp_path / "tse")
    first = load_state(source / "valid.loss.best.pth")["encoder.conv1d.weight"]
    trained = load_state(output_dir / "1epoch.pth")["tse_model.encoder.conv1d.weight"]
    assert 0 < (trained - first).abs().max() < 0.2  # a few steps from there
    assert TSESER.from_pretrained(output_dir).extracts


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_espnet.enh("tcn", tiny_espnet.TCN), "an enhancement model; a joint training starts"),
        (tiny_espnet.tse({"norm_type": "BN"}), "config.yaml: extractor_conf: norm_type: expected"),
    ],
    ids=["enhancement", "other norm"],
)
def test_a_front_end_that_it_cannot_train(train, tmp_path, model, message):
    take_model(tiny_espnet.write(tmp_path / "source", model), tmp_path / "tse", 16000)
    with pytest.raises(UserError, match=message):
        train(tmp_path / "exp", tse_dir=tmp_path / "tse")
