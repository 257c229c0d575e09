"""Placement, levels and the clipping guard."""

import numpy as np
import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.mixing import (
    PEAK_CEILING,
    Levels,
    amplitude,
    decibels,
    draw_gains,
    draw_offset,
    draw_placed,
    guard_gains,
    is_pause,
    mix,
    place,
    snr,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def noise(seed, num_samples=8000, level=0.1):
    return level * rng(seed).standard_normal(num_samples).astype(np.float32)


@pytest.mark.parametrize(
    "offset, length, expected",
    [
        (0, 5, [1, 2, 3, 0, 0]),
        (1, 5, [0, 1, 2, 3, 0]),
        (2, 5, [0, 0, 1, 2, 3]),
        (3, 5, [0, 0, 0, 1, 2]),  # a mixture table of one's own may run over the end
        (0, 2, [1, 2]),
        (-1, 2, [2, 3]),
        (-2, 3, [3, 0, 0]),
    ],
)
def test_place(offset, length, expected):
    placed = place(np.array([1, 2, 3], np.float32), offset, length)
    assert placed.tolist() == expected and placed.dtype == np.float32


@pytest.mark.parametrize("interferer, target", [(3, 7), (7, 3), (5, 5)])
def test_offsets_cover_every_place(interferer, target):
    generator = rng()
    offsets = {draw_offset(generator, interferer, target) for _ in range(200)}
    low, high = min(0, target - interferer), max(0, target - interferer)
    assert offsets == set(range(low, high + 1))
    for offset in offsets:  # the shorter of both is always used whole
        placed = place(np.ones(interferer), offset, target)
        assert placed.sum() == min(interferer, target)


def test_decibels():
    assert decibels(amplitude(-7.25)) == pytest.approx(-7.25)
    assert amplitude(20) == pytest.approx(10.0)


def test_snr_of_the_sum():
    target, one = noise(0), noise(1)
    assert snr(2 * one, [one]) == pytest.approx(6.0206, abs=1e-3)
    assert snr(target, [one, -one]) > 100  # the interferers cancel
    separately = 10 * np.log10(np.sum(target.astype(float) ** 2) / np.sum((2.0 * one) ** 2))
    assert snr(target, [one, one]) == pytest.approx(separately, abs=1e-4)


def test_loudness_mode():
    generator, wanted = rng(), []
    for _ in range(300):
        gains = draw_gains(generator, Levels(), noise(0), [noise(1), noise(2)], [-20, -30, -27])
        wanted.append(np.add(gains, [-20, -30, -27]))
    wanted = np.array(wanted)
    assert wanted.min() >= -33 - 1e-4 and wanted.max() <= -25 + 1e-4
    np.testing.assert_allclose(wanted.mean(axis=0), -29, atol=0.5)
    assert wanted.min() < -32.9 and wanted.max() > -25.1
    assert abs(np.corrcoef(wanted.T) - np.eye(3)).max() < 0.2


@pytest.mark.parametrize("count", [1, 2])
def test_snr_mode(count):
    levels, generator = Levels("snr", snr=(-2.0, 6.0)), rng()
    target, placed = noise(0), [noise(i + 1, level=0.02 * (i + 1)) for i in range(count)]
    ratios = []
    for _ in range(200):
        gains = draw_gains(generator, levels, target, placed, [-20.0] * (count + 1))
        scaled = [10 ** (g / 20) * s for g, s in zip(gains, [target, *placed], strict=True)]
        total = np.sum(scaled[1:], axis=0)
        ratios.append(10 * np.log10(np.sum(scaled[0] ** 2) / np.sum(total**2)))
        assert -33 <= gains[0] - 20 <= -25
    assert min(ratios) >= -2.001 and max(ratios) <= 6.001
    assert min(ratios) < -1.5 and max(ratios) > 5.5
    fixed = draw_gains(rng(), Levels("snr", snr=(3, 3)), target, placed, [-20.0] * (count + 1))
    _, sources = mix(target, placed, fixed)
    assert snr(sources[0], sources[1:]) == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize("mode", ["loudness", "snr"])
def test_the_clipping_guard_lowers_all_together(mode):
    target, placed = noise(0), [noise(1)]
    lufs = [-20.0, -20.0]
    free = draw_gains(rng(), Levels(mode, (-40, -35)), target, placed, lufs)
    loud = draw_gains(rng(), Levels(mode, (0, 5)), target, placed, lufs)
    mixture, sources = mix(target, placed, loud)
    peak = max(np.abs(s).max() for s in (mixture, *sources))
    assert 0.99 * PEAK_CEILING < peak <= PEAK_CEILING
    assert loud[0] - loud[1] == pytest.approx(free[0] - free[1], abs=1e-3)


def test_the_guard_watches_each_source():
    target = noise(0, level=1.0)
    gains = draw_gains(rng(), Levels(loudness=(-20, -20)), target, [-target], [-20.0, -20.0])
    mixture, sources = mix(target, [-target], gains)
    assert np.abs(mixture).max() < 1e-6  # they cancel, but each would clip alone
    assert np.abs(sources[0]).max() <= PEAK_CEILING


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_gains_and_sums_are_those_of_numpy_to_the_bit(count):
    lowered = []
    for seed in range(20):
        generator = rng(seed)
        sources = list(generator.standard_normal((count, 300)).clip(-3, 3).astype(np.float32) / 3)
        gains = generator.uniform(-25, 3, count)
        scaled = np.stack([10 ** (g / 20) * s for g, s in zip(gains, sources, strict=True)])
        highest = max(np.abs(scaled.sum(axis=0)).max(), np.abs(scaled).max())
        lower = 20 * np.log10(highest / 0.9) + 1e-3 if highest > 0.9 else 0.0
        lowered.append(lower > 0)
        assert guard_gains(gains, sources) == [round(float(g - lower), 4) for g in gains]
        mixture, scaled = mix(sources[0], sources[1:], gains)
        wanted = [np.float32(10 ** (g / 20)) * s for g, s in zip(gains, sources, strict=True)]
        np.testing.assert_array_equal(scaled, wanted)
        np.testing.assert_array_equal(mixture, np.sum(wanted, axis=0, dtype=np.float32))
        assert mixture is not scaled[0]
    assert any(lowered) and (count > 3 or not all(lowered))


def test_mix_adds_its_sources():
    gains = [-3.0, 2.0, 0.0]
    mixture, sources = mix(noise(0), [noise(1), noise(2)], gains)
    assert mixture.dtype == np.float32 and all(s.dtype == np.float32 for s in sources)
    np.testing.assert_allclose(sources[1], 10 ** (2.0 / 20) * noise(1), rtol=1e-6)
    np.testing.assert_allclose(mixture, sum(sources), atol=1e-6)


def test_gains_are_what_a_table_holds():
    for gain in draw_gains(rng(), Levels(), noise(0), [noise(1)], [-20.0, -21.5]):
        assert gain == float(f"{gain:.4f}")


def test_a_pause_is_drawn_again():
    speech = noise(0, 4000)
    interferer = np.concatenate([1e-5 * noise(1, 12000), speech])
    assert is_pause(interferer[:12000], -20.0) and not is_pause(speech, -20.0)
    generator, drawn = rng(), 0
    for _ in range(100):
        offset, placed = draw_placed(generator, interferer, 4000, -20.0)
        assert not is_pause(placed, -20.0)
        np.testing.assert_array_equal(placed, interferer[-offset : 4000 - offset])
        drawn += 1
    assert draw_placed(rng(4), speech, 9000, -20.0)[0] == draw_offset(rng(4), 4000, 9000)


def test_a_silent_interferer_has_no_snr():
    with pytest.raises(UserError, match="silent over the extent of its target"):
        draw_gains(rng(), Levels("snr"), noise(0), [np.zeros(8000)], [-20.0, -20.0])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "rms"}, "levels: expected one of loudness, snr, got 'rms'"),
        ({"snr": (5, -5)}, "snr range: expected two numbers .* the lower one first"),
        ({"loudness": (-25, -33)}, "loudness range: expected two numbers .* the lower one first"),
        ({"snr": 5}, "snr range: expected two numbers .*, got 5"),
        ({"snr": [0]}, "snr range: expected two numbers"),
        ({"snr": ["a", "b"]}, "snr range: expected two numbers"),
        ({"snr": (np.nan, 1)}, "snr range: expected two numbers"),
        ({"loudness": (-np.inf, 0)}, "loudness range: expected two numbers"),
    ],
)
def test_bad_levels(options, message):
    with pytest.raises(UserError, match=message):
        Levels(**options)


def test_levels_of_a_configuration():
    assert Levels("snr", [-33, -25], [0, 5]) == Levels("snr", (-33.0, -25.0), (0.0, 5.0))
