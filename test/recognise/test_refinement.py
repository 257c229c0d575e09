"""TRNet's compensation and bridge, against numpy and their formulas."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.refinement import PER, Bridge, Compensation, clip

BANDS, FRAMES = 5, 12


@pytest.fixture
def spectra():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, FRAMES, BANDS, generator=generator) for _ in range(2)]


def trained(**options):
    """A compensation whose scores lie within (0, 1), different for each utterance."""
    compensation = Compensation(BANDS, **options)
    torch.manual_seed(1)
    torch.nn.init.uniform_(compensation.weight, -0.2, 0.3)
    return compensation


@pytest.mark.parametrize("centred, offset", [(False, 0.0), (False, 3.0), (True, 0.0)])
def test_one_score_an_utterance(spectra, centred, offset):
    """Equations of low-level refinement, written out."""
    compensation = trained(centred=centred, offset=offset)
    lengths = [FRAMES, 7]
    blended, score = compensation(*spectra, torch.tensor(lengths))
    w, b = compensation.weight.detach().numpy(), compensation.bias.item()
    for index, length in enumerate(lengths):
        noisy, denoised = (s[index, :length].numpy().astype(np.float64) for s in spectra)
        x, y = noisy + offset, denoised + offset
        if centred:
            x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        r = [
            x[:, f] @ y[:, f] / np.linalg.norm(x[:, f]) / np.linalg.norm(y[:, f]) for f in range(5)
        ]
        expected = np.clip(w @ r + (b - w.sum()), 0, 1)
        assert 0 < expected < 1
        assert score[index].item() == pytest.approx(expected, abs=1e-5)
        mixed = expected * noisy + (1 - expected) * denoised
        np.testing.assert_allclose(blended[index, :length].detach(), mixed, atol=1e-5)
    assert not blended[1, 7:].any()


@pytest.mark.parametrize("per", ["frame", "band"])
def test_scores_of_frames_and_bands(spectra, per):
    compensation = trained(per=per, window=5)
    length = 9
    blended, score = compensation(*spectra, torch.tensor([length, length]))
    w, b = compensation.weight.detach().numpy(), compensation.bias.detach().numpy()
    noisy, denoised = (s[0, :length].numpy().astype(np.float64) for s in spectra)
    scores = np.zeros((length, BANDS))
    for t in range(length):
        x, y = (s[max(0, t - 2) : t + 3] for s in (noisy, denoised))
        r = (x * y).sum(0) / np.linalg.norm(x, axis=0) / np.linalg.norm(y, axis=0)
        own = w * r + (b - w) if per == "band" else w @ r + (b - w.sum())
        scores[t] = np.clip(own, 0, 1)
    mixed = scores * noisy + (1 - scores) * denoised
    np.testing.assert_allclose(blended[0, :length].detach(), mixed, atol=1e-5)
    assert score[0].item() == pytest.approx(scores.mean(), abs=1e-5)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("centred", [False, True])
def test_padding_has_no_effect(spectra, per, centred):
    compensation = trained(per=per, window=5, centred=centred)
    alone = compensation(*(s[1:, :7] for s in spectra), torch.tensor([7]))
    padded = compensation(*spectra, torch.tensor([FRAMES, 7]))
    torch.testing.assert_close(padded[0][1:, :7], alone[0])
    torch.testing.assert_close(padded[1][1:], alone[1])


@pytest.mark.parametrize("per", PER)
def test_the_score_can_be_learned_from_the_start(spectra, per):
    compensation = Compensation(BANDS, per)
    blended, score = compensation(*spectra, torch.tensor([FRAMES, FRAMES]))
    assert score.tolist() == pytest.approx([0.5, 0.5])
    (blended - spectra[0]).square().mean().backward()
    assert compensation.weight.grad.abs().min() > 0 and compensation.bias.grad.abs().min() > 0


def test_a_score_at_the_end_of_its_range_can_come_back():
    values = [-2.0, -2.0, 0.25, 0.75, 3.0, 3.0]
    x = torch.tensor(values, requires_grad=True)
    weights = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    found = clip(x)
    torch.testing.assert_close(found, torch.nn.functional.hardtanh(x, 0.0, 1.0))
    (found * weights).sum().backward()
    assert x.grad.tolist() == [0, -1, 1, -1, 1, 0]


def test_what_is_clean_is_taken_as_it_is():
    speech = torch.randn(1, FRAMES, BANDS)
    compensation = Compensation(BANDS)
    torch.nn.init.constant_(compensation.bias, 1.0)
    blended, score = compensation(speech, speech, torch.tensor([FRAMES]))
    assert score.item() == pytest.approx(1)
    torch.testing.assert_close(blended, speech)


def test_the_bridge_is_an_affine_map_by_the_score():
    torch.manual_seed(0)
    bridge, embedding, score = Bridge(4), torch.randn(3, 4), torch.rand(3)
    f, h = bridge.scale, bridge.shift
    expected = [
        (f.weight[:, 0] * s + f.bias) * e + h.weight[:, 0] * s + h.bias
        for e, s in zip(embedding, score, strict=True)
    ]
    torch.testing.assert_close(bridge(embedding, score), torch.stack(expected))
    assert (bridge(embedding, score) - embedding).abs().max() < 0.2  # it begins near the identity
