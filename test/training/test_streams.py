"""Recognisers of several streams: a model and a configuration of one's own, nothing else.

The model blends mixture and speech, and is trained towards the clean target and a teacher.
"""

import json
import sys

import numpy as np
import pytest
import tiny_ssl
import torch
import yaml
from tiny_commands import make_command

from espnet_tse_ser.audio.ark import write_array
from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.audio.reading import read_mono, write_audio
from espnet_tse_ser.bin import extract, infer, recognize, ser_train, tse_ser_train
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.models.espnet_ser_model import ESPnetSERModel
from espnet_tse_ser.own_classes import VARIABLE
from espnet_tse_ser.tasks.options import parse_task_options
from espnet_tse_ser.tasks.ser import SERTask
from espnet_tse_ser.training.checkpoints import load_state

MODEL = """
import torch

from espnet_tse_ser.models.espnet_ser_model import ESPnetSERModel
from espnet_tse_ser.values.numbers import Number

SEEN = []


class Blend(ESPnetSERModel):
    inputs = ("speech", "mixture")
    targets = ("clean",)
    measures = ESPnetSERModel.measures | {"distance": "min"}

    def __init__(self, *parts, weight: Number(0) = 1.0):
        super().__init__(*parts)
        self.weight = weight
        self.blend = torch.nn.Parameter(torch.zeros(1))

    def blended(self, speech, mixture):
        share = torch.sigmoid(self.blend)
        return share * speech + (1 - share) * mixture

    def logits(self, speech, speech_lengths, mixture, mixture_lengths):
        return super().logits(self.blended(speech, mixture), speech_lengths)

    def losses(self, emotion, clean, clean_lengths, **batch):
        SEEN.append({"clean": clean, "clean_lengths": clean_lengths, **batch})
        logits, loss, stats = super().losses(emotion, **batch)
        distance = (self.blended(batch["speech"], batch["mixture"]) - clean).square().mean()
        return logits, loss + self.weight * distance, stats | {"distance": distance.detach()}


class Taught(ESPnetSERModel):
    targets = ("embedding",)

    def losses(self, emotion, embedding, embedding_lengths, **batch):
        SEEN.append({"utt_id": batch["utt_id"], "embedding": embedding})
        logits, loss, stats = super().losses(emotion, **batch)
        return logits, loss + (logits - embedding).square().mean(), stats


class Greedy(ESPnetSERModel):
    inputs = ("speech", "transcript")


class Lost(ESPnetSERModel):
    inputs = ("mixture",)
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """The directory of the model's file."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "local"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    (tmp_path / "local").mkdir()
    (tmp_path / "local/streams.py").write_text(MODEL)
    return tmp_path / "local"


@pytest.fixture(scope="module")
def denoised(tiny, tmp_path_factory):
    """The denoised set, of an untrained front-end."""
    directory = tmp_path_factory.mktemp("denoised") / "set"
    command = ["--model_dir", tiny["tse_dir"], "--data_dir", tiny["mixtures"] / "mix"]
    for combine in ([], ["--combine"]):
        extract.main([*map(str, command), "--output_dir", str(directory), *combine])
    return directory


def _seen():
    """What the losses have got, from the module as it was loaded."""
    return sys.modules["espnet_tse_ser.own_classes.streams"].SEEN


def _read(path):
    return read_mono(path, 16000)


def _first(path):
    """The first file of a table."""
    return next(iter(read_table(path).values()))


def _train(tiny, directory, scp, *further, **changes):
    command = make_command("ser", directory, tiny, max_epoch=2, **changes)
    command[command.index("--scp") + 1] = str(scp)
    ser_train.main([*command, "--output_dir", str(directory / "exp"), *further])
    return directory / "exp"


def _train_joint(tiny, directory, **changes):
    """Train together with a recogniser from scratch."""
    config = {key: value for key, value in tiny["ser_config"].items() if key != "labels"}
    (directory / "ser.yaml").write_text(yaml.safe_dump(config | changes))
    criterion = [["valid", "ua", "max"]]
    command = make_command("tse_ser", directory, tiny, max_epoch=1, best_model_criterion=criterion)
    at = command.index("--ser_dir")
    command[at : at + 2] = ["--ser_config", str(directory / "ser.yaml")]
    tse_ser_train.main([*command, "--output_dir", str(directory / "exp")])


BLEND = {
    "model": "streams:Blend",
    "model_conf": {"weight": 100.0},
    "best_model_criterion": [["valid", "ua", "max"], ["valid", "distance", "min"]],
}


def _assert_one_crop(batch, signals):
    """Each stream of a batch has the same samples of its signal; how many utterances are cropped.

    Args:
        signals: name of a stream -> id -> file.
    """
    cropped = 0
    for index, utt in enumerate(batch["utt_id"]):
        whole = {name: _read(files[utt]) for name, files in signals.items()}
        length = int(batch["clean_lengths"][index])
        found = np.lib.stride_tricks.sliding_window_view(whole["clean"], length)
        (starts,) = np.nonzero((found == batch["clean"][index, :length].numpy()).all(1))
        (start,) = starts
        for name, samples in whole.items():
            assert int(batch[f"{name}_lengths"][index]) == length
            part = batch[name][index, :length]
            np.testing.assert_array_equal(part, samples[start : start + length])
        cropped += length < len(whole["clean"])
    return cropped


def test_two_inputs_and_a_reference(code, tiny, tmp_path, denoised):
    exp = _train(tiny, tmp_path, denoised / "wav.scp", **BLEND)
    mix = tiny["mixtures"] / "mix"
    tables = {
        "speech": denoised / "wav.scp",
        "mixture": mix / "wav.scp",
        "clean": mix / "spk1.scp",
    }
    signals = {name: read_table(path) for name, path in tables.items()}
    assert sum(_assert_one_crop(batch, signals) for batch in _seen()) > 10

    # Measured, chosen by, and learned.
    first, second = (float(row["valid_distance"]) for row in read_tsv(exp / "epochs.tsv"))
    assert second < first
    assert load_state(exp / "valid.distance.best.pth")["blend"] != 0

    # The same streams afterwards.
    ids = tiny["mixtures"] / "table/splits/fold1/test.lst"
    command = ["--model_dir", exp, "--data_dir", mix, "--scp", denoised / "wav.scp", "--ids", ids]
    recognize.main([*map(str, command), "--output", str(tmp_path / "hyp.tsv")])
    hypotheses = read_tsv(tmp_path / "hyp.tsv")
    model = TSESER.from_pretrained(exp)
    share = torch.sigmoid(model.model.blend).item()
    for row in hypotheses:
        speech, mixture = (_read(signals[name][row["id"]]) for name in ("speech", "mixture"))
        blended = torch.from_numpy(share * speech + (1 - share) * mixture)[None]
        with torch.no_grad():
            logits = ESPnetSERModel.logits(model.model, blended, torch.tensor([len(speech)]))[0]
        for label, p in zip(model.labels, torch.softmax(logits, -1).tolist(), strict=True):
            assert float(row[f"p_{label}"]) == pytest.approx(p, abs=1e-5)

    # One recording.
    speech, mixture = (signals[name][hypotheses[0]["id"]] for name in ("speech", "mixture"))
    files = ["--mixture", mixture, "--model_dir", str(exp)]
    with pytest.raises(UserError, match="this model recognises from speech, mixture: give speech"):
        infer.main(files)
    infer.main([*files, "--speech", speech])
    result = model(_read(mixture), speech=_read(speech))
    assert result.label == hypotheses[0]["hypothesis"]
    with pytest.raises(UserError, match="has not as many samples as the mixture"):
        model(_read(mixture), speech=_read(speech)[:-1])
    with pytest.raises(UserError, match="is longer than --window_seconds 0.1 or"):
        infer.main([*files, "--speech", speech, "--window_seconds", "0.1"])


def test_in_a_joint_training(code, tiny, tmp_path, capsys):
    _train_joint(tiny, tmp_path, **BLEND)
    assert "valid_distance" in read_tsv(tmp_path / "exp/epochs.tsv")[0]
    assert load_state(tmp_path / "exp/1epoch.pth")["ser_model.blend"] != 0

    # Of the model's own extraction, also where a recording is cut.
    model = TSESER.from_pretrained(tmp_path / "exp")
    mix = tiny["mixtures"] / "mix"
    mixture = np.tile(_read(_first(mix / "wav.scp")), 4)
    enrollment = _first(mix / "enroll_spk1.scp")
    write_audio(tmp_path / "long.wav", mixture, 16000)
    command = ["--mixture", "long.wav", "--enrollment", enrollment, "--model_dir", "exp"]
    expected = model(mixture, _read(enrollment)).probabilities
    with pytest.raises(UserError, match="from mixture, enrollment: it gets no speech beside the"):
        model(mixture, _read(enrollment), speech=mixture)
    for seconds in (len(mixture) / 16000 + 0.01, len(mixture) / 16000 - 0.01):
        infer.main([*command, "--window_seconds", str(seconds), "--segment_seconds", "60"])
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["probabilities"] == pytest.approx(expected, abs=0.02)
    assert len(found["segments"]) == 1


def test_towards_a_teacher(code, tiny, tmp_path):
    mix, rng = tiny["mixtures"] / "mix", np.random.default_rng(0)
    ids = list(read_table(mix / "utt2emo"))
    vectors = dict(zip(ids, rng.standard_normal((len(ids), 4)).astype(np.float32), strict=True))
    with open(tmp_path / "teacher.ark", "wb") as stream:
        places = {
            utt: f"{tmp_path}/teacher.ark:{write_array(stream, utt, vector)}"
            for utt, vector in vectors.items()
        }
    write_table(tmp_path / "teacher.scp", places)
    option = ("--embeddings", str(tmp_path / "teacher.scp"))
    taught = {"model": "streams:Taught", "best_model_criterion": [["valid", "ua", "max"]]}
    exp = _train(tiny, tmp_path, mix / "wav.scp", *option, **taught)
    for batch in _seen():
        for utt, vector in zip(batch["utt_id"], batch["embedding"], strict=True):
            np.testing.assert_array_equal(vector, vectors[utt])
    TSESER.from_pretrained(exp)(rng.standard_normal(8000) * 0.1)  # without it

    message = "train_ser.yaml: model: streams:Taught: is trained towards 'embedding', .* --embed"
    with pytest.raises(UserError, match=message):
        _train(tiny, tmp_path, mix / "wav.scp", **taught)
    write_table(tmp_path / "teacher.scp", dict(list(places.items())[:-1]))
    with pytest.raises(UserError, match=r"teacher.scp: 1 of \d+ id\(s\) are missing"):
        _train(tiny, tmp_path, mix / "wav.scp", *option, **taught)
    with pytest.raises(
        UserError, match="the recogniser needs 'embedding', which a joint model has"
    ):
        _train_joint(tiny, tmp_path, model="streams:Taught")


def test_features_that_are_kept_are_of_speech_alone(code, tiny, tmp_path):
    conf = tiny_ssl.frontend_conf(tiny_ssl.write_weights(tmp_path / "weights.pt"))
    ssl = {"frontend": "ssl", "frontend_conf": conf, "preencoder": None, "preencoder_conf": {}}
    with pytest.raises(UserError, match="streams:Blend gets speech, mixture, clean, and features"):
        _train(tiny, tmp_path, "wav.scp", "--feats", "feats", **BLEND, **ssl)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Greedy", "there is no stream 'transcript'; inputs and targets: speech, mixture, clean"),
        ("Lost", "has no input 'speech', which is what its system is trained on"),
    ],
)
def test_streams_that_are_none(code, tmp_path, model, message):
    (tmp_path / "a.yaml").write_text(f"model: streams:{model}\n")
    with pytest.raises(UserError, match=f"^{tmp_path}/a.yaml: model: streams:{model}: {message}"):
        parse_task_options(SERTask, ["--config", str(tmp_path / "a.yaml")])
