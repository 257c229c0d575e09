"""Log-mel front-end and stem: an independent computation, levels, padding, gradients."""

import numpy as np
import pytest
import torch
import torchaudio

from espnet_tse_ser.recognise.frontend import LogMelFrontend
from espnet_tse_ser.recognise.stem import ConvStem

LENGTHS = [4000, 2399, 2400, 801, 1]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    speech = torch.randn(len(LENGTHS), max(LENGTHS)) * 0.1
    return speech, torch.tensor(LENGTHS)  # what lies beyond the lengths is noise, not zero


def test_equals_a_dft_in_numpy():
    rng = np.random.default_rng(1)
    speech = rng.standard_normal(1600).astype(np.float32)
    frontend = LogMelFrontend(n_mels=20, level_norm=False, log_offset=1e-3)
    feats, num_frames = frontend(torch.from_numpy(speech)[None], torch.tensor([1600]))
    assert num_frames.tolist() == [11] and feats.shape == (1, 11, 20)
    window = np.zeros(512)  # torch centres a short window in the frame
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    padded = np.pad(speech.astype(np.float64) - speech.mean(), 256)
    frames = np.stack([padded[i * 160 : i * 160 + 512] * window for i in range(11)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    filters = torchaudio.functional.melscale_fbanks(257, 20.0, 8000.0, 20, 16000).numpy()
    np.testing.assert_allclose(feats[0], np.log(power @ filters + 1e-3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level_norm", [True, False])
def test_independent_of_padding_and_of_the_batch(batch, level_norm):
    speech, lengths = batch
    frontend = LogMelFrontend(n_mels=40, level_norm=level_norm)
    feats, num_frames = frontend(speech, lengths)
    for i, length in enumerate(LENGTHS):
        alone, count = frontend(speech[i : i + 1, :length], torch.tensor([length]))
        assert count[0] == num_frames[i] == length // 160 + 1 == alone.shape[1]
        torch.testing.assert_close(feats[i, : count[0]], alone[0], atol=1e-5, rtol=0)
        assert (feats[i, count[0] :] == 0).all()


def test_level_norm_removes_the_level(batch):
    frontend = LogMelFrontend()
    speech, lengths = batch
    torch.testing.assert_close(
        frontend(speech, lengths)[0], frontend(speech * 0.01, lengths)[0], atol=1e-4, rtol=0
    )
    louder = LogMelFrontend(level_norm=False)
    assert (louder(speech, lengths)[0] - louder(speech * 0.01, lengths)[0]).abs().max() > 1


def test_every_mel_band_sees_the_spectrum():
    assert (LogMelFrontend(n_mels=80).filters.sum(0) > 0).all()


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_gradient_reaches_the_waveform_and_is_finite_at_silence(scale):
    torch.manual_seed(0)
    speech = (torch.randn(2, 1600) * scale).requires_grad_()
    feats, _ = LogMelFrontend()(speech, torch.tensor([1600, 900]))
    feats.square().sum().backward()
    assert torch.isfinite(speech.grad).all()
    assert (speech.grad[1, 900:] == 0).all()
    assert scale == 0 or speech.grad[1, :900].abs().max() > 0


def test_checkpoint_holds_no_constants():
    assert not LogMelFrontend().state_dict()


@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_stem_is_independent_of_padding(strides):
    torch.manual_seed(0)
    stem = ConvStem(12, 16, strides=strides).eval()
    lengths = [1, 2, 7, 8, 30]
    feats = torch.randn(len(lengths), 30, 12)
    out, num_frames = stem(feats, torch.tensor(lengths))
    assert stem.output_size() == 16 and out.shape[1] == num_frames.max()
    for i, length in enumerate(lengths):
        alone, count = stem(feats[i : i + 1, :length], torch.tensor([length]))
        assert count[0] == num_frames[i] == alone.shape[1]
        torch.testing.assert_close(out[i, : count[0]], alone[0], atol=1e-5, rtol=0)
        assert (out[i, count[0] :] == 0).all()
