"""The start of the filterbank: analysis and synthesis lose nothing."""

import pytest
import torch
from espnet2.enh.decoder.conv_decoder import ConvDecoder
from espnet2.enh.encoder.conv_encoder import ConvEncoder

from espnet_tse_ser.frontends.td_speakerbeam.filterbank import set_cosine_filterbank


def filterbank(channel, kernel_size, stride):
    parts = [part(channel, kernel_size, stride) for part in (ConvEncoder, ConvDecoder)]
    set_cosine_filterbank(*parts)
    return parts


@pytest.mark.parametrize(
    ("channel", "kernel_size", "stride"),
    [(256, 128, 64), (192, 64, 32), (512, 32, 16), (72, 32, 8)],
)
def test_nothing_is_lost(channel, kernel_size, stride):
    torch.manual_seed(0)
    encoder, decoder = filterbank(channel, kernel_size, stride)
    speech = torch.randn(2, 40 * kernel_size)
    lengths = torch.tensor([speech.shape[1]] * 2)
    feature, _ = encoder(speech, lengths)
    assert feature.min() == 0 and (feature == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    again, _ = decoder(feature, lengths)
    inner = slice(kernel_size, -kernel_size)
    torch.testing.assert_close(again[:, inner], speech[:, inner], rtol=0, atol=1e-5)


def test_bands_are_in_order_of_frequency():
    encoder, _ = filterbank(256, 128, 64)
    spectra = torch.fft.rfft(encoder.conv1d.weight[:, 0], 1024).abs()
    peaks = spectra.argmax(1)[:64] * 64 / 512
    torch.testing.assert_close(peaks, torch.arange(64) + 0.5, rtol=0, atol=0.6)


def test_encoder_and_decoder_are_of_one_size():
    encoder, decoder = filterbank(192, 64, 32)
    norms = encoder.conv1d.weight.norm(), decoder.convtrans1d.weight.norm()
    torch.testing.assert_close(*norms)


@pytest.mark.parametrize(
    ("channel", "kernel_size", "stride"),
    [(254, 64, 32), (126, 64, 32), (256, 64, 48), (256, 64, 64)],
)
def test_what_cannot_be_inverted_is_refused(channel, kernel_size, stride):
    with pytest.raises(ValueError, match=f"got channel {channel}, kernel_size {kernel_size}, str"):
        filterbank(channel, kernel_size, stride)
