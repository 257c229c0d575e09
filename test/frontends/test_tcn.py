"""The extractor without an enrollment, and its model, against ESPnet's enhancement."""

import argparse

import pytest
import tiny_espnet
import torch
from espnet2.enh.layers.tcn import TemporalConvNet
from espnet2.enh.separator.tcn_separator import TCNSeparator

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.td_speakerbeam import tcn
from espnet_tse_ser.frontends.td_speakerbeam.extractor import TCNExtractor
from espnet_tse_ser.models.build_tse import build_extraction_model

SMALL = {"layer": 3, "stack": 2, "bottleneck_dim": 8, "hidden_dim": 10}
SETTINGS = {
    "default": {},
    "causal": {"causal": True},
    "cln": {"norm_type": "cLN"},
    "kernel-5": {"kernel": 5, "nonlinear": "sigmoid"},
}


@pytest.fixture(params=["packed", "batch"], autouse=True)
def path(request, monkeypatch):
    """As on a CPU, one utterance behind the other, and as elsewhere, in padded batches."""
    if request.param == "batch":
        monkeypatch.setattr(tcn, "_is_for_cpu_block", lambda tcn, x: False)


def _shaken(module):
    """Weights and norms none of which is trivial."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def _pair(**changes):
    """Ours and ESPnet's separator, with the same weights."""
    torch.manual_seed(0)
    theirs = _shaken(TCNSeparator(12, num_spk=1, **SMALL | changes))
    ours = TCNExtractor(12, skip_dim=None, **SMALL | changes)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_equals_espnets_separator_alone_and_padded(changes):
    ours, theirs = _pair(**changes)
    lengths = [31, 17, 5]
    feature = torch.rand(3, 40, 12)
    masked, num_frames, others = ours(feature, torch.tensor(lengths))
    assert num_frames.tolist() == lengths and not others
    for i, n in enumerate(lengths):
        given = feature[i : i + 1, :n], torch.tensor([n])
        (expected,), *_ = theirs(*given)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(masked[i, :n], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours(*given)[0], expected, atol=1e-5, rtol=1e-5)
        assert (masked[i, n:] == 0).all()


def test_gradients_equal_those_of_espnets_network_with_skip_connections():
    torch.manual_seed(0)
    ours = _shaken(TCNExtractor(12, skip_dim=8, **SMALL)).double()
    sizes = {"N": 12, "B": 8, "H": 10, "P": 3, "X": 3, "R": 2, "C": 1, "Sc": 8}
    theirs = TemporalConvNet(**sizes, pre_mask_nonlinear="prelu").double()
    theirs.load_state_dict(ours.tcn.state_dict())
    feature = torch.rand(2, 23, 12, dtype=torch.double)
    masked, *_ = ours(feature, torch.tensor([23, 23]))
    expected = feature * theirs(feature.transpose(1, 2))[:, 0].transpose(1, 2)
    torch.testing.assert_close(masked, expected, atol=1e-9, rtol=1e-9)
    for one in (masked, expected):
        one.square().sum().backward()
    for mine, espnets in zip(ours.tcn.parameters(), theirs.parameters(), strict=True):
        wanted = torch.zeros_like(espnets) if espnets.grad is None else espnets.grad
        found = torch.zeros_like(mine) if mine.grad is None else mine.grad
        torch.testing.assert_close(found, wanted, atol=1e-8, rtol=1e-8)


@torch.no_grad()
def test_the_model_is_espnets_enhancement(enhancer_config):
    """With the weights of ESPnet's, alone and padded; it leaves offset and level out, and in."""
    from espnet2.tasks.enh import EnhancementTask

    conf = {k: v for k, v in enhancer_config["extractor_conf"].items() if k != "skip_dim"}
    config = tiny_espnet.enh("tcn", conf, parts=("conv", enhancer_config["encoder_conf"]))
    torch.manual_seed(1)
    theirs = EnhancementTask.build_model(argparse.Namespace(**config)).eval()
    own = enhancer_config | {"extractor_conf": conf | {"skip_dim": None}}
    ours = build_extraction_model(own).eval()
    ours.load_state_dict(
        {k.replace("separator.", "extractor."): v for k, v in theirs.state_dict().items()}
    )
    lengths = torch.tensor([3200, 2511])
    speech = torch.randn(2, 3200)
    estimate, embedding = ours.extract(speech, lengths)
    assert embedding is None and not ours.needs_enrollment
    for i, n in enumerate(lengths.tolist()):
        whole = speech[i : i + 1, :n]
        mean, rms = whole.mean(), whole.std(correction=0)
        (expected,), *_ = theirs.forward_enhance((whole - mean) / rms * 0.05, lengths[i : i + 1])
        expected = expected * rms / 0.05
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(estimate[i : i + 1, :n], expected, atol=1e-5, rtol=1e-5)
    assert (estimate[1, 2511:] == 0).all()


def test_identifying_speakers_needs_enrollments(enhancer_config):
    conf = {"speaker_loss_weight": 0.5, "num_speakers": 9}
    with pytest.raises(UserError, match="^x: model_conf.* speaker_loss_weight > 0 needs an extr"):
        build_extraction_model(enhancer_config | {"model_conf": conf}, "x")


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="skip_dim must be 8"):
        TCNExtractor(12, skip_dim=4, **SMALL)
    with pytest.raises(ValueError, match="norm_type must be gLN or cLN"):
        TCNExtractor(12, skip_dim=8, norm_type="BN", **SMALL)
