"""The SNR with a threshold, and the level where there is no target."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.models.snr_loss import ThresholdedSNRLoss, absent_loss


@pytest.fixture
def signals():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 4000, generator=rng), torch.randn(3, 4000, generator=rng)


def test_it_is_the_snr_far_from_the_threshold(signals):
    reference, noise = signals
    values = ThresholdedSNRLoss(max_db=80)(reference, reference + 0.5 * noise)
    ratio = (reference.numpy() ** 2).sum(1) / (0.25 * noise.numpy() ** 2).sum(1)
    np.testing.assert_allclose(values, -10 * np.log10(ratio), atol=1e-3)


@pytest.mark.parametrize("max_db", [10.0, 30.0])
def test_a_perfect_estimate_is_at_the_threshold(signals, max_db):
    reference, noise = signals
    loss = ThresholdedSNRLoss(max_db=max_db)
    torch.testing.assert_close(loss(reference, reference), torch.full((3,), -max_db))
    near = (reference + 1e-4 * noise).requires_grad_()
    loss(reference, near).sum().backward()
    assert near.grad.norm() < 0.1  # nor does it pull any more; without a threshold it is 1e3
    assert torch.isfinite(loss(torch.zeros_like(reference), noise)).all()


def test_the_level_of_an_output_matters(signals):
    reference, noise = signals
    estimate = reference + 0.1 * noise
    loss = ThresholdedSNRLoss()
    assert (loss(reference, 0.5 * estimate) > loss(reference, estimate) + 10).all()


def test_silence_is_best_where_there_is_no_target(signals):
    estimate, mixture = signals
    levels = [
        float(absent_loss(gain * estimate, gain_of_all * mixture).mean())
        for gain, gain_of_all in ((1.0, 1.0), (0.1, 1.0), (0.01, 0.1), (0.0, 1.0))
    ]
    assert levels[0] == pytest.approx(0.0, abs=0.3) and levels[3] == pytest.approx(-30.0)
    assert levels[1] == pytest.approx(levels[2], abs=1e-3)  # against the mixture's own level
    assert levels[3] < levels[1] < levels[0]
