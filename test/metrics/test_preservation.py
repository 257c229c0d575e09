"""What is kept of a voice: synthetic vowels of known F0, and independent implementations."""

import numpy as np
import pytest
import torch
import torchaudio
from scipy import optimize, stats

from espnet_tse_ser.metrics.preservation import (
    MEASURES,
    MIN_VOICED,
    acoustic_measures,
    kl_divergence,
    mel_filters,
    track,
)

FS = 16000
TIME = np.arange(FS) / FS
F0_MEASURES = ["f0_corr", "f0_rmse", "f0_gross"]


def vowel(f0, loudness=1.0):
    """Harmonics up to 4 kHz that fall with their number, of an F0 contour ``(num_samples,)``."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, TIME.shape)) / FS
    harmonics = [np.sin(n * phase) / n for n in range(1, int(4000 / np.max(f0)))]
    return 0.1 * loudness * np.sum(harmonics, axis=0)


def noise(seed, samples=FS):
    return 0.1 * np.random.default_rng(seed).normal(size=samples)


GLIDE = 150 + 40 * np.sin(2 * np.pi * 1.5 * TIME)
SYLLABLES = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * TIME) ** 2
SPEECH = vowel(GLIDE, SYLLABLES) * (TIME > 0.25)  # a pause, then speech


def compare(target, other, fs=FS):
    return acoustic_measures(track(target, fs), track(other, fs))


def test_f0_of_a_known_glide():
    f0 = track(vowel(GLIDE)).f0
    assert len(f0) == 101
    inside = slice(5, 95)
    assert np.all(f0[inside] > 0)
    assert np.max(np.abs(f0[inside] / GLIDE[::160][inside] - 1)) < 0.01


def test_a_copy_keeps_everything():
    measures = compare(SPEECH, SPEECH)
    voiced = measures.pop("voiced")
    assert voiced > 50 and list(measures) == list(MEASURES)
    expected = dict(f0_corr=1, voicing=1, energy_corr=1, pauses=1, si_sdr=100)
    assert measures == pytest.approx({name: expected.get(name, 0) for name in MEASURES}, abs=1e-9)


@pytest.mark.parametrize("semitones, gross", [(-1, 0), (2, 0), (5, 1)])
def test_shifted_f0(semitones, gross):
    measures = compare(vowel(GLIDE), vowel(GLIDE * 2 ** (semitones / 12)))
    assert measures["f0_rmse"] == pytest.approx(abs(semitones), abs=0.05)
    assert measures["f0_gross"] == pytest.approx(gross, abs=0.05)
    assert measures["f0_corr"] > 0.98
    assert measures["voicing"] > 0.95


def test_mirrored_f0():
    """A contour that falls where the target's rises (on the log scale)."""
    assert compare(vowel(GLIDE), vowel(150**2 / GLIDE))["f0_corr"] < -0.95


def test_f0_of_a_louder_talker_is_a_gross_error():
    measures = compare(vowel(GLIDE), vowel(GLIDE) + 8 * vowel(240))
    assert measures["f0_gross"] > 0.9 and measures["f0_rmse"] > 5


def test_correlations_and_shares_equal_their_definitions():
    target, other = SPEECH, SPEECH[::-1] + 0.3 * noise(1)
    first, second = track(target), track(other)
    measures = acoustic_measures(first, second)
    levels = []
    for signal in (target, other):
        padded = np.concatenate([np.zeros(200), signal, np.zeros(400)])
        power = [np.mean(padded[160 * t : 160 * t + 400] ** 2) for t in range(101)]
        levels.append(10 * np.log10(np.maximum(power, max(power) * 1e-5)))
    assert measures["energy_corr"] == pytest.approx(stats.pearsonr(*levels)[0])
    speech = [level > level.max() - 25 for level in levels]
    assert measures["pauses"] == pytest.approx(np.mean(speech[0] == speech[1]))
    assert 0.2 < measures["pauses"] < 0.9
    both = [t for t in range(101) if first.f0[t] > 0 and second.f0[t] > 0]
    assert measures["voiced"] == len(both) >= MIN_VOICED
    logs = np.log(first.f0[both]), np.log(second.f0[both])
    assert measures["f0_corr"] == pytest.approx(stats.pearsonr(*logs)[0])
    different = sum((a > 0) != (b > 0) for a, b in zip(first.f0, second.f0, strict=True))
    assert measures["voicing"] == pytest.approx(1 - different / 101)


def test_mel_filters_equal_torchaudio():
    expected = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 40, FS, mel_scale="htk").T
    np.testing.assert_allclose(mel_filters(FS, 512), expected, atol=1e-4)


def test_log_mel_distance_equals_torchaudio_with_the_best_gain():
    target, other = SPEECH, 0.2 * SPEECH + 0.05 * noise(2)
    spectrogram = torchaudio.transforms.MelSpectrogram(
        FS, n_fft=512, win_length=400, hop_length=160, n_mels=40, pad_mode="constant"
    ).double()
    spectra = []
    for signal in (target, other):
        power = spectrogram(torch.from_numpy(signal)).T.numpy()
        spectra.append(10 * np.log10(np.maximum(power, power.max() * 1e-6)))
    difference = (spectra[1] - spectra[0])[track(target).speech]
    gain = optimize.minimize_scalar(lambda g: np.sum((difference - g) ** 2)).x
    expected = np.mean(np.sqrt(np.mean((difference - gain) ** 2, axis=1)))
    assert expected > 1
    assert compare(target, other)["log_mel"] == pytest.approx(expected, rel=1e-4)


def test_tilt_of_a_known_filter():
    spectrum = np.fft.rfft(noise(3))
    spectrum[1000:] *= 10 ** (-6 / 20)  # 1 Hz a bin
    measures = compare(noise(3), np.fft.irfft(spectrum))
    assert measures["tilt"] == pytest.approx(6, abs=0.1)


def test_gain_does_not_matter():
    other = SPEECH + noise(4) + vowel(220)
    expected = compare(SPEECH, other)
    assert compare(3 * SPEECH, 0.01 * other) == pytest.approx(expected, rel=1e-6)


def test_more_noise_keeps_less():
    measures = [compare(SPEECH, SPEECH + level * noise(5)) for level in (0.05, 0.3, 2)]
    for name in MEASURES.keys() - F0_MEASURES:  # DIO finds the right F0, or none
        values = [m[name] for m in measures]
        assert values == sorted(values, reverse=MEASURES[name].higher_is_better), name
    voiced = [m["voiced"] for m in measures]
    assert voiced == sorted(voiced, reverse=True) and voiced[0] > voiced[2]


def test_whisper_has_no_f0():
    """Noise of the syllables' loudness in place of the vowel, and a whispered target."""
    whisper = noise(6) * SYLLABLES * (TIME > 0.25)
    for target, other in ((SPEECH, whisper), (whisper, SPEECH), (whisper, whisper)):
        measures = compare(target, other)
        assert measures["voiced"] < MIN_VOICED
        assert np.isnan([measures[name] for name in F0_MEASURES]).all()
        defined = [measures[name] for name in MEASURES if name not in F0_MEASURES]
        assert np.isfinite(defined).all()
    assert compare(SPEECH, whisper)["energy_corr"] > 0.9
    assert compare(SPEECH, whisper)["voicing"] < 0.5


def test_silent_extraction():
    measures = compare(SPEECH, np.zeros(FS))
    undefined = [*F0_MEASURES, "energy_corr", "log_mel", "tilt"]
    assert np.isnan([measures[name] for name in undefined]).all()
    assert measures["voiced"] == 0 and measures["si_sdr"] == -100
    assert measures["pauses"] == pytest.approx(1 - np.mean(track(SPEECH).speech))


def test_extraction_that_stops_early():
    """Where the target goes on in silence, only levels are cut off: nothing is infinite."""
    measures = compare(SPEECH, SPEECH * (TIME < 0.6))
    assert np.isfinite(list(measures.values())).all()


def test_signals_must_match():
    with pytest.raises(ValueError, match="the target has 16000 samples at 16000 Hz, .* 15840"):
        compare(SPEECH, SPEECH[:-160])
    with pytest.raises(ValueError, match="15999 at 16000 Hz"):
        compare(SPEECH, SPEECH[:-1])  # as many frames
    with pytest.raises(ValueError, match="16000 at 8000 Hz"):
        acoustic_measures(track(SPEECH), track(SPEECH, 8000))
    with pytest.raises(ValueError, match="silent target"):
        compare(np.zeros(FS), SPEECH)


@pytest.mark.parametrize("signal", [np.zeros(399), np.zeros((2, FS)), np.full(FS, np.nan)])
def test_invalid_signals(signal):
    with pytest.raises(ValueError, match="finite signal .* at least 400 samples"):
        track(signal)


@pytest.mark.parametrize("samples", [400, 1600, 15999, 16001, 16159])
def test_any_length(samples):
    contours = track(noise(7, samples))
    assert len(contours.f0) == len(contours.level) == len(contours.power) == samples // 160 + 1


def test_kl_equals_scipy():
    clean, other = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 20))
    expected = stats.entropy(clean, other, axis=1)
    np.testing.assert_allclose(kl_divergence(clean, other), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(kl_divergence(clean, other, floor=0.0), expected)
    assert kl_divergence(clean[0], clean[0]) == pytest.approx(0, abs=1e-12)


def test_kl_of_zeros_in_a_table():
    assert kl_divergence([1.0, 0.0], [0.0, 1.0]) == pytest.approx(-np.log(1e-6), rel=1e-3)
    assert kl_divergence([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2), rel=1e-3)
