"""The decoder against ESPnet's class of the same name."""

import pytest
import torch
from espnet2.enh.decoder.conv_decoder import ConvDecoder as ESPnetConvDecoder

from espnet_tse_ser.frontends.td_speakerbeam.conv_decoder import ConvDecoder


@pytest.mark.parametrize("kernel_size, stride", [(16, 8), (8, 8), (12, 4), (1, 1), (16, 6)])
@pytest.mark.parametrize("rest", [0, 3])
def test_equals_espnet(kernel_size, stride, rest):
    torch.manual_seed(0)
    theirs = ESPnetConvDecoder(6, kernel_size, stride).double()
    ours = ConvDecoder(6, kernel_size, stride).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    num_samples = 9 * stride + kernel_size + min(rest, stride - 1)
    lengths = torch.tensor([num_samples - 2, num_samples])
    results = []
    for decoder in (ours, theirs):
        feature = torch.linspace(-1, 1, 2 * 10 * 6).double().sin().view(2, 10, 6).requires_grad_()
        wav, ilens = decoder(feature, lengths)
        assert torch.equal(ilens, lengths) and wav.shape == (2, num_samples)
        (wav * torch.arange(num_samples)).sum().backward()
        results.append([wav, feature.grad, decoder.convtrans1d.weight.grad])
    for mine, espnets in zip(*results, strict=True):
        torch.testing.assert_close(mine, espnets)
