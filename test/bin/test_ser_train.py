"""Stages 9 and 10 on real files: statistics, a short training, resuming, repeating, errors."""

import functools
import itertools
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import children
import numpy as np
import pytest
import soundfile
import torch
import yaml
from evil_files import Payload
from tiny_experiments import assert_measures
from two_processes import assert_close, train_in_two

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import ser_stats, ser_train
from espnet_tse_ser.errors import REQUEUE_STATUS, UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.espnet_ser_model import ESPnetSERModel
from espnet_tse_ser.tasks.ser import SERTask
from espnet_tse_ser.training.checkpoints import load_weights, read_config

LABELS = ["ang", "hap", "neu", "sad"]
CONFIG = {
    "frontend_conf": {"n_mels": 16},
    "normalize": "global_mvn",
    "specaug": "specaug",
    "specaug_conf": {"freq_width": 3},
    "preencoder": "conv_stem",
    "preencoder_conf": {"output_size": 16},
    "encoder_conf": {"dropout": 0.1},
    "batch_type": "unsorted",
    "batch_size": 8,
    "shuffle_within_batch": True,
    "optim": "adamw",
    "optim_conf": {"lr": 0.01},
    "max_epoch": 4,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty noisy tones whose pitch is the emotion; fold 1 tests on speaker c."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    wavs, emotions, lengths = {}, {}, {}
    for number in range(40):
        emotion, speaker = LABELS[number % 4], "abbcc"[number // 8]
        utt = f"{speaker}-{number:02d}"
        length = int(rng.integers(3000, 8000))
        pitch = 400.0 * 2 ** (number % 4)
        speech = 0.1 * np.sin(2 * np.pi * pitch * np.arange(length) / 16000)
        path = root / f"{utt}.wav"
        soundfile.write(path, speech + 0.01 * rng.standard_normal(length), 16000, subtype="PCM_16")
        wavs[utt], emotions[utt], lengths[utt] = path, emotion, length
    for name, table in (("wav.scp", wavs), ("utt2emo", emotions), ("utt2num_samples", lengths)):
        text = "".join(f"{utt} {table[utt]}\n" for utt in sorted(table))
        (root / name).write_text(text)
    (root / "utt2category").write_text("".join(f"{utt} same\n" for utt in sorted(wavs)))
    for fold, (train, dev, test) in {"1": "bac", "2": "cab"}.items():
        directory = root / "splits" / f"fold{fold}"
        directory.mkdir(parents=True)
        for side, speaker in (("train", train), ("dev", dev), ("test", test)):
            ids = [u for u in sorted(wavs) if u[0] == speaker]
            (directory / f"{side}.lst").write_text("".join(f"{u}\n" for u in ids))
    (root / "train_ser.yaml").write_text(yaml.safe_dump(CONFIG))
    _stats(root, root / "stats")
    return root


def _stats(root, output_dir, config=None):
    options = ["--config", config or root / "train_ser.yaml", "--scp", root / "wav.scp"]
    options += ["--splits", root / "splits", "--output_dir", output_dir]
    ser_stats.main([str(o) for o in options])


def _options(root, output_dir, *further, stats="stats/fold1/feats_stats.npz", config=None):
    options = ["--config", config or root / "train_ser.yaml", "--scp", root / "wav.scp"]
    options += ["--data_dir", root, "--split", root / "splits" / "fold1", "--seed", 3]
    options += ["--output_dir", output_dir, *further]
    if stats is not None:
        options += ["--stats", root / stats]
    return [str(o) for o in options]


def _train(*args, **keywords):
    torch.set_num_threads(1)
    ser_train.main(_options(*args, **keywords))


@pytest.mark.parametrize("workers", [0, 2])
def test_no_file_is_decoded_twice(data, tmp_path, workers):
    """Whatever the epochs, and the processes that prepare batches."""
    opened = tmp_path / "opened"
    (tmp_path / "sitecustomize.py").write_text(  # each process runs it when it starts
        "import soundfile\n"
        "class SoundFile(soundfile.SoundFile):\n"
        "    def __init__(self, path, *args, **keywords):\n"
        f"        open({str(opened)!r}, 'a').write(f'{{path}}\\n')\n"
        "        super().__init__(path, *args, **keywords)\n"
        "soundfile.SoundFile = SoundFile\n"
    )
    command = [sys.executable, "-m", "espnet_tse_ser.bin.ser_train"]
    command += _options(data, tmp_path / "exp", "--num_workers", workers)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    paths = opened.read_text().splitlines()
    assert len(paths) == 24 and len(set(paths)) == 24  # of the speakers b and a


def test_statistics_are_those_of_the_training_speakers(data):
    from espnet_tse_ser.recognise.frontend import LogMelFrontend

    frontend = LogMelFrontend(n_mels=16)
    for fold, speaker in (("1", "b"), ("2", "c")):
        frames = []
        for path in sorted(data.glob(f"{speaker}-*.wav")):
            speech = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
            frames.append(frontend(speech, torch.tensor([speech.shape[1]]))[0][0].numpy())
        frames = np.concatenate(frames).astype(np.float64)
        with np.load(data / "stats" / f"fold{fold}" / "feats_stats.npz") as stats:
            assert stats["count"] == len(frames)
            np.testing.assert_allclose(stats["sum"], frames.sum(0), rtol=1e-6)
            np.testing.assert_allclose(stats["sum_square"], (frames**2).sum(0), rtol=1e-6)


def test_no_statistics_without_normalisation(data, tmp_path, caplog):
    config = tmp_path / "train_ser.yaml"
    config.write_text("normalize: null\n")
    with caplog.at_level("INFO"):
        _stats(data, tmp_path / "stats", config)
    assert "no statistics are needed" in caplog.text and not (tmp_path / "stats").exists()


def test_training_learns_resumes_and_repeats(data, tmp_path):
    _train(data, tmp_path / "whole", "--condition", "noisy")
    epochs = read_tsv(tmp_path / "whole" / "epochs.tsv", ["epoch", "valid_ua", "valid_wa"])
    assert [row["epoch"] for row in epochs] == ["1", "2", "3", "4"]
    assert max(float(row["valid_ua"]) for row in epochs) > 0.5  # chance is 0.25
    dev = (tmp_path / "whole" / "data" / "dev" / "speech.scp").read_text().splitlines()
    assert len(dev) == 8 and all(line.startswith("a-") for line in dev)

    assert_measures(SERTask, tmp_path / "whole")
    config = read_config(tmp_path / "whole")
    assert config["labels"] == LABELS and config["stats_file"] is None
    assert config["condition"] == "noisy"
    model = build_ser_model(config)
    load_weights(model, tmp_path / "whole" / "valid.ua.best.pth")
    assert model.normalize.std.max() != 1

    # Interrupted after two epochs and begun again: the same weights, bit for bit.
    _train(data, tmp_path / "parts", "--max_epoch", 2)
    _train(data, tmp_path / "parts")
    assert _same(tmp_path / "whole", tmp_path / "parts")


def test_workers_change_nothing(data, tmp_path):
    """Neither their number nor a training that goes on: crops, order and weights are the same."""
    for name, further in {
        "none": (),
        "one": ("--num_workers", 1),
        "two": ("--num_workers", 2),
        "parts": ("--max_epoch", 1),
    }.items():
        _train(data, tmp_path / name, "--max_seconds", 0.2, "--max_epoch", 2, *further)
    _train(data, tmp_path / "parts", "--max_seconds", 0.2, "--max_epoch", 2, "--num_workers", 2)
    _train(data, tmp_path / "whole", "--max_epoch", 2)
    for name in ("one", "two", "parts"):
        assert _same(tmp_path / "none", tmp_path / name)
    assert not _same(tmp_path / "none", tmp_path / "whole")


SHIFTSER = CONFIG | {
    "specaug": "ssl_specaug",
    "specaug_conf": {"time_width": 5, "channel_width": 3},
    "encoder": "shift_lstm",
    "scheduler": "warmup_cosine",
    "scheduler_conf": {
        **{"warmup_steps": "1 epochs", "max_steps": "4 epochs"},
        **{"init_lr": 1e-4, "min_lr": 1e-5},
    },
}


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend_conf": {"n_mels": 16, "fixed_seconds": 0.3}},
        {
            "encoder": "shiftformer",
            "encoder_conf": {"shift": False, "num_heads": 4},
            "scheduler": "trapezoid_per_epoch",
            "scheduler_conf": {"warmup": 695, "hold": 695, "total": 13900},
        },
    ],
)
def test_parts_of_shiftser_go_on_to_the_bit(data, tmp_path, monkeypatch, changes):
    config = tmp_path / "train_ser.yaml"
    config.write_text(yaml.safe_dump(SHIFTSER | changes))
    _stats(data, tmp_path / "stats", config)
    further = {"config": config, "stats": tmp_path / "stats" / "fold1" / "feats_stats.npz"}
    _train(data, tmp_path / "whole", **further)
    with monkeypatch.context() as patch:
        # it was cut off
        patch.setattr("espnet_tse_ser.training.trainer.check_lengths", lambda *_: None)
        _train(data, tmp_path / "parts", "--max_epoch", 1, **further)
    first = torch.load(tmp_path / "parts" / "latest.pth", weights_only=True)["specaug.mask_vector"]
    _train(data, tmp_path / "parts", **further)
    assert _same(tmp_path / "whole", tmp_path / "parts")
    rates = [float(row["train_optim0_lr0"]) for row in read_tsv(tmp_path / "whole" / "epochs.tsv")]
    if "trapezoid" in changes.get("scheduler", ""):
        assert rates == pytest.approx([0.01 * epoch / 695 for epoch in range(4)], rel=1e-4)
    else:
        schedule = read_config(tmp_path / "whole")["scheduler_conf"]
        assert (schedule["warmup_steps"], schedule["max_steps"]) == (2, 8)  # 16 utterances by 8
        assert rates == sorted(rates, reverse=True) and rates[-1] < 3e-4  # it comes down
    last = torch.load(tmp_path / "parts" / "latest.pth", weights_only=True)["specaug.mask_vector"]
    assert (first != last).all()


def _same(*directories):
    """Whether two trainings ended with the same weights, bit for bit, after the same epochs."""
    whole, parts = (torch.load(d / "latest.pth", weights_only=True) for d in directories)
    tables = [(d / "epochs.tsv").read_text() for d in directories]
    return tables[0] == tables[1] and all(torch.equal(whole[name], parts[name]) for name in whole)


def test_processes_that_are_stopped_and_killed(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _train(data, whole, "--max_epoch", 12)
    command = [sys.executable, "-m", "espnet_tse_ser.bin.ser_train"]
    command += _options(data, parts, "--max_epoch", 12)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            if "2epoch results" in line:
                process.send_signal(signal.SIGUSR1)
            if "goes on from there" in line:
                message = line
    assert process.returncode == REQUEUE_STATUS
    assert re.search(rf"SIGUSR1: .*saved .*in {parts}/checkpoint\.(step\.)?pth; the same", message)
    for seconds in (0.1, 0.3):
        process = children.start(_train, data, parts, "--max_epoch", 12)
        time.sleep(seconds)
        process.kill()
        process.join()
    _train(data, parts, "--max_epoch", 12)
    assert _same(whole, parts)


def test_errors_name_what_is_wrong(data, tmp_path):
    with pytest.raises(UserError, match="normalize needs --stats; run stage 9"):
        _train(data, tmp_path / "exp", stats=None)
    with pytest.raises(UserError, match="feats_stats.npz: no such statistics; run stage 9"):
        _train(data, tmp_path / "exp", stats="stats/fold9/feats_stats.npz")
    with pytest.raises(UserError, match="'b-08': unknown emotion 'ang'; known: hap neu"):
        _train(data, tmp_path / "exp", "--labels", "hap", "neu")
    with pytest.raises(UserError, match="unrecognized arguments: --max_epochs 3"):
        _train(data, tmp_path / "exp", "--max_epochs", 3)
    with pytest.raises(UserError, match="none.yaml: no such configuration"):
        _train(data, tmp_path / "exp", config=tmp_path / "none.yaml")
    with pytest.raises(UserError, match="accum_grad: 9 batches make one update, but an epoch has"):
        _train(data, tmp_path / "exp", "--accum_grad", 9)
    with pytest.raises(UserError, match=r"^--freeze_param: expected \[\], .*give a plan"):
        _train(data, tmp_path / "exp", "--freeze_param", "encoder")
    (tmp_path / "splits").mkdir()
    with pytest.raises(UserError, match=r"has no fold\*/train.lst; run stage 2"):
        ser_stats.main(
            ["--config", str(data / "train_ser.yaml"), "--scp", str(data / "wav.scp")]
            + ["--splits", str(tmp_path / "splits"), "--output_dir", str(tmp_path)]
        )


def test_an_id_without_audio(data, tmp_path):
    split = tmp_path / "fold1"
    split.mkdir()
    (split / "train.lst").write_text("b-08\nx-99\n")
    (split / "dev.lst").write_text("a-00\n")
    with pytest.raises(UserError, match=r"wav.scp: 1 of 2 id\(s\) are missing, first 'x-99'"):
        _train(data, tmp_path / "exp", "--split", split)


def _spoil(directory, kind, length):
    """A name for wav.scp, of audio that is not as it should be."""
    path, ark = directory / "b.wav", directory / "b.ark"
    samples = 0.1 * np.random.default_rng(0).standard_normal(length)
    soundfile.write(path, samples, 16000)
    if kind == "pickle":
        ark.write_bytes(b"b PKL" + pickle.dumps(Payload(directory / "ran")))
    elif kind == "stereo":
        soundfile.write(path, np.stack([samples, samples], 1), 16000)
    elif kind == "rate":
        soundfile.write(path, samples, 8000)
    elif kind == "length":
        soundfile.write(path, samples[:-1], 16000)
    elif kind == "constant":
        soundfile.write(path, 0 * samples + 0.1, 16000)
    elif kind == "huge":
        soundfile.write(path, 1e17 * samples, 16000, subtype="FLOAT")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    places = {"pipe": f"mkdir {directory}/ran; cat {path} |", "pickle": f"{ark}:2"}
    return places.get(kind, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "pipes are not supported: write a file"),
        ("pickle", "b.ark:2: holds a pickle, which can run code, not audio"),
        ("stereo", "b.wav: has 2 channels but 1 is needed"),
        ("rate", "b.wav: rate is 8000 Hz, 16000 Hz is needed"),
        ("length", r"b.wav: has \d+ samples, but utt2num_samples says \d+"),
        ("constant", "b.wav: is silent"),
        ("huge", "b.wav: sample 0 is .*, which no recording has"),
        ("cut", "b.wav: the file is cut short"),
    ],
)
def test_audio_that_is_not_as_it_should_be(data, tmp_path, kind, message):
    lengths = read_table(data / "utt2num_samples")
    wavs = read_table(data / "wav.scp")
    wavs["b-09"] = _spoil(tmp_path, kind, int(lengths["b-09"]))
    write_table(tmp_path / "wav.scp", wavs)
    more = ("--scp", tmp_path / "wav.scp", "--num_workers", int(kind in ("length", "pipe")))
    with pytest.raises(UserError, match=f"'b-09': .*{message}"):
        _train(data, tmp_path / "exp", *more)
    assert not (tmp_path / "ran").exists() and not list(tmp_path.glob("exp/*.best.pth"))


@pytest.mark.parametrize("kind", ["sound", "kaldi_ark", "npy", "hdf5", "multi_columns_sound"])
def test_readers_of_espnet_are_not_used(data, tmp_path, kind):
    more = tmp_path / "more.scp"
    write_table(more, read_table(data / "wav.scp"))
    triple = f"{more},other,{kind}"
    with pytest.raises(UserError, match=f"more.scp: data of type '{kind}' cannot be read here"):
        _train(data, tmp_path / "exp", "--train_data_path_and_name_and_type", triple)


@pytest.fixture(scope="module")
def odd(data, tmp_path_factory):
    """Options for a training without dropout; a dev list that two cannot divide."""
    directory = tmp_path_factory.mktemp("odd")
    config = CONFIG | {"specaug": None, "encoder_conf": {}, "batch_size": 6, "max_epoch": 2}
    (directory / "train_ser.yaml").write_text(yaml.safe_dump(config | {"optim_conf": {"lr": 1e-3}}))
    for part, last in (("train", 24), ("dev", 7)):
        lines = (data / "splits" / "fold1" / f"{part}.lst").read_text().splitlines(True)
        (directory / f"{part}.lst").write_text("".join(lines[:last]))
    return {"config": directory / "train_ser.yaml"}, ("--split", directory)


def test_two_processes_train_as_one(data, odd, tmp_path):
    config, split = odd
    _train(data, tmp_path / "one", *split, **config)
    command = _options(data, tmp_path / "two", *split, **config)
    statuses, logs = train_in_two(ser_train.main, command, tmp_path / "logs")
    assert statuses == [0, 0], logs
    assert_close(tmp_path / "one", tmp_path / "two")
    rows = read_tsv(tmp_path / "two" / "epochs.tsv")
    assert 0.25 < float(rows[0]["valid_wa"]) < 1  # of seven: what a part of them gives is another
    assert float(rows[0]["valid_wa"]) * 7 == pytest.approx(round(float(rows[0]["valid_wa"]) * 7))
    assert not list(tmp_path.glob("two/**/.tmp*"))


def _signal_in(chosen, rank):
    """Let the second step of this start send a signal to the process, if it is the chosen one."""
    if rank == chosen:
        forward, count = ESPnetSERModel.forward, itertools.count(1)

        def at_forward(*args, **keywords):
            if next(count) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return forward(*args, **keywords)

        ESPnetSERModel.forward = at_forward


def test_two_processes_are_interrupted_as_one(data, tmp_path):
    further = ("--max_seconds", 0.1, "--max_epoch", 3)  # random crops, masks and dropout
    whole, parts = (_options(data, tmp_path / name, *further) for name in ("whole", "parts"))
    assert train_in_two(ser_train.main, whole, tmp_path / "logs")[0] == [0, 0]

    statuses = []
    while [0, 0] not in statuses:
        signal_in = functools.partial(_signal_in, len(statuses) % 2)  # the processes in turn
        statuses.append(train_in_two(ser_train.main, parts, tmp_path / "logs", signal_in)[0])
    assert [REQUEUE_STATUS] * 2 in statuses and all(a == b for a, b in statuses), statuses
    assert _same(tmp_path / "whole", tmp_path / "parts")


def test_an_error_in_two_processes(data, tmp_path):
    command = _options(data, tmp_path / "exp", "--labels", "hap", "neu")
    statuses, logs = train_in_two(ser_train.main, command, tmp_path / "logs")
    assert statuses == [2, 2] and not (tmp_path / "exp" / "data").exists()
    assert all("'b-08': unknown emotion 'ang'; known: hap neu" in log for log in logs)
