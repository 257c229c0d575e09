"""CNN6, its batch norm, attention pooling and deltas, against torch's and torchaudio's own."""

import pytest
import torch
import torchaudio

from espnet_tse_ser.recognise.cnn6 import CNN6, MaskedBatchNorm
from espnet_tse_ser.recognise.deltas import Deltas
from espnet_tse_ser.recognise.pooling import AttentionPooling


def sequential(encoder):
    """The same layers in torch's own, for what is not padded."""
    layers = []
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        own = torch.nn.BatchNorm2d(norm.num_features)
        own.load_state_dict(norm.state_dict())
        layers += [conv, own, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize("training", [False, True])
def test_equals_the_layers_it_is_made_of(training):
    torch.manual_seed(0)
    encoder = CNN6(48, planes=3, channels=(4, 6, 8, 10), dropout=0.0).train(training)
    feats = torch.randn(2, 40, 48)
    planes = feats.reshape(2, 40, 3, 16).transpose(1, 2)
    norm = torch.nn.BatchNorm2d(16).train(training)
    normal = norm(planes.transpose(1, 3)).transpose(1, 3)
    expected = sequential(encoder).train(training)(normal).mean(dim=3).transpose(1, 2)
    found, lengths, _ = encoder(feats, torch.tensor([40, 40]))
    assert lengths.tolist() == [2, 2] and found.shape == (2, 2, encoder.output_size())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.norm.running_var, norm.running_var, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 3, 17, 33, 40, 47])
def test_padding_has_no_effect(length):
    torch.manual_seed(0)
    encoder = CNN6(16, channels=(4, 6, 8, 10)).eval()
    for norm in encoder.norms:  # what is padded becomes other than zero
        torch.nn.init.normal_(norm.bias)
    pooling = AttentionPooling(encoder.output_size(), 5)
    feats = torch.randn(2, 48, 16)
    alone, frames, _ = encoder(feats[:1, :length], torch.tensor([length]))
    padded, lengths, _ = encoder(feats, torch.tensor([length, 48]))
    assert lengths[0] == frames[0]
    torch.testing.assert_close(padded[:1, : frames[0]], alone)
    torch.testing.assert_close(pooling(padded, lengths)[:1], pooling(alone, frames))


def test_batch_norm_counts_valid_frames_only():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 5)
    ours, own = MaskedBatchNorm(3), torch.nn.BatchNorm2d(3)
    mask = (torch.arange(8) < torch.tensor([[8], [3]]))[:, None, :, None].float()
    valid = torch.cat([x[0], x[1, :, :3]], dim=1)[None]
    found, expected = ours(x, mask), own(valid)
    torch.testing.assert_close(found[0], expected[0, :, :8])
    torch.testing.assert_close(found[1, :, :3], expected[0, :, 8:])
    torch.testing.assert_close(ours.state_dict(), own.state_dict())


def test_attention_is_a_weighted_mean():
    torch.manual_seed(0)
    pooling = AttentionPooling(4, 3)
    torch.nn.init.normal_(pooling.attention.weight, std=20)  # beyond the clamp
    x = torch.randn(6, 4)
    logits = torch.clamp(x @ pooling.attention.weight.T + pooling.attention.bias, -10, 10)
    weights = torch.exp(logits) / torch.exp(logits).sum(0)
    expected = (weights * (x @ pooling.values.weight.T + pooling.values.bias)).sum(0)
    torch.testing.assert_close(pooling(x[None], torch.tensor([6]))[0], expected)


def test_deltas_are_torchaudios():
    feats = torch.randn(2, 20, 4)
    found, _ = Deltas(4)(feats, torch.tensor([20, 9]))
    for index, length in enumerate((20, 9)):
        static = feats[index, :length].T
        first = torchaudio.functional.compute_deltas(static, 5, mode="replicate")
        second = torchaudio.functional.compute_deltas(first, 5, mode="replicate")
        expected = torch.cat([static, first, second]).T
        torch.testing.assert_close(found[index, :length], expected)
        assert not found[index, length:].any()


def test_features_that_cannot_be_divided():
    with pytest.raises(ValueError, match="30 features cannot be 3 plane"):
        CNN6(30, planes=3)
