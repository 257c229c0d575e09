"""The mask head: what it computes by the paper's description, padding, level."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.recognise.enhancement import MaskHead

LENGTHS = [4000, 3101, 1700, 401]


@pytest.fixture
def head():
    torch.manual_seed(0)
    return MaskHead(6, hidden=8).eval()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    speech, lengths = 0.1 * torch.randn(len(LENGTHS), max(LENGTHS)), torch.tensor(LENGTHS)
    num_frames = (lengths - 400) // 320 + 1
    feats = torch.randn(len(LENGTHS), int(num_frames.max()), 6)
    return speech, lengths, feats, num_frames


def _log1p(samples, rms):
    """log1p magnitudes ``(M, 201)`` in NumPy, of all frames that have a sample of the signal."""
    samples = samples.astype(np.float64) / rms
    padded = np.concatenate([np.zeros(200), samples, np.zeros(600)])
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [padded[160 * m : 160 * m + 400] for m in range((len(samples) + 199) // 160 + 1)]
    return np.log1p(np.abs(np.fft.rfft(np.array(frames) * window)) + 1e-6)


@torch.no_grad()
def test_the_loss_is_that_of_the_description(head, batch):
    speech, lengths, feats, num_frames = batch
    clean = speech + 0.05 * torch.randn_like(speech)
    errors, count = 0.0, 0
    for i, length in enumerate(LENGTHS):
        noisy = speech[i, :length].double().numpy()
        mean = noisy.mean()
        rms = np.sqrt(np.mean((noisy - mean) ** 2))
        seen = torch.from_numpy(_log1p(noisy - mean, rms)).float()
        doubled = feats[i, : num_frames[i]].repeat_interleave(2, 0)
        last = doubled[-1:].expand(len(seen) - len(doubled), -1)
        x = head.project(torch.cat([seen, torch.cat([doubled, last])], 1))
        forward, backward = torch.nn.LSTM.forward(head.blstm, x[None])[0][0].chunk(2, 1)
        estimate = torch.sigmoid(head.mask(forward + backward)) * seen
        target = _log1p(clean[i, :length].double().numpy() - mean, rms)
        errors += (estimate - torch.from_numpy(target)).abs().sum()
        count += target.size
    loss = head.loss(speech, lengths, feats, num_frames, clean)
    assert loss.item() == pytest.approx(float(errors / count), rel=1e-5)


@torch.no_grad()
def test_every_prefix_of_padding(head, batch):
    speech, lengths, feats, num_frames = (part[1:2] for part in batch)
    speech, feats = speech[:, : lengths[0]], feats[:, : num_frames[0]]
    alone = head.enhance(speech, lengths, feats, num_frames)
    clean = speech * 0.5
    loss = head.loss(speech, lengths, feats, num_frames, clean)
    for padding in (*range(1, 12), *range(12, 420, 19)):
        padded = [torch.cat([s, torch.randn(1, padding)], 1) for s in (speech, clean)]
        more = torch.cat([feats, torch.randn(1, padding // 300 + 1, 6)], 1)
        enhanced = head.enhance(padded[0], lengths, more, num_frames)
        torch.testing.assert_close(enhanced[:, : lengths[0]], alone, atol=1e-6, rtol=0)
        assert not enhanced[:, lengths[0] :].any()
        of_padded = head.loss(padded[0], lengths, more, num_frames, padded[1])
        torch.testing.assert_close(of_padded, loss)


@torch.no_grad()
def test_independent_of_the_batch(head, batch):
    together = head.enhance(*batch)
    for i, length in enumerate(LENGTHS):
        one = [part[i : i + 1] for part in batch]
        one[0], one[2] = one[0][:, :length], one[2][:, : batch[3][i]]
        torch.testing.assert_close(head.enhance(*one)[0], together[i, :length], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_mask_of_one_gives_the_speech_back(head, batch):
    speech, lengths, feats, num_frames = batch
    torch.nn.init.zeros_(head.mask.weight)
    torch.nn.init.constant_(head.mask.bias, 100.0)
    enhanced = head.enhance(speech + 0.3, lengths, feats, num_frames)
    for row, source, length in zip(enhanced, speech, LENGTHS, strict=True):
        expected = source[:length] - source[:length].mean()
        torch.testing.assert_close(row[:length], expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_level_and_offset(head, batch):
    speech, *others = batch
    enhanced, louder = (head.enhance(s, *others) for s in (speech, 30 * speech + 2))
    torch.testing.assert_close(louder, 30 * enhanced, atol=1e-4, rtol=1e-4)
