"""The joint model: its loss, its switches, independence of the batch."""

import pytest
import torch
from standardized import standardized_batch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.recognise import frontend
from espnet_tse_ser.training.preprocessor import UNLABELLED

LENGTHS = [3200, 2511, 1999]
ENROLL_LENGTHS = [1700, 2600, 1601]
LOSSES = {"w_tse": 0.7, "w_ser": 3.0}


def _build(config, **model_conf):
    torch.manual_seed(0)
    return build_joint_model(config | {"model_conf": model_conf})


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "speech_mix": 0.1 * torch.randn(3, max(LENGTHS)),
        "speech_mix_lengths": torch.tensor(LENGTHS),
        "speech_ref1": 0.1 * torch.randn(3, max(LENGTHS)),
        "enroll_ref1": 0.1 * torch.randn(3, max(ENROLL_LENGTHS)),
        "enroll_ref1_lengths": torch.tensor(ENROLL_LENGTHS),
        "emotion": torch.tensor([[0], [3], [2]]),
    }


def _inputs(batch):
    names = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")
    return [batch[name] for name in names]


def _gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None]


@pytest.fixture(params=["td_speakerbeam", "spectral"])
def either_config(request, joint_config, spectral_config):
    return joint_config | ({"tse": spectral_config} if request.param == "spectral" else {})


@torch.no_grad()
def test_independent_of_padding_and_of_the_batch(either_config, batch):
    model = _build(either_config).eval()
    estimates, logits = model.extract_and_classify(*_inputs(batch))
    wider = dict(batch)
    for name in ("speech_mix", "enroll_ref1"):
        wider[name] = torch.nn.functional.pad(batch[name], (0, 900), value=0.5)
    _, logits_padded = model.extract_and_classify(*_inputs(wider))
    torch.testing.assert_close(logits_padded, logits, atol=1e-5, rtol=0)
    for i, (n, m) in enumerate(zip(LENGTHS, ENROLL_LENGTHS, strict=True)):
        estimate, alone = model.extract_and_classify(
            batch["speech_mix"][i : i + 1, :n],
            torch.tensor([n]),
            batch["enroll_ref1"][i : i + 1, :m],
            torch.tensor([m]),
        )
        torch.testing.assert_close(logits[i], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(estimates[i, :n], estimate[0], atol=1e-5, rtol=0)
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_recogniser_of_one_length(joint_config, batch, monkeypatch):
    frontend_conf = joint_config["ser"]["frontend_conf"] | {"fixed_seconds": 0.15}
    ser = joint_config["ser"] | {"frontend_conf": frontend_conf}
    model = _build(joint_config | {"ser": ser}).eval()
    estimates, logits = model.extract_and_classify(*_inputs(batch))
    assert estimates.shape == batch["speech_mix"].shape  # the extraction is of all the mixture
    beginnings = standardized_batch(estimates, LENGTHS, rms=1.0)[:, :2400]
    ser = ser | {"frontend_conf": frontend_conf | {"level_norm": False}}
    other = _build(joint_config | {"ser": ser}).ser_model.eval()
    monkeypatch.setattr(frontend, "standardize", lambda speech, lengths, rms: (speech, None))
    expected = other.logits(beginnings, torch.tensor([2400] * 3))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_loss_is_the_weighted_sum(joint_config, batch):
    model = _build(joint_config, **LOSSES).eval()
    loss, stats, weight = model(**batch)
    estimate, logits = model.extract_and_classify(*_inputs(batch))
    values = []
    for i, n in enumerate(LENGTHS):  # SI-SNR written out
        ref = batch["speech_ref1"][i, :n].double()
        est = estimate[i, :n].double()
        ref, est = ref - ref.mean(), est - est.mean()
        target = (est @ ref) / (ref @ ref) * ref
        values.append(10 * torch.log10((target @ target) / (est - target).square().sum()))
    tse_loss = -torch.stack(values).mean().float()
    emotion = batch["emotion"][:, 0]
    ser_loss = -logits.log_softmax(1)[range(3), emotion].mean()
    torch.testing.assert_close(stats["si_snr_loss"].item(), tse_loss.item(), atol=1e-3, rtol=0)
    torch.testing.assert_close(stats["ser_loss"].item(), ser_loss.item())
    total = 0.7 * stats["si_snr_loss"] + 3.0 * stats["ser_loss"]
    torch.testing.assert_close(loss.detach(), total)
    torch.testing.assert_close(stats["loss"], loss.detach())
    assert stats["acc"].item() == pytest.approx((logits.argmax(1) == emotion).float().mean())
    assert int(weight) == 3


def test_predictions_are_kept_in_evaluation_only(joint_config, batch):
    model = _build(joint_config).train()
    model(**batch)
    assert model.predictions == []
    model.eval()
    model(**batch)
    _, logits = model.extract_and_classify(*_inputs(batch))
    assert model.predictions == list(zip([0, 3, 2], logits.argmax(1).tolist(), strict=True))
    model.reset_predictions()
    assert model.predictions == []
    assert model.labels == joint_config["ser"]["labels"]


def test_gradient_of_the_emotion_reaches_the_extraction(either_config, batch):
    model = _build(either_config, w_tse=0.0).train()
    model(**batch)[0].backward()
    assert sum(float(g.abs().sum()) for g in _gradients(model.tse_model)) > 0


def test_gradient_of_the_emotion_can_be_kept_out(joint_config, batch):
    model = _build(joint_config, ser_gradient_to_tse=False).train()
    _, logits = model.extract_and_classify(*_inputs(batch))
    logits.sum().backward()
    assert _gradients(model.tse_model) == []
    assert sum(float(g.abs().sum()) for g in _gradients(model.ser_model)) > 0
    # Then the extraction learns as if it were alone.
    model = _build(joint_config, ser_gradient_to_tse=False, **LOSSES).train()
    model(**batch)[0].backward()
    alone = _build(joint_config).tse_model.train()
    (0.7 * alone(**batch)[0]).backward()
    for mine, expected in zip(_gradients(model.tse_model), _gradients(alone), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("part", ["tse", "ser"])
def test_a_frozen_part_stays_as_it_is(joint_config, batch, part):
    model = _build(joint_config, **{f"freeze_{part}": True})
    frozen = getattr(model, f"{part}_model")
    other = getattr(model, "ser_model" if part == "tse" else "tse_model")
    # The parts have no statistics of their own by default, but a front-end may.
    frozen.add_module("norm", torch.nn.BatchNorm1d(1))
    method = "extract" if part == "tse" else "logits"
    setattr(frozen, method, _calling_norm(frozen, getattr(frozen, method), batch))
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    others_before = {k: v.clone() for k, v in other.state_dict().items()}
    assert not any(m.training for m in frozen.modules() if m is not frozen.norm)
    model.train()
    assert model.training and other.training
    assert not any(m.training for m in frozen.modules())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch)[0].backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())
    assert any(not torch.equal(v, others_before[k]) for k, v in other.state_dict().items())


def _calling_norm(frozen, method, batch):
    """``method`` after a forward of the batch norm, as if it were one of its layers."""

    def call(*args, **keywords):
        frozen.norm(batch["speech_mix"][:, None])
        return method(*args, **keywords)

    return call


def test_a_frozen_recogniser_still_teaches_the_extraction(joint_config, batch):
    model = _build(joint_config, freeze_ser=True, w_tse=0.0).train()
    model(**batch)[0].backward()
    assert sum(float(g.abs().sum()) for g in _gradients(model.tse_model)) > 0
    assert _gradients(model.ser_model) == []


@pytest.mark.parametrize(
    ("model_conf", "message"),
    [
        ({"freeze_tse": True, "freeze_ser": True}, "leave nothing to train"),
        ({"w_tse": 0, "ser_gradient_to_tse": False}, "nothing trains the extraction"),
        ({"w_tse": 0, "w_ser": 0}, "nothing trains the extraction"),
        ({"w_tse": 1, "w_ser": 0}, "nothing trains the recogniser"),
        ({"w_emotion": 1.0}, "the joint model: model_conf: unknown key 'w_emotion'"),
    ],
)
def test_wrong_configurations_are_user_errors(joint_config, model_conf, message):
    with pytest.raises(UserError, match=message):
        _build(joint_config, **model_conf)


def test_nothing_to_collect(joint_config, batch):
    assert _build(joint_config).collect_feats(**batch) == {}


def test_emotions_of_labelled_speech_alone_count(joint_config, batch):
    model = _build(joint_config, **LOSSES).eval()
    some = batch | {"emotion": torch.tensor([[0], [UNLABELLED], [2]])}
    loss, stats, weight = model(**some)
    estimate, logits = model.extract_and_classify(*_inputs(batch))
    _, whole, _ = model(**batch)
    expected = -logits.log_softmax(1)[[0, 2], [0, 2]].mean()
    torch.testing.assert_close(stats["ser_loss"][0], expected.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(stats["si_snr_loss"], whole["si_snr_loss"])
    torch.testing.assert_close(
        loss.detach(), 0.7 * stats["si_snr_loss"] + 3.0 * stats["ser_loss"], atol=1e-5, rtol=0
    )
    assert [r for r, _ in model.predictions] == [0, 2, 0, 3, 2] and int(weight) == 3


def test_a_batch_without_emotions_trains_the_extraction_alone(joint_config, batch):
    model = _build(joint_config, **LOSSES).train()
    _, usual, _ = model(**batch)
    loss, stats, _ = model(**batch | {"emotion": torch.full((3, 1), UNLABELLED)})
    loss.backward()
    torch.testing.assert_close(loss.detach(), 0.7 * stats["si_snr_loss"])
    assert stats["ser_loss"].isnan() and stats["acc"].isnan()
    assert list(stats) == list(usual)  # processes add theirs up one by one
    assert _gradients(model.ser_model) == [] and len(_gradients(model.tse_model)) > 5


def test_an_absent_target_has_the_loss_of_the_extraction(joint_config, batch):
    model = _build(joint_config, **LOSSES).eval()
    absent = torch.tensor([[0], [1], [0]])
    some = batch | {"absent": absent, "emotion": torch.tensor([[0], [UNLABELLED], [2]])}
    loss, stats, _ = model(**some)
    expected, alone, _ = model.tse_model(**batch, absent=absent)
    torch.testing.assert_close(stats["absent_level"], alone["absent_level"])
    torch.testing.assert_close(loss, 0.7 * expected + 3.0 * stats["ser_loss"])
