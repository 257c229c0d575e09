"""Filters at mel-spaced frequencies: where they answer, and to what phase."""

import numpy as np
import pytest
import torch
import torchaudio

from espnet_tse_ser.recognise.mel_filters import set_mel_filters


def filters(shape, rate=16000):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(shape))
    norm = weight.norm().item()
    set_mel_filters(weight, rate)
    assert weight.norm().item() == pytest.approx(norm, rel=1e-5)
    return weight.detach()[:, 0]


def test_peaks_are_where_torchaudio_has_its_mel_bands():
    weight = filters((64, 1, 400)).numpy()
    spectrum = np.abs(np.fft.rfft(weight, 16000))  # 1 Hz a bin
    peaks = spectrum.argmax(1).reshape(4, 16)
    bank = torchaudio.functional.melscale_fbanks(8001, 0.0, 8000.0, 16, 16000)
    assert np.abs(peaks - bank.argmax(0).numpy()).max() <= 12  # the window's main lobe is wide


def test_a_band_answers_alike_to_every_phase():
    weight = filters((64, 1, 400))
    time = torch.arange(400) / 16000
    tones = torch.stack([torch.cos(2 * np.pi * 1000 * time + p) for p in np.linspace(0, 6, 9)])
    energy = (tones @ weight.T).relu().square().reshape(9, 4, 16).sum(1)
    band = int(energy.mean(0).argmax())
    assert energy[:, band].std() < 0.02 * energy[:, band].mean()


@pytest.mark.parametrize("shape", [(6, 1, 400), (8, 1, 159)])
def test_what_is_no_filterbank(shape):
    with pytest.raises(ValueError, match="filterbank mel: .* multiple of 4 .* 160 or more"):
        set_mel_filters(torch.zeros(shape), 16000)
