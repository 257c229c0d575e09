"""The extractor against ESPnet's class of the same name, its gradients, its padding."""

import pytest
import torch
from espnet2.enh.extractor.td_speakerbeam_extractor import (
    TDSpeakerBeamExtractor as ESPnetTDSpeakerBeamExtractor,
)

from espnet_tse_ser.frontends.td_speakerbeam import tcn as td_speakerbeam
from espnet_tse_ser.frontends.td_speakerbeam.extractor import TDSpeakerBeamExtractor
from espnet_tse_ser.frontends.td_speakerbeam.tcn import frame_mask

SMALL = {
    "input_dim": 12,
    "layer": 3,
    "stack": 2,
    "bottleneck_dim": 8,
    "hidden_dim": 10,
    "skip_dim": 8,
    "i_adapt_layer": 2,
    "adapt_enroll_dim": 8,
}
SETTINGS = {
    "default": {},
    "causal": {"causal": True},
    "cln": {"norm_type": "cLN"},
    "causal-cln": {"causal": True, "norm_type": "cLN"},
    "no-skip": {"skip_dim": None},
    "no-skip-causal": {"skip_dim": None, "causal": True, "adapt_layer_type": "concat"},
    "linear": {"pre_nonlinear": "linear"},
    "tanh": {"pre_nonlinear": "tanh", "nonlinear": "sigmoid"},
    "linear-mask": {"pre_nonlinear": "relu", "nonlinear": "linear"},
    "concat": {"adapt_layer_type": "concat"},
    "muladd": {"adapt_layer_type": "muladd", "adapt_enroll_dim": 16},
    "adapt-last": {"i_adapt_layer": 5},
    "kernel-5": {"kernel": 5, "nonlinear": "tanh"},
    "embedding": {"use_spk_emb": True, "spk_emb_dim": 7},
    "embedding-no-skip": {"use_spk_emb": True, "spk_emb_dim": 7, "skip_dim": None},
}


@pytest.fixture(params=["packed", "batch"], autouse=True)
def path(request, monkeypatch):
    """As on a CPU, one utterance behind the other, and as elsewhere, in padded batches."""
    if request.param == "batch":
        monkeypatch.setattr(td_speakerbeam, "_is_for_cpu_block", lambda tcn, x: False)


def _pair(**changes):
    """Ours and ESPnet's, with the same weights, norms included, none of them trivial."""
    torch.manual_seed(0)
    theirs = ESPnetTDSpeakerBeamExtractor(**SMALL | changes)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = TDSpeakerBeamExtractor(**SMALL | changes)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float, torch.double], ids=["single", "double"])
def test_equals_espnet(dtype, changes):
    """Outputs in single and in double precision, gradients in double.

    In single precision a value close to the kink of a PReLU may be on its other side.
    """
    ours, theirs = (model.to(dtype) for model in _pair(**changes))
    feature = torch.rand(3, 37, 12, dtype=dtype)
    shape = (3, 7) if "use_spk_emb" in changes else (3, 29, 12)
    enrollment = torch.rand(*shape, dtype=dtype)
    lengths, enroll_lengths = torch.tensor([37] * 3), torch.tensor([29] * 3)
    weight = torch.randn(3, 37, 12, dtype=dtype)
    outputs, gradients = [], []
    for model in (ours, theirs):
        inputs = [feature.clone().requires_grad_(), enrollment.clone().requires_grad_()]
        masked, num_frames, others = model(
            inputs[0], lengths, inputs[1], enroll_lengths, suffix_tag="_spk1"
        )
        assert torch.equal(num_frames, lengths)
        (masked * weight).sum().backward()
        outputs.append([masked, others["enroll_emb_spk1"]])
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        gradients[-1] |= {index: tensor.grad for index, tensor in enumerate(inputs)}
    tolerance = 1e-5 if dtype == torch.float else 1e-9
    for mine, espnets in zip(*outputs, strict=True):
        torch.testing.assert_close(mine, espnets, atol=tolerance, rtol=tolerance)
    assert outputs[0][0].abs().max() > 0.01
    assert gradients[0].keys() == gradients[1].keys()
    for name, espnets in gradients[1].items() if dtype == torch.double else ():
        mine = gradients[0][name]
        if espnets is None:  # e.g. the unused residual projection of the last block
            assert mine is None or mine.abs().max() == 0, name
            continue
        scale = max(1.0, float(espnets.abs().max()))
        torch.testing.assert_close(mine / scale, espnets / scale, atol=1e-9, rtol=0, msg=str(name))


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_weights_are_exchangeable_both_ways(changes):
    ours = TDSpeakerBeamExtractor(**SMALL | changes)
    theirs = ESPnetTDSpeakerBeamExtractor(**SMALL | changes)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_independent_of_padding_and_of_the_batch(changes):
    ours, theirs = _pair(**changes)
    lengths, enroll_lengths = [31, 17, 5], [4, 21, 30]
    feature = torch.rand(3, 40, 12)  # nine frames more than the longest
    use_embedding = "use_spk_emb" in changes
    enrollment = torch.rand(3, 7) if use_embedding else torch.rand(3, 33, 12)
    masked, _, others = ours(
        feature, torch.tensor(lengths), enrollment, torch.tensor(enroll_lengths)
    )
    for i, (n, m) in enumerate(zip(lengths, enroll_lengths, strict=True)):
        own = enrollment[i : i + 1] if use_embedding else enrollment[i : i + 1, :m]
        arguments = feature[i : i + 1, :n], torch.tensor([n]), own, torch.tensor([m])
        # Alone there is no padding, and ESPnet's class is right.
        alone, _, others_alone = theirs(*arguments)
        torch.testing.assert_close(masked[i, :n], alone[0], atol=1e-5, rtol=1e-5)
        assert (masked[i, n:] == 0).all()
        torch.testing.assert_close(
            others["enroll_emb"][i], others_alone["enroll_emb"][0], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_gradient_of_a_padded_batch_is_the_sum_of_its_items(changes):
    ours, theirs = (model.double() for model in _pair(**changes))
    lengths, enroll_lengths = [23, 17, 5], [4, 21, 12]
    use_embedding = "use_spk_emb" in changes
    feature = torch.rand(3, 25, 12, dtype=torch.double, requires_grad=True)
    shape = (3, 7) if use_embedding else (3, 22, 12)
    enrollment = torch.rand(*shape, dtype=torch.double, requires_grad=True)
    masked, _, _ = ours(feature, torch.tensor(lengths), enrollment, torch.tensor(enroll_lengths))
    masked.square().sum().backward()
    mine = [feature.grad, enrollment.grad]
    feature.grad = enrollment.grad = None
    for i, (n, m) in enumerate(zip(lengths, enroll_lengths, strict=True)):
        own = enrollment[i : i + 1] if use_embedding else enrollment[i : i + 1, :m]
        alone, _, _ = theirs(feature[i : i + 1, :n], torch.tensor([n]), own, torch.tensor([m]))
        alone.square().sum().backward()
    for gradient, tensor in zip(mine, (feature, enrollment), strict=True):
        torch.testing.assert_close(gradient, tensor.grad, atol=1e-6, rtol=1e-6)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        expected = torch.zeros_like(p) if q.grad is None else q.grad
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(gradient / scale, expected / scale, atol=1e-6, rtol=0, msg=name)


def test_padding_gets_no_gradient():
    ours, _ = _pair()
    feature = torch.rand(2, 20, 12, requires_grad=True)
    enrollment = torch.rand(2, 20, 12, requires_grad=True)
    masked, _, _ = ours(feature, torch.tensor([20, 8]), enrollment, torch.tensor([9, 20]))
    masked.square().sum().backward()
    assert feature.grad[1, :8].abs().sum() > 0 and (feature.grad[1, 8:] == 0).all()
    assert enrollment.grad[0, :9].abs().sum() > 0 and (enrollment.grad[0, 9:] == 0).all()


def test_embedding_keeps_its_gradient():
    ours, _ = _pair()
    lengths = torch.tensor([15])
    _, _, others = ours(torch.rand(1, 15, 12), lengths, torch.rand(1, 15, 12), lengths)
    others["enroll_emb"].sum().backward()
    assert all(p.grad is not None for p in ours.auxiliary_net.network[-1].parameters())


@torch.no_grad()
def test_causal_means_causal():
    # The channel-wise norm: the global one sees the future by its definition.
    ours, _ = _pair(causal=True, norm_type="cLN")
    feature, enrollment, lengths = torch.rand(1, 30, 12), torch.rand(1, 9, 12), torch.tensor([30])
    before, _, _ = ours(feature, lengths, enrollment, torch.tensor([9]))
    feature[:, 20:] = torch.rand(1, 10, 12)
    after, _, _ = ours(feature, lengths, enrollment, torch.tensor([9]))
    torch.testing.assert_close(before[:, :20], after[:, :20], atol=1e-6, rtol=0)
    assert (before[:, 20:] - after[:, 20:]).abs().max() > 1e-3


def test_frame_mask():
    assert frame_mask(torch.tensor([3, 3]), 3) is None
    assert frame_mask(torch.tensor([3, 0]), 3).tolist() == [[[1, 1, 1]], [[0, 0, 0]]]


@pytest.mark.parametrize("norm_type", ["BN", "GN"])
def test_norms_that_see_the_padding_are_refused(norm_type):
    with pytest.raises(ValueError, match="norm_type must be gLN or cLN"):
        TDSpeakerBeamExtractor(**SMALL | {"norm_type": norm_type})


def test_complex_features_are_refused():
    from torch_complex.tensor import ComplexTensor

    ours, _ = _pair()
    lengths = torch.tensor([5])
    real = torch.rand(1, 5, 12)
    for feature in (torch.complex(real, real), ComplexTensor(real, real)):
        with pytest.raises(ValueError, match="complex features are not supported"):
            ours(feature, lengths, real, lengths)


def test_autocast_multiplies_in_bfloat16_and_adds_up_in_float32():
    ours, _ = _pair(bottleneck_dim=32, skip_dim=32, hidden_dim=64, adapt_enroll_dim=32)
    feature, enrollment = torch.rand(2, 200, 12), torch.rand(2, 150, 12)
    lengths, enroll_lengths = torch.tensor([200, 170]), torch.tensor([90, 150])
    results = []
    for enabled in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            masked, _, _ = ours(feature, lengths, enrollment, enroll_lengths)
        assert masked.dtype == torch.float32
        masked.square().mean().backward()
        gradients = [p.grad.flatten() for p in ours.parameters() if p.grad is not None]
        results.append([masked.detach(), torch.cat(gradients)])
    for single, half in zip(*results, strict=True):
        assert 1e-4 < (half - single).norm() / single.norm() < 0.1


@torch.no_grad()
def test_a_model_in_half_precision_runs():
    ours, _ = _pair()
    feature, lengths = torch.rand(2, 30, 12), torch.tensor([30, 21])
    exact, _, _ = ours(feature, lengths, feature, lengths)
    half, _, _ = ours.bfloat16()(feature.bfloat16(), lengths, feature.bfloat16(), lengths)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() < 0.1 * exact.norm()
