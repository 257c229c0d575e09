"""One length of all utterances: in both front-ends, against NumPy and torchaudio's own model."""

import numpy as np
import pytest
import tiny_ssl
import torch
import torchaudio
from standardized import standardized_batch

from espnet_tse_ser.recognise.frontend import LogMelFrontend
from espnet_tse_ser.recognise.length import fix_length, fixed_samples
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend

LENGTHS = [3000, 1600, 700]
ARCH = {k: v for k, v in tiny_ssl.ARCH.items() if k != "type"}


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 3000), torch.tensor(LENGTHS)  # noise beyond the lengths


def _by_hand(speech, num_samples):
    out = np.zeros((3, num_samples), np.float32)
    for row, samples, length in zip(out, speech.numpy(), LENGTHS, strict=True):
        samples = samples[:length][:num_samples]
        row[: len(samples)] = samples
    return torch.from_numpy(out)


@pytest.mark.parametrize("num_samples", [1600, 2000, 5000])
def test_equals_numpy(batch, num_samples):
    speech, lengths = fix_length(*batch, num_samples)
    assert torch.equal(speech, _by_hand(batch[0], num_samples))
    assert lengths.tolist() == [num_samples] * 3
    assert fix_length(*batch, None) == batch


@pytest.mark.parametrize("num_samples", [1600, 5000])
def test_repeats_equal_numpy(batch, num_samples):
    speech, lengths = fix_length(*batch, num_samples, tile=True)
    for row, samples, length in zip(speech, batch[0].numpy(), LENGTHS, strict=True):
        np.testing.assert_array_equal(row, np.resize(samples[:length], num_samples))
    assert lengths.tolist() == [num_samples] * 3
    with pytest.raises(ValueError, match="tile needs fixed_seconds"):
        LogMelFrontend(tile=True)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [0.1, 0.25])
def test_ssl_front_end_is_torchaudios_on_padded_speech(batch, seconds):
    arch = {"arch": "custom", "arch_conf": {"type": "hubert"} | ARCH, "weights": None}
    frontend = SSLFrontend(**arch, fixed_seconds=seconds).eval()
    whole = _by_hand(standardized_batch(*batch), round(seconds * 16000))
    model = torchaudio.models.wav2vec2_model(**ARCH, aux_num_out=None).eval()
    state = {k: v for k, v in frontend.ssl.state_dict().items()}
    model.load_state_dict(state)
    # All frames count, so there is no mask, and nothing of a batch to depend on.
    feats, num_frames = frontend(*batch)
    expected = model.extract_features(whole)[0][-1]
    assert num_frames.tolist() == [expected.shape[1]] * 3
    torch.testing.assert_close(feats, expected, atol=1e-5, rtol=1e-5)


def test_frames_of_the_paper():
    # 25 ms every 20 ms: 374 frames of 7.5 s.
    layers = [(1, 10, 5), *[(1, 3, 2)] * 4, *[(1, 2, 2)] * 2]
    conf = ARCH | {"type": "hubert", "extractor_conv_layer_config": layers}
    frontend = SSLFrontend("custom", conf, None, fixed_seconds=7.5).eval()
    assert frontend(torch.randn(1, 4000), torch.tensor([4000]))[1].tolist() == [374]


@torch.no_grad()
def test_log_mel_level_is_that_of_the_speech(batch):
    frontend, whole = LogMelFrontend(fixed_seconds=0.25), LogMelFrontend()
    feats, num_frames = frontend(*batch)
    assert num_frames.tolist() == [26] * 3 and feats.shape[:2] == (3, 26)
    alone, frames = whole(*batch)
    for i, n in enumerate(frames.tolist()):
        # All but the last two frames, whose windows reach beyond the end, where padding is alike.
        torch.testing.assert_close(feats[i, :n], alone[i, :n], atol=1e-5, rtol=1e-5)
        silence = torch.full((26 - n - 1, 80), np.log(1e-3))
        torch.testing.assert_close(feats[i, n + 1 :], silence)


def test_samples_of_a_length():
    assert fixed_samples(7.5, 16000) == 120000 and fixed_samples(None, 16000) is None
