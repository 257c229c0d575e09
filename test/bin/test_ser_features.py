"""Kept SSL features: the command, and training, statistics and recognition that use them."""

import itertools
import os
import pickle
import re
import shutil
import signal

import children
import numpy as np
import pytest
import soundfile
import torch
import yaml
from evil_files import Payload
from tiny_ssl import frontend_conf, write_weights
from two_processes import train_in_two

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import recognize, ser_features, ser_stats, ser_train
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.recognise import feature_cache
from espnet_tse_ser.recognise.feature_cache import FeatureCache
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend
from espnet_tse_ser.training.checkpoints import read_config

LABELS = ["ang", "hap", "neu", "sad"]
CONFIG = {
    "frontend": "ssl",
    "normalize": "global_mvn",
    "specaug": "specaug",
    "specaug_conf": {"freq_width": 3, "time_width": 5},
    "encoder_conf": {"dropout": 0.1},
    "batch_type": "unsorted",
    "batch_size": 8,
    "shuffle_within_batch": True,
    "optim": "adamw",
    "optim_conf": {"lr": 0.003},
    "exclude_weight_decay": True,
    "max_epoch": 2,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A mixture directory of 32 noisy tones, lists, a tiny HuBERT, its features, statistics."""
    root = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    wavs = {}
    for number in range(32):
        utt, length = f"{'aabb'[number // 8]}-{number:02d}", int(rng.integers(1800, 4000))
        pitch = 400.0 * 2 ** (number % 4)
        speech = 0.1 * np.sin(2 * np.pi * pitch * np.arange(length) / 16000)
        wavs[utt] = root / f"{utt}.wav"
        soundfile.write(wavs[utt], speech + 0.01 * rng.standard_normal(length), 16000)
    for name in ("wav.scp", "spk1.scp", "enroll_spk1.scp"):
        write_table(root / name, wavs)
    write_table(root / "utt2emo", {u: LABELS[n % 4] for n, u in enumerate(wavs)})
    write_table(root / "utt2num_samples", {u: soundfile.info(p).frames for u, p in wavs.items()})
    directory = root / "splits" / "fold1"
    directory.mkdir(parents=True)
    for part, (first, last) in {"train": (0, 16), "dev": (16, 24), "test": (24, 32)}.items():
        (directory / f"{part}.lst").write_text("".join(f"{u}\n" for u in list(wavs)[first:last]))
    write_weights(root / "ssl.pt")
    _config(root / "train_ser.yaml", root / "ssl.pt")
    _features(root, root / "feats", 2)
    _features(root, root / "half", 1, "--dtype", "float16")
    _stats(root, root / "stats")
    return root


def _config(path, weights, conf=None, **changes):
    config = CONFIG | {"frontend_conf": frontend_conf(weights) | (conf or {})} | changes
    path.write_text(yaml.safe_dump(config))
    return path


def _features(root, directory, nj, *further, config=None):
    options = ["--config", config or root / "train_ser.yaml", "--scp", root / "wav.scp"]
    options += ["--device", "cpu"]
    options += ["--output_dir", directory, "--nj", nj, *further]
    for part in [*(["--job", job] for job in range(1, nj + 1)), ["--combine"]]:
        ser_features.main([str(o) for o in [*options, *part]])


def _stats(root, directory, *further):
    options = ["--config", root / "train_ser.yaml", "--scp", root / "wav.scp"]
    options += ["--splits", root / "splits", "--output_dir", directory, *further]
    ser_stats.main([str(o) for o in options])


def _options(root, output_dir, *further, config="train_ser.yaml"):
    options = ["--config", root / config, "--scp", root / "wav.scp", "--data_dir", root]
    options += ["--split", root / "splits" / "fold1", "--output_dir", output_dir, "--seed", 3]
    options += ["--stats", root / "stats" / "fold1" / "feats_stats.npz", *further]
    return [str(o) for o in options]


def _train(*args, **keywords):
    ser_train.main(_options(*args, **keywords))


@pytest.fixture(scope="module")
def trained(root):
    """The same training from audio and from features."""
    audio, feats = root / "exp_audio", root / "exp_feats"
    _train(root, audio)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SSLFrontend, "forward", None)  # is not needed
        _train(root, feats, "--feats", root / "feats")
    return audio, feats


def test_training_is_that_from_audio(trained):
    tables = [read_tsv(directory / "epochs.tsv") for directory in trained]
    for rows in zip(*tables, strict=True):
        for name, value in rows[0].items():
            assert float(value) == pytest.approx(float(rows[1][name]), rel=1e-5), name
    states = [torch.load(d / "latest.pth", weights_only=True) for d in trained]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        # What Adam does with a gradient of about nothing is decided by rounding.
        torch.testing.assert_close(value, states[1][name], atol=1e-3, rtol=1e-4)
        if name.startswith("frontend."):
            assert torch.equal(value, states[1][name])
    configs = [read_config(directory) for directory in trained]
    assert configs[0]["feats_dir"] is configs[1]["feats_dir"] is None
    own = ("output_dir", "train_data_path_and_name_and_type", "valid_data_path_and_name_and_type")
    own += ("train_shape_file", "valid_shape_file")
    for name in configs[0].keys() - set(own):
        assert configs[0][name] == configs[1][name], name


def test_a_frozen_frontend_is_not_optimised(trained):
    for directory in trained:
        checkpoint = torch.load(directory / "checkpoint.pth", weights_only=False)
        params = [p for g in checkpoint["optimizers"][0]["param_groups"] for p in g["params"]]
        trainable = [
            n for n in checkpoint["model"] if not n.startswith(("frontend.", "normalize."))
        ]
        trainable = [n for n in trainable if "running_" not in n and "num_batches" not in n]
        assert len(params) == len(trainable)


def test_training_from_features_resumes(root, trained, tmp_path):
    _train(root, tmp_path, "--feats", root / "feats", "--max_epoch", 1)
    _train(root, tmp_path, "--feats", root / "feats")
    states = [torch.load(d / "latest.pth", weights_only=True) for d in (trained[1], tmp_path)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_in_half_precision_and_with_crops(root, trained, tmp_path):
    _train(root, tmp_path / "half", "--feats", root / "half")
    tables = [read_tsv(d / "epochs.tsv") for d in (trained[1], tmp_path / "half")]
    for rows in zip(*tables, strict=True):
        assert float(rows[0]["train_loss"]) == pytest.approx(float(rows[1]["train_loss"]), rel=1e-2)
    crop = ("--max_seconds", 0.12, "--max_epoch", 1)
    _train(root, tmp_path / "crop", "--feats", root / "feats", *crop)
    whole, cropped = (read_tsv(d / "epochs.tsv")[0] for d in (trained[1], tmp_path / "crop"))
    assert whole["train_loss"] != cropped["train_loss"]


def test_two_processes_read_features(root, tmp_path):
    command = _options(root, tmp_path / "exp", "--feats", root / "feats", "--max_epoch", 1)
    statuses, logs = train_in_two(ser_train.main, command, tmp_path / "logs")
    assert statuses == [0, 0], logs


def test_statistics_are_those_from_audio(root):
    _stats(root, root / "stats_feats", "--feats", root / "feats")
    paths = [root / d / "fold1" / "feats_stats.npz" for d in ("stats", "stats_feats")]
    with np.load(paths[0]) as audio, np.load(paths[1]) as feats:
        for name in ("count", "sum", "sum_square"):
            np.testing.assert_allclose(audio[name], feats[name], rtol=1e-6, atol=1e-6)


def _recognize(root, model_dir, output, *further, part="test"):
    options = ["--model_dir", model_dir, "--data_dir", root, "--scp", root / "wav.scp"]
    options += ["--ids", root / "splits" / "fold1" / f"{part}.lst", "--output", output, *further]
    recognize.main([str(o) for o in options])
    return read_tsv(output)


def test_recognition_is_that_from_audio(root, trained, tmp_path):
    audio = _recognize(root, trained[1], tmp_path / "audio.tsv")
    feats = _recognize(root, trained[1], tmp_path / "feats.tsv", "--feats", root / "feats")
    half = _recognize(root, trained[1], tmp_path / "half.tsv", "--feats", root / "half")
    assert len(audio) == 8
    for rows in zip(audio, feats, half, strict=True):
        for name in (n for n in audio[0] if n.startswith("p_")):
            assert float(rows[1][name]) == pytest.approx(float(rows[0][name]), abs=2e-6)
            assert float(rows[2][name]) == pytest.approx(float(rows[0][name]), abs=5e-3)
    # ... and for a user, who has audio.
    speech, _ = soundfile.read(root / f"{audio[0]['id']}.wav")
    result = TSESER.from_pretrained(trained[1])(speech)
    assert result.probabilities["sad"] == pytest.approx(float(feats[0]["p_sad"]), abs=1e-5)


def test_what_is_printed(root, tmp_path, caplog):
    with caplog.at_level("INFO"):
        _features(root, tmp_path / "feats", 3)
        _features(root, tmp_path / "feats", 1)
    text = caplog.text
    assert "11 computed, 0 reused, in " in text and "10 computed, 0 reused" in text
    assert "0 computed, 32 reused, in " in text
    size = 16 * 4 * sum(e.frames for e in FeatureCache(tmp_path / "feats").entries.values()) / 1e6
    hours = sum(soundfile.info(p).frames for p in root.glob("*.wav")) / 16000 / 3600
    printed = re.search(r"32 utterances, (.*) h, (.*) MB in float32, computed in ", text)
    assert float(printed[1]) == pytest.approx(hours, rel=0.01)
    assert size < float(printed[2]) < 1.01 * size + 1e-3
    assert "real-time factor 0." in text
    # The bytes of an entry do not depend on the jobs.
    caches = [FeatureCache(d) for d in (root / "feats", tmp_path / "feats")]
    for utt in caches[0].entries:
        np.testing.assert_array_equal(caches[0].load(utt), caches[1].load(utt))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_archives_run_no_code(root, trained, tmp_path, kind):
    _features(root, tmp_path / "feats", 1, "--dtype", kind)
    utt = (root / "splits" / "fold1" / "train.lst").read_text().split()[3]
    entry = FeatureCache(tmp_path / "feats").entries[utt]
    with open(entry.ark, "r+b") as stream:
        stream.seek(entry.offset)
        stream.write(b"PKL" + pickle.dumps(Payload(tmp_path / "ran")))
    message = f"'{utt}': .*.ark:.*: holds a pickle, which can run code, not a matrix"
    feats = ("--feats", tmp_path / "feats")
    for call in (
        lambda: _train(root, tmp_path / "exp", *feats),
        lambda: _recognize(root, trained[1], tmp_path / "hyp.tsv", *feats, part="train"),
        lambda: _stats(root, tmp_path / "stats", *feats),
    ):
        with pytest.raises(UserError, match=message):
            call()
    assert not (tmp_path / "ran").exists()


def test_lengths_that_are_not_those_of_the_audio(root, tmp_path):
    shutil.copytree(root, tmp_path / "root", ignore=shutil.ignore_patterns("exp*"))
    lengths = read_table(root / "utt2num_samples")
    write_table(tmp_path / "root" / "utt2num_samples", lengths | {"b-17": 123})
    with pytest.raises(UserError, match=r"'b-17': says 123 samples, but its audio .* has \d+"):
        _train(tmp_path / "root", tmp_path / "exp", "--feats", root / "feats")


def _killed_job(root, directory):
    feature_cache.SHARD_UTTERANCES = 4
    write_shard, count = feature_cache._write_shard, itertools.count(1)

    def kill_at_the_third(*args):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return write_shard(*args)

    feature_cache._write_shard = kill_at_the_third
    _features(root, directory, 1)


def test_a_killed_job_goes_on(root, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARD_UTTERANCES", 4)
    assert children.end(children.start(_killed_job, root, tmp_path / "feats")) == -9
    with caplog.at_level("INFO"):
        _features(root, tmp_path / "feats", 1)
    assert "24 computed, 8 reused" in caplog.text


def test_what_changed_is_refused_until_it_is_computed(root, tmp_path):
    config = _config(tmp_path / "train_ser.yaml", write_weights(tmp_path / "other.pt", 1))
    message = "feats: was computed with another front-end than the model's: weights is"
    with pytest.raises(UserError, match=message):
        _train(root, tmp_path / "exp", "--feats", root / "feats", config=config)
    _features(root, tmp_path / "feats", 1, config=config)
    _train(root, tmp_path / "exp", "--feats", tmp_path / "feats", "--max_epoch", 1, config=config)
    with pytest.raises(UserError, match=message):
        _recognize(root, tmp_path / "exp", tmp_path / "hyp.tsv", "--feats", root / "feats")
    wavs = {p.stem: p for p in root.glob("*.wav")}
    changed = tmp_path / "b-16.wav"
    soundfile.write(changed, 0.5 * soundfile.read(wavs["b-16"])[0], 16000)
    write_table(tmp_path / "wav.scp", wavs | {"b-16": changed})
    with pytest.raises(UserError, match=r"audio of 1 of 8 id\(s\) has changed .*first 'b-16' "):
        _train(root, tmp_path / "exp2", "--feats", root / "feats", "--scp", tmp_path / "wav.scp")
    assert not (tmp_path / "exp2").exists()


@pytest.mark.parametrize(
    ("conf", "changes", "message"),
    [
        ({"finetune": True}, {}, "finetune: true changes the front-end"),
        ({"layer": "weighted"}, {}, "layer: weighted is learned"),
        ({"weights": None}, {}, "weights: null makes another front-end"),
        ({}, {"frontend": "logmel", "frontend_conf": {}}, "front-end 'logmel' is computed as fast"),
    ],
)
def test_features_that_cannot_be_kept(root, tmp_path, conf, changes, message):
    config = _config(tmp_path / "train_ser.yaml", root / "ssl.pt", conf, **changes)
    with pytest.raises(UserError, match=f"train_ser.yaml: features cannot be kept: {message}"):
        _features(root, tmp_path / "feats", 1, config=config)
    with pytest.raises(UserError, match=f"features cannot be kept: {message}"):
        _train(root, tmp_path / "exp", "--feats", root / "feats", config=config)


def test_errors_name_what_is_wrong(root, trained, tmp_path, joint_dir):
    with pytest.raises(UserError, match="--job 3 --nj 2: the job must lie in 1 to nj"):
        options = ["--config", "c", "--scp", "s", "--output_dir", "o", "--job", "3", "--nj", "2"]
        ser_features.main(options)
    with pytest.raises(UserError, match="none: holds no features"):
        _train(root, tmp_path / "exp", "--feats", tmp_path / "none")
    with pytest.raises(UserError, match="none: holds no features"):
        _recognize(root, trained[0], tmp_path / "hyp.tsv", "--feats", tmp_path / "none")
    with pytest.raises(UserError, match="--feats is for a SER experiment: a joint model"):
        _recognize(root, joint_dir, tmp_path / "hyp.tsv", "--feats", root / "feats")
