"""One encoder for two heads: the loss, what each part is trained by, padding, plans."""

import pytest
import tiny_ssl
import torch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.shared import SHARING

ARCH = tiny_ssl.ARCH | {"extractor_conv_layer_config": [[8, 40, 20], [8, 16, 16]]}
LENGTHS = [6000, 4100, 2000]
CONFIG = {
    "labels": ["ang", "hap", "neu", "sad"],
    "frontend": "ssl",
    "frontend_conf": {
        "arch": "custom",
        "arch_conf": ARCH,
        "weights": None,
        "layer": "weighted",
        "layer_norm": True,
        "finetune": True,
    },
    "encoder": "identity",
    "pooling": "attentive_stats",
    "pooling_conf": {"size": 6},
    "model": "shared",
}
SMALL = {"hidden": 5, "hidden_norm": "layer_norm", "mask_hidden": 7, "expert_hidden": 9}


def build(config=CONFIG, **model_conf):
    torch.manual_seed(0)
    return build_ser_model(config | {"model_conf": SMALL | model_conf})


@pytest.fixture
def batch():
    torch.manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    speech, clean = 0.1 * torch.randn(2, len(LENGTHS), max(LENGTHS))
    found = {"speech": speech, "speech_lengths": lengths, "clean": clean, "clean_lengths": lengths}
    return found | {"emotion": torch.tensor([[0], [2], [3]]), "utt_id": ["a", "b", "c"]}


def _speech(batch):
    return {name: batch[name] for name in ("speech", "speech_lengths")}


@pytest.mark.parametrize("sharing", SHARING)
def test_the_loss_is_the_sum_of_both(batch, sharing):
    model = build(sharing=sharing, ratio=0.3, balance_weight=0.2).eval()
    loss, stats, _ = model(**batch)
    emotion, enhancement, num_frames, balance = model.share(
        **dict(zip(("speech", "lengths"), _speech(batch).values(), strict=True))
    )
    assert torch.equal(emotion, enhancement) == (sharing != "experts")
    logits = model.logits(**_speech(batch))
    torch.testing.assert_close(model.classify(model.encode(emotion, num_frames)), logits)
    cross = torch.nn.functional.cross_entropy(logits, batch["emotion"][:, 0])
    l1 = model.enhancement.loss(*_speech(batch).values(), enhancement, num_frames, batch["clean"])
    assert (balance > 0) == (sharing == "experts")
    torch.testing.assert_close(stats["ce"].squeeze(), cross.detach())
    torch.testing.assert_close(stats["l1"].squeeze(), l1.detach())
    torch.testing.assert_close(loss.squeeze(), cross + 0.3 * l1 + 0.2 * balance)


@pytest.mark.parametrize("sharing", SHARING)
def test_everything_is_trained_but_the_convolutions(batch, sharing):
    model = build(sharing=sharing).train()
    model(**batch)[0].backward()
    left = {n for n, p in model.named_parameters() if p.grad is None}
    expected = {n for n, _ in model.named_parameters() if "feature_extractor" in n}
    assert left == expected | ({"frontend.layer_weights"} if sharing == "experts" else set())
    assert sharing != "sums" or model.enhancement_weights.grad.any()


def test_the_encoder_has_gradients_of_both_tasks(batch):
    model = build().eval()
    _, stats, _ = model(**batch)
    losses = model.losses(
        batch["emotion"][:, 0], **{k: batch[k] for k in batch if k not in ("emotion", "utt_id")}
    )
    whole = torch.autograd.grad(losses[1], model.frontend.layer_weights)[0]
    logits = model.logits(**_speech(batch))
    of_emotion = torch.autograd.grad(
        model.emotion_loss(logits, batch["emotion"][:, 0]), model.frontend.layer_weights
    )[0]
    assert of_emotion.abs().max() > 1e-5 < (whole - of_emotion).abs().max()


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["identity", "shift_cnn"])
@pytest.mark.parametrize("sharing", SHARING)
def test_independent_of_the_batch_and_of_every_prefix_of_padding(batch, sharing, encoder):
    model = build(CONFIG | {"encoder": encoder}, sharing=sharing).eval()
    logits, enhanced = model.recognize_and_enhance(**_speech(batch))
    assert not enhanced[2, LENGTHS[2] :].any()
    for i, length in enumerate(LENGTHS):
        one, lengths = batch["speech"][i : i + 1, :length], torch.tensor([length])
        alone = model.recognize_and_enhance(speech=one, speech_lengths=lengths)
        for padding in (0, 1, 159, 160, 320, *range(2, 400, 61)):
            padded = torch.cat([one, torch.randn(1, padding)], 1)
            found, speech = model.recognize_and_enhance(speech=padded, speech_lengths=lengths)
            torch.testing.assert_close(found, alone[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(speech[:, :length], alone[1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[0][0], logits[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1][0], enhanced[i, :length], atol=1e-5, rtol=0)


def test_inference_gives_posteriors_and_speech(batch):
    model = TSESER(build(), 16000)
    signals = [row[:n].numpy() for row, n in zip(batch["speech"], LENGTHS, strict=True)]
    assert model.gives_speech and not model.extracts and model.inputs == ("speech",)
    together = model.recognize(signals)
    for signal, found in zip(signals, together, strict=True):
        alone = model(signal)
        assert alone.label == found.label and found.speech.shape == signal.shape
        assert alone.probabilities == pytest.approx(found.probabilities, abs=1e-5)
        assert abs(alone.speech - found.speech).max() < 1e-5
    assert model.classify({"speech": signals[0]}) == pytest.approx(
        list(together[0].probabilities.values()), abs=1e-5
    )


def test_balanced_weights():
    model = build(class_weight="balanced")
    assert model.class_weight.tolist() == [1, 1, 1, 1] and "class_weight" in model.state_dict()
    model.balance([10, 20, 30, 20])
    assert model.class_weight.tolist() == pytest.approx([2, 1, 2 / 3, 1])
    assert "class_weight" not in build(class_weight=[1, 2, 3, 4]).state_dict()


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": "last", "layer_norm": False},
        {"fixed_seconds": 1.0},
    ],
)
def test_front_ends_that_do_not_fit(changes):
    conf = CONFIG["frontend_conf"] | changes
    with pytest.raises(UserError, match="needs frontend: ssl with layer: weighted"):
        build(CONFIG | {"frontend_conf": conf})
    with pytest.raises(UserError, match="needs frontend: ssl with layer: weighted"):
        build(CONFIG | {"frontend": "logmel", "frontend_conf": {}})
