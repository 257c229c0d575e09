"""The recogniser: loss and statistics, padding, predictions, gradients, errors of building."""

import pytest
import tiny_ssl
import torch
from espnet2.optimizers.optim_groups import configure_optimizer
from standardized import standardized_batch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.recognise import frontend

LABELS = ["ang", "hap", "neu", "sad"]
LENGTHS = [6000, 4100, 2000, 500]


def _config(**changes):
    return {
        "labels": LABELS,
        "frontend": "logmel",
        "frontend_conf": {"n_mels": 20},
        "normalize": "global_mvn",
        "specaug": "specaug",
        "specaug_conf": {"freq_width": 4},
        "preencoder": "conv_stem",
        "preencoder_conf": {"output_size": 16},
        "encoder": "shift_cnn",
        "encoder_conf": {"dropout": 0.1},
        "pooling": "stats",
        "pooling_conf": {"std": True},
        "model_conf": {"dropout": 0.1},
    } | changes


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "speech": torch.randn(len(LENGTHS), max(LENGTHS)) * 0.1,
        "speech_lengths": torch.tensor(LENGTHS),
        "emotion": torch.tensor([[0], [1], [2], [3]]),
        "emotion_lengths": torch.ones(4, dtype=torch.long),
        "utt_id": ["a", "b", "c", "d"],
    }


def _build(**changes):
    torch.manual_seed(0)
    return build_ser_model(_config(**changes))


@torch.no_grad()
def test_independent_of_padding_and_of_the_batch(batch):
    model = _build().eval()
    together = model.logits(batch["speech"], batch["speech_lengths"])
    for i, length in enumerate(LENGTHS):
        alone = model.logits(batch["speech"][i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)
        quieter = model.logits(batch["speech"][i : i + 1, :length] * 0.1, torch.tensor([length]))
        torch.testing.assert_close(quieter, alone, atol=1e-4, rtol=0)


def test_loss_and_statistics(batch):
    model = _build(model_conf={"label_smoothing": 0.1, "class_weight": [1.0, 2.0, 1.0, 0.5]}).eval()
    logits = model.logits(batch["speech"], batch["speech_lengths"])
    loss, stats, weight = model(**batch)
    target = torch.full((4, 4), 0.1 / 4) + torch.eye(4) * 0.9
    factor = torch.tensor([1.0, 2.0, 1.0, 0.5])
    expected = -(target * factor * logits.log_softmax(1)).sum() / factor.sum()
    torch.testing.assert_close(loss.squeeze(), expected)  # ESPnet makes it (1,)
    torch.testing.assert_close(stats["loss"], loss.detach())
    assert stats["acc"] == (logits.argmax(1) == torch.arange(4)).float().mean()
    assert int(weight) == 4


def test_predictions_are_kept_in_evaluation_only(batch):
    model = _build().train()
    model(**batch)
    assert model.predictions == []
    model.eval()
    hypotheses = model.logits(batch["speech"], batch["speech_lengths"]).argmax(1).tolist()
    model(**batch)
    model(**batch)
    assert model.predictions == list(zip(range(4), hypotheses, strict=True)) * 2
    model.reset_predictions()
    assert model.predictions == []


def test_gradients_reach_the_waveform_and_every_parameter(batch):
    model = _build().train()
    batch["speech"].requires_grad_()
    loss, _, _ = model(**batch)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    for row, length in zip(batch["speech"].grad, LENGTHS, strict=True):
        assert row[:length].abs().sum() > 0 and (row[length:] == 0).all()


@torch.no_grad()
def test_augmentation_in_training_only(batch):
    model = _build(model_conf={}, encoder_conf={})
    arguments = batch["speech"], batch["speech_lengths"]
    assert not torch.equal(model.train().logits(*arguments), model.logits(*arguments))
    assert torch.equal(model.eval().logits(*arguments), model.logits(*arguments))


BACK_ENDS = [
    {"encoder": "shift_cnn"},
    {"encoder": "shift_lstm", "encoder_conf": {"hidden_size": 6}},
    {"encoder": "shift_lstm", "encoder_conf": {"shift": False}},
    {"encoder": "shiftformer", "encoder_conf": {"dropout": 0.1}},
    {"encoder": "shiftformer", "encoder_conf": {"shift": False, "num_heads": 4}},
]


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_every_back_end_with_a_learned_mask(batch, back_end):
    conf = {"time_width": 4, "channel_width": 3}
    changes = {"encoder_conf": {}} | back_end | {"specaug": "ssl_specaug", "specaug_conf": conf}
    model = _build(**changes).eval()
    arguments = batch["speech"], batch["speech_lengths"]
    with torch.no_grad():
        together = model.logits(*arguments)
        for i, length in enumerate(LENGTHS):
            alone = model.logits(batch["speech"][i : i + 1, :length], torch.tensor([length]))
            torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)
        assert (together[0] - together[1]).abs().max() > 1e-4
        assert not torch.equal(model.train().logits(*arguments), together)
    model(**batch)[0].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.specaug.mask_vector.grad.abs().sum() > 0
    assert "specaug.mask_vector" in model.state_dict()
    optimizer = configure_optimizer(model, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.05}, {})
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        # As in ShiftSER, what has one dimension keeps its size.
        assert (id(parameter) in decayed) == (parameter.dim() > 1), name


@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.15, 0.5])
def test_one_length_for_all(batch, seconds, monkeypatch):
    """2400 and 8000 samples; the utterances have 500 to 6000."""
    conf, num_samples = {"n_mels": 20}, round(seconds * 16000)
    model = _build(frontend_conf=conf | {"fixed_seconds": seconds}).eval()
    whole = _build(frontend_conf=conf | {"level_norm": False}).eval()
    for i, length in enumerate(LENGTHS):
        speech = batch["speech"][i : i + 1, :length]
        expected = torch.zeros(1, num_samples)
        taken = standardized_batch(speech, [length], rms=1.0)[:, :num_samples]
        expected[:, : taken.shape[1]] = taken
        with monkeypatch.context() as patch:
            patch.setattr(frontend, "standardize", lambda speech, lengths, rms: (speech, None))
            expected = whole.logits(expected, torch.tensor([num_samples]))
        together = model.logits(batch["speech"], batch["speech_lengths"])[i]
        torch.testing.assert_close(together, expected[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(model.logits(speech, torch.tensor([length])), expected)


@torch.no_grad()
def test_collect_feats_is_before_normalisation(batch):
    model = _build().eval()
    model.normalize.mean += 1.0
    feats = model.collect_feats(**batch)
    expected, num_frames = model.frontend(batch["speech"], batch["speech_lengths"])
    assert torch.equal(feats["feats"], expected)
    assert torch.equal(feats["feats_lengths"], num_frames)


@torch.no_grad()
def test_ssl_front_end_without_stem(batch):
    model = _build(
        frontend="ssl",
        frontend_conf={"arch": "custom", "arch_conf": tiny_ssl.ARCH, "weights": None},
        normalize=None,
        specaug=None,
        preencoder=None,
    ).eval()
    together = model.logits(batch["speech"], batch["speech_lengths"])
    for i, length in enumerate(LENGTHS):
        alone = model.logits(batch["speech"][i : i + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[i], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["ang"]}, "labels: expected a list of 2 or more"),
        ({"labels": ["ang", "ang"]}, "labels: 'ang' is there twice"),
        ({"labels": "ang hap"}, "labels: expected a list of 2 or more"),
        ({"frontend": "mfcc"}, "frontend: 'mfcc' is not known; use logmel, ssl"),
        (
            {"specaug": ["specaug"]},
            r"specaug: \['specaug'\] is not known; use specaug, ssl_specaug",
        ),
        ({"encoder": {}}, "encoder: {} is not known; use shift_cnn"),
        ({"encoder": None}, "encoder: the model needs one; use shift_cnn"),
        ({"encoder_conf": {"shfit": True}}, "encoder_conf: unknown key 'shfit'; known: num_blocks"),
        (
            {"preencoder_conf": {"kernel_size": 4}},
            "preencoder_conf: kernel_size: expected an odd number",
        ),
        ({"model_conf": {"class_weight": [1.0, 2.0]}}, "model_conf: .*needs 4 values"),
    ],
)
def test_wrong_configurations_are_user_errors(changes, message):
    with pytest.raises(UserError, match=message):
        _build(**changes)
