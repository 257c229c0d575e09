"""One encoder for extraction and emotion: what the enrollment does, padding, inference."""

import pytest
import torch
from test_shared import CONFIG, LENGTHS, SMALL

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.shared import SHARING

ENROLLED = [3000, 5200, 1700]
NAMES = ("speech", "speech_lengths", "enrollment", "enrollment_lengths")


def build(**model_conf):
    torch.manual_seed(0)
    config = CONFIG | {"model": "shared_extraction", "model_conf": SMALL | model_conf}
    return build_ser_model(config)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    speech, clean, enrollment = 0.1 * torch.randn(3, 3, max(LENGTHS))
    lengths, enrolled = torch.tensor(LENGTHS), torch.tensor(ENROLLED)
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "clean": clean,
        "clean_lengths": lengths,
        "enrollment": enrollment[:, : max(ENROLLED)],
        "enrollment_lengths": enrolled,
        "emotion": torch.tensor([[0], [2], [3]]),
        "utt_id": ["a", "b", "c"],
    }


def _inputs(batch, **changes):
    return {name: batch[name] for name in NAMES} | changes


@pytest.mark.parametrize("sharing", SHARING)
def test_both_heads_are_trained_to_obey_the_enrollment(batch, sharing):
    model = build(sharing=sharing).train()
    assert model.inputs == ("speech", "enrollment") and model.targets == ("clean",)
    model(**batch)[0].backward()
    for part in (model.to_emotion.weight, model.to_mask.weight, model.voice_weights):
        assert part.grad.abs().max() > 0
    left = {n for n, p in model.named_parameters() if p.grad is None}
    expected = {n for n, _ in model.named_parameters() if "feature_extractor" in n}
    assert left == expected | ({"frontend.layer_weights"} if sharing == "experts" else set())


@torch.no_grad()
def test_the_enrollment_decides_and_its_level_does_not(batch):
    model = build().eval()
    logits, speech = model.recognize_and_enhance(**_inputs(batch))
    louder = 7 * batch["enrollment"] + 0.2
    same = model.recognize_and_enhance(**_inputs(batch, enrollment=louder))
    torch.testing.assert_close(same[0], logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(same[1], speech, atol=1e-5, rtol=1e-4)
    order = [1, 2, 0]
    changed = {k: batch[k][order] for k in ("enrollment", "enrollment_lengths")}
    others = model.recognize_and_enhance(**_inputs(batch, **changed))
    for ours, theirs in zip(others, (logits, speech), strict=True):
        assert (ours - theirs).abs().amax(1).min() > 1e-4
    # Without adaptation it is the model without enrollments.
    for layer in (model.to_emotion, model.to_mask):
        layer.weight.zero_()
    plain = build_ser_model(CONFIG | {"model_conf": SMALL}).eval()
    state = {k: v for k, v in model.state_dict().items() if k in plain.state_dict()}
    plain.load_state_dict(state)
    noisy = {name: batch[name] for name in NAMES[:2]}
    for ours, theirs in zip(
        model.recognize_and_enhance(**_inputs(batch)),
        plain.recognize_and_enhance(**noisy),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize("sharing", SHARING)
def test_independent_of_the_batch(batch, sharing):
    model = build(sharing=sharing).eval()
    logits, speech = model.recognize_and_enhance(**_inputs(batch))
    for i, (n, m) in enumerate(zip(LENGTHS, ENROLLED, strict=True)):
        for more in (0, 1, 160, 333):
            found, enhanced = model.recognize_and_enhance(
                speech=torch.cat([batch["speech"][i : i + 1, :n], torch.randn(1, more)], 1),
                speech_lengths=torch.tensor([n]),
                enrollment=torch.cat([batch["enrollment"][i : i + 1, :m], torch.randn(1, more)], 1),
                enrollment_lengths=torch.tensor([m]),
            )
            torch.testing.assert_close(found[0], logits[i], atol=1e-5, rtol=0)
            torch.testing.assert_close(enhanced[0, :n], speech[i, :n], atol=1e-5, rtol=0)


def test_inference_takes_an_enrollment_and_gives_speech(batch):
    model = TSESER(build(), 16000)
    assert model.needs_enrollment and model.gives_speech and not model.extracts
    mixture, enrollment = batch["speech"][0].numpy(), batch["enrollment"][1].numpy()
    found = model(mixture, enrollment)
    assert found.speech.shape == mixture.shape and found.label in found.probabilities
    together = model.recognize([mixture, mixture[:3000]], [enrollment, enrollment])
    assert together[0].probabilities == pytest.approx(found.probabilities, abs=1e-5)
    assert abs(together[0].speech - found.speech).max() < 1e-5
    with pytest.raises(UserError, match="give enrollment"):
        model(mixture)


def test_the_options_are_those_of_the_shared_model():
    with pytest.raises(UserError, match="model_conf.*mask_width"):
        build(mask_width=3)
    with pytest.raises(UserError, match="needs frontend: ssl with layer: weighted"):
        build_ser_model(
            CONFIG | {"model": "shared_extraction", "frontend": "logmel", "frontend_conf": {}}
        )
