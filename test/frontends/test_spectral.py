"""The spectral extractor: transform against NumPy, blocks one frame at a time, windows, padding."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.audio.levels import REFERENCE
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends import windows
from espnet_tse_ser.frontends.spectral.extractor import _Block
from espnet_tse_ser.frontends.spectral.transform import STFTDecoder, STFTEncoder
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.training.precision import mixed_training


@pytest.fixture(scope="module")
def config(spectral_config):
    return spectral_config


def _model(config):
    """One whose enrollment has an effect: what starts at 0 is drawn."""
    torch.manual_seed(0)
    model = build_extraction_model(config).eval()
    with torch.no_grad():
        for weight in model.extractor.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("size, hop", [(64, 32), (64, 16), (48, 12)])
@pytest.mark.parametrize("length", [1, 47, 64, 65, 500])
def test_transform_equals_numpy_and_is_inverted(size, hop, length):
    signal = np.random.default_rng(0).standard_normal((2, length + 9)).astype(np.float32)
    signal[0, length:] = 0
    lengths = torch.tensor([length, length + 9])
    spectra, num_frames = STFTEncoder(size, hop)(torch.from_numpy(signal), lengths)
    window = np.sin(np.pi * np.arange(size) / size)
    for row, samples, count, frames in zip(spectra, signal, lengths, num_frames, strict=True):
        padded = np.concatenate([np.zeros(size - hop), samples[:count], np.zeros(size)])
        starts = range(0, size - hop + int(count), hop)
        assert frames == len(starts)
        expected = np.stack([np.fft.rfft(window * padded[s : s + size]) for s in starts])
        ours = row[:frames].numpy()
        np.testing.assert_allclose(ours[:, : size // 2 + 1], expected.real, atol=1e-4)
        np.testing.assert_allclose(ours[:, size // 2 + 1 :], expected.imag, atol=1e-4)
    back, same = STFTDecoder(size, hop)(spectra, lengths)
    assert torch.equal(same, lengths) and back.shape == signal.shape
    np.testing.assert_allclose(back.numpy(), signal, atol=1e-5)


@pytest.mark.parametrize("size, hop", [(64, 64), (64, 24), (63, 21)])
def test_windows_that_have_no_inverse_are_refused(size, hop):
    with pytest.raises(ValueError, match=f"twice it or more; got {size} and {hop}"):
        STFTEncoder(size, hop)


def test_a_block_sees_dilated_valid_frames():
    torch.manual_seed(0)
    block, frames = _Block(4, 6, 3, 2), torch.randn(1, 9, 4)
    torch.nn.init.normal_(block.outer.weight)
    mask = (torch.arange(9) < 7)[None, :, None]
    with torch.no_grad():
        out, normed = block(frames, mask), block.norm(frames)[0]
        for t in range(7):
            seen = [normed[k] if 0 <= k < 7 else torch.zeros(4) for k in (t - 2, t, t + 2)]
            hidden = sum(w @ frame for w, frame in zip(block.inner, seen, strict=True)) + block.bias
            hidden = torch.nn.functional.gelu(hidden)
            torch.testing.assert_close(out[0, t], frames[0, t] + block.outer(hidden))


def test_a_mask_of_one_returns_the_mixture(config):
    model, mixture, lengths = _model(config), torch.randn(1, 900), torch.tensor([900])
    output, weight = model.extractor.output, 1 / 1.2
    with torch.no_grad():
        output.weight.zero_()
        output.bias[: len(output.bias) // 2] = np.log(weight / (1 - weight)) - 0.5
        output.bias[len(output.bias) // 2 :] = 0
        estimate, _ = model.extract(mixture, lengths, torch.randn(1, 700), torch.tensor([700]))
    torch.testing.assert_close(estimate, mixture - mixture.mean(), atol=1e-5, rtol=0)


def test_neither_batch_nor_padding_counts(config):
    model = _model(config)
    mixtures, enrollments = torch.randn(2, 1600), torch.randn(2, 800)
    lengths, enroll_lengths = torch.tensor([1600, 900]), torch.tensor([500, 800])
    with torch.no_grad():
        both, voices = model.extract(mixtures, lengths, enrollments, enroll_lengths)
        for k, (n, m) in enumerate(zip(lengths, enroll_lengths, strict=True)):
            alone = mixtures[k : k + 1, :n], lengths[k : k + 1]
            alone += enrollments[k : k + 1, :m], enroll_lengths[k : k + 1]
            estimate, voice = model.extract(*alone)
            torch.testing.assert_close(both[k, :n], estimate[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(voices[k], voice[0], atol=1e-5, rtol=0)
            assert not both[k, n:].any()
        other, _ = model.extract(mixtures, lengths, enrollments.flip(0), enroll_lengths.flip(0))
        embedded = model.extract_embedded(mixtures, lengths, voices)
    assert torch.equal(embedded, both) and (other - both).abs().max() > 1e-3


def test_a_recording_by_windows_is_the_whole(config):
    model = _model(config)
    reach, stride = windows.receptive_field(model), model.encoder.stride
    assert not model.extractor.has_global_norms
    torch.manual_seed(1)
    mixture, voice = REFERENCE * torch.randn(1, 6000), torch.randn(1, 12)
    other = torch.cat([mixture[:, :3000], REFERENCE * torch.randn(1, 3000)], 1)
    with torch.no_grad():
        first, second = (
            model.extract_embedded(m, torch.tensor([6000]), voice, level=_level())[0]
            for m in (mixture, other)
        )
        changed = int((first - second).abs().gt(1e-7).nonzero()[0])
        assert 3000 - reach <= changed < 3000 - reach + 3 * stride
        plan = windows.plan(6000, 2400, 2 * reach + 100, stride)
        pieces = [
            model.extract_embedded(mixture[:, a:b], torch.tensor([b - a]), voice, level=_level())[
                0
            ].numpy()
            for a, b in plan
        ]
    joined = np.concatenate(list(windows.join(plan, pieces, reach)))
    assert len(plan) > 2
    np.testing.assert_allclose(joined, first.numpy(), atol=1e-6)


def _level():
    from espnet_tse_ser.audio.levels import Level

    return Level(*torch.tensor([[0.0], [REFERENCE]], dtype=torch.double))


def test_it_trains_in_bfloat16_as_in_float32(config):
    gradients = []
    torch.manual_seed(1)
    speech = {"speech_mix": torch.randn(2, 900), "speech_ref1": torch.randn(2, 900)}
    batch = speech | {"enroll_ref1": torch.randn(2, 600)}
    batch |= {f"{k}_lengths": torch.tensor([v.shape[1]] * 2) for k, v in batch.items()}
    for autocast in ("none", "bfloat16"):
        model = _model(config).train()
        with mixed_training(model, autocast, "cpu"):
            model(**batch)[0].backward()
        assert all(p.grad is not None and p.grad.any() for p in model.extractor.parameters())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_it_takes_half_precision(config):
    """Of ``use_amp``, on GPUs."""
    model = _model(config)
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        estimate, voice = model.extract(*[torch.randn(1, 900), torch.tensor([900])] * 2)
    assert estimate.dtype == voice.dtype == torch.float32 and torch.isfinite(estimate).all()


def test_only_encoder_and_extractor_that_fit(config, tse_config):
    with pytest.raises(UserError, match="encoder: extractor spectral is for encoder stft, got con"):
        build_extraction_model(config | {k: tse_config[k] for k in ("encoder", "encoder_conf")})
    with pytest.raises(UserError, match="extractor td_speakerbeam is for encoder conv, got stft"):
        build_extraction_model(config | {k: tse_config[k] for k in ("extractor", "extractor_conf")})
    with pytest.raises(UserError, match="encoder: extractor spectral is for encoder stft, got con"):
        build_extraction_model(config | {"encoder": "conv"})  # the parser's, where none is named
    with pytest.raises(UserError, match="filterbank cosine is of encoder conv; give filterbank: r"):
        build_extraction_model(config | {"model_conf": {"filterbank": "cosine"}})
    with pytest.raises(UserError, match="i_adapt_layer 4 does not exist"):
        build_extraction_model(
            config | {"extractor_conf": config["extractor_conf"] | {"i_adapt_layer": 4}}
        )
