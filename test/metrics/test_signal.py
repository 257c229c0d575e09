"""SI-SDR, STOI, SSNR, PESQ and the wrong-speaker test."""

import sys

import numpy as np
import pystoi
import pytest
import torch
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    scale_invariant_signal_noise_ratio,
    short_time_objective_intelligibility,
)

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics.signal import (
    SI_SDR_LIMIT,
    is_wrong_speaker,
    pause_level,
    pesq,
    quality_scores,
    si_sdr,
    signal_scores,
    ssnr,
    stoi,
    tsos,
)


def noise(seed, samples=8000):
    return np.random.default_rng(seed).normal(size=samples)


@pytest.mark.parametrize("level", [0.01, 0.5, 1.0, 30.0])
def test_si_sdr_equals_torchmetrics(level):
    reference = noise(0) + 0.3
    estimate = 0.2 * reference + 0.2 * level * noise(1) - 0.1
    expected = scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimate), torch.from_numpy(reference), zero_mean=True
    )
    assert si_sdr(reference, estimate) == pytest.approx(float(expected), abs=1e-6)


def test_si_sdr_removes_the_mean_by_default():
    reference, estimate = noise(0) + 5, noise(0) + 0.1 * noise(1) - 7
    expected = scale_invariant_signal_noise_ratio(
        torch.from_numpy(estimate), torch.from_numpy(reference)
    )
    assert si_sdr(reference, estimate) == pytest.approx(float(expected), abs=1e-6)


def test_si_sdr_of_orthogonal_noise_is_the_snr():
    reference = np.tile([1.0, -1.0], 100)
    distortion = np.tile([1.0, 1.0, -1.0, -1.0], 50)
    assert si_sdr(reference, reference + 0.1 * distortion) == pytest.approx(20.0)
    assert si_sdr(7 * reference, -0.3 * (reference + 0.1 * distortion)) == pytest.approx(20.0)


def test_si_sdr_limits():
    reference = np.tile([1.0, -1.0], 100)
    assert si_sdr(reference, 0.5 * reference) == SI_SDR_LIMIT
    assert si_sdr(reference, np.zeros(200)) == -SI_SDR_LIMIT
    assert si_sdr(reference, np.tile([1.0, 1.0, -1.0, -1.0], 50)) == -SI_SDR_LIMIT


def test_si_sdr_accepts_float32_without_losing_precision():
    reference, estimate = noise(0).astype(np.float32), noise(1).astype(np.float32)
    assert si_sdr(reference, estimate) == si_sdr(reference.astype(float), estimate.astype(float))


@pytest.mark.parametrize("measure", [si_sdr, ssnr, stoi, tsos])
def test_signals_must_match_and_have_a_reference(measure):
    for reference, estimate in [
        (noise(0), noise(0)[1:]),
        (noise(0)[None], noise(0)[None]),
        (np.zeros(0), np.zeros(0)),
    ]:
        with pytest.raises(ValueError, match="one common shape"):
            measure(reference, estimate)
    with pytest.raises(ValueError, match="silent reference"):
        measure(np.zeros(8000), noise(0))


def test_stoi_is_one_for_a_copy_and_falls_with_noise():
    reference = noise(0, 16000)
    values = [stoi(reference, reference + level * noise(1, 16000)) for level in (0, 0.5, 2)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values[0] > values[1] > values[2] > 0


@pytest.mark.parametrize("rate", [10000, 16000])
@pytest.mark.parametrize("level", [0.1, 1.0, 5.0])
def test_stoi_equals_torchmetrics_and_pystoi(rate, level):
    # bursts, so that silent frames are dropped
    reference = noise(0, 2 * rate) * (np.sin(np.arange(2 * rate) / rate * 9) > -0.5)
    estimate = reference + level * noise(1, 2 * rate)
    value = stoi(reference, estimate, rate)
    expected = short_time_objective_intelligibility(
        torch.from_numpy(estimate), torch.from_numpy(reference), rate
    )
    assert value == pytest.approx(float(expected), abs=1e-6)
    assert value == pytest.approx(pystoi.stoi(reference, estimate, rate), abs=1e-12)
    assert 0 < value < 1


def test_signal_scores_equal_torchmetrics():
    target, interferer = noise(0, 16000), noise(1, 16000)
    mixture, estimate = target + interferer, 0.5 * target + 0.1 * interferer
    scores = signal_scores(target, estimate, mixture, [interferer], 16000)
    before, after = (
        float(scale_invariant_signal_noise_ratio(torch.from_numpy(x), torch.from_numpy(target)))
        for x in (mixture, estimate)
    )
    for name, expected in (("si_sdr_mix", before), ("si_sdr", after), ("si_sdri", after - before)):
        assert float(scores[name]) == pytest.approx(expected, abs=2e-6)
    assert scores["wrong_speaker"] == 0


def test_stoi_of_too_little_speech_is_nan():
    mostly_silent = np.zeros(16000)
    mostly_silent[:800] = noise(0, 800)
    assert np.isnan(stoi(mostly_silent, mostly_silent))
    assert np.isnan(stoi(noise(0, 100), noise(0, 100)))


def test_ssnr_equals_a_loop_over_segments():
    rate = 8000
    reference = noise(0, rate) * (np.sin(np.arange(rate) / 900) > 0)  # with silence
    estimate = reference + 10 ** np.linspace(-3, 1, rate) * noise(1, rate)
    estimate[:300] = reference[:300]
    window = [0.5 - 0.5 * np.cos(2 * np.pi * n / 241) for n in range(1, 241)]
    found = []
    for start in range(0, rate - 240 + 1, 60):
        segment = [(window[n], reference[start + n], estimate[start + n]) for n in range(240)]
        signal = sum((w * x) ** 2 for w, x, _ in segment)
        error = sum((w * (x - y)) ** 2 for w, x, y in segment)
        if signal == 0:
            found.append(-10)
        elif error == 0:
            found.append(35)
        else:
            found.append(min(35, max(-10, 10 * np.log10(signal / error))))
    assert -10 in found and 35 in found and len({*found}) > 30
    assert ssnr(reference, estimate, rate) == pytest.approx(np.mean(found), abs=1e-9)


def test_ssnr_of_less_than_a_segment_is_nan():
    assert np.isnan(ssnr(noise(0, 479), noise(1, 479), 16000))
    assert ssnr(noise(0, 480), noise(0, 480), 16000) == pytest.approx(35)


def test_over_suppression_and_what_is_left_in_pauses():
    rate = 16000
    target, other = 0.1 * noise(0, 2 * rate), 0.1 * noise(1, 2 * rate)
    target[rate : rate + 8000] = 0  # a pause of half a second
    mixture = target + other
    assert tsos(target, target, rate) == tsos(target, mixture, rate) == 0
    assert tsos(target, np.zeros(2 * rate), rate) == 1
    half = target * (np.arange(2 * rate) < 12000)  # of 1.5 s of speech 0.75 are lost
    assert tsos(target, half, rate) == pytest.approx(0.5, abs=0.02)
    # 1 - g^0.3 = sqrt(0.1) at g = 0.2815: on either side of it all frames or none
    assert (tsos(target, 0.28 * target, rate), tsos(target, 0.285 * target, rate)) == (1, 0)
    assert pause_level(target, mixture, mixture, rate) == 0
    assert pause_level(target, target + 0.1 * other, mixture, rate) == pytest.approx(-20)
    assert pause_level(target, target, mixture, rate) == -SI_SDR_LIMIT
    assert np.isnan(pause_level(target[:rate], target[:rate], mixture[:rate], rate))  # no pause
    assert np.isnan(pause_level(target, target, target, rate))  # nothing in it
    assert np.isnan(tsos(target[:399], target[:399], rate))


@pytest.mark.parametrize("rate, scale, shift", [(16000, 1.3669, 3.8224), (8000, 1.4945, 4.6607)])
def test_pesq_of_a_copy_is_what_the_recommendations_map_the_best_to(rate, scale, shift):
    pytest.importorskip("pesq", reason="pesq is not installed")
    speech = noise(0, 3 * rate) * (np.sin(np.arange(3 * rate) / rate * 9) > -0.5) * 0.1
    best = 0.999 + 4 / (1 + np.exp(-scale * 4.5 + shift))  # P.862.2 and P.862.1 of a raw 4.5
    assert pesq(speech, speech, rate) == pytest.approx(best, abs=1e-4)
    noisy = [pesq(speech, speech + level * noise(1, 3 * rate), rate) for level in (0.01, 0.1)]
    assert best > noisy[0] > noisy[1] > 1
    assert np.isnan(pesq(speech, np.zeros(3 * rate), rate))
    assert np.isnan(pesq(speech[:100], speech[:100], rate))
    with pytest.raises(UserError, match="8000 and 16000 Hz, not at 44100"):
        pesq(speech, speech, 44100)


def test_pesq_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    scores = quality_scores(noise(0), noise(1), noise(2), 16000)
    assert scores["pesq"] == scores["pesq_mix"] == "" and float(scores["ssnr"]) < 0
    with pytest.raises(UserError, match="pip install pesq"):
        quality_scores(noise(0), noise(1), noise(2), 16000, with_pesq=True)


def test_wrong_speaker():
    target, others = noise(0), [noise(1), noise(2)]
    mixture = target + others[0] + others[1]
    assert not is_wrong_speaker(mixture + 0.5 * target, target, others)
    assert is_wrong_speaker(mixture + 0.5 * others[1], target, others)
    assert not is_wrong_speaker(mixture + 0.5 * others[1], target, others[:1])
    assert not is_wrong_speaker(np.zeros(8000), target, others)
