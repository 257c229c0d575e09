"""Extraction by windows: plans, streams, seams, and equality with the whole recording."""

import numpy as np
import pytest
import torch

from espnet_tse_ser.audio.levels import Level
from espnet_tse_ser.frontends import windows
from espnet_tse_ser.metrics.signal import si_sdr
from espnet_tse_ser.models.build_tse import build_extraction_model

RATE = 16000


def _noise(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


def _model(config, **changes):
    torch.manual_seed(0)
    config = config | {"extractor_conf": config["extractor_conf"] | changes}
    return build_extraction_model(config).eval()


@pytest.fixture(params=["td_speakerbeam", "tcn"])
def config(request, tse_config, enhancer_config):
    """Of a model with and of one without an enrollment."""
    return {"td_speakerbeam": tse_config, "tcn": enhancer_config}[request.param]


@torch.no_grad()
def _extract(model, samples, embedding, whole=None):
    """The estimate of a piece of ``whole``, which is all by itself."""
    whole = samples if whole is None else whole
    level = Level(*(torch.tensor([float(f(whole))], dtype=torch.double) for f in (np.mean, np.std)))
    samples = torch.from_numpy(np.ascontiguousarray(samples))[None]
    lengths = torch.tensor([samples.shape[1]])
    return model.extract_embedded(samples, lengths, embedding, level=level)[0].numpy()


@torch.no_grad()
def _embed(model):
    if model.needs_enrollment:
        return model.embed(torch.from_numpy(_noise(4000, 7))[None], torch.tensor([4000]))
    return None


def _by_windows(model, mixture, embedding, window, shift=0):
    overlap, stride = windows.overlap(model, RATE), model.encoder.stride
    plan = windows.plan(len(mixture), window, overlap, stride)
    plan = [(max(0, start - shift), stop) for start, stop in plan]
    blocks = np.array_split(mixture, 11)
    estimates = (_extract(model, m, embedding, mixture) for m in windows.cut(blocks, plan))
    edge = windows.receptive_field(model)
    return np.concatenate(list(windows.join(plan, estimates, edge))), plan


@pytest.mark.parametrize("num_samples", [401, 1000, 5003, 100000])
@pytest.mark.parametrize("stride", [1, 16])
def test_plan(num_samples, stride):
    plan = windows.plan(num_samples, 400, 100, stride)
    assert plan[0][0] == 0 and plan[-1][1] == num_samples and len(plan) > 1
    for (start, stop), (after, _) in zip(plan, plan[1:], strict=False):
        assert stop - after == 100 and start % stride == after % stride == 0
    lengths = [stop - start for start, stop in plan]
    assert max(lengths) - min(lengths) <= 2 * stride and max(lengths) <= 400 + stride
    # As few as can be.
    assert (len(plan) - 1) * 300 + 100 < num_samples
    assert sum(stop - start for start, stop in windows.pieces(plan, 20)) == num_samples


def test_plan_of_what_is_short():
    assert windows.plan(400, 400, 100) == [(0, 400)] and windows.plan(3, 400, 100) == [(0, 3)]
    for window, overlap in ((200, 100), (100, -1)):
        with pytest.raises(ValueError, match="is too short for overlaps"):
            windows.plan(1000, window, overlap)


def test_cut():
    signal = np.arange(1000.0)
    plan = windows.plan(1000, 300, 50)
    empty = np.zeros(0)
    for blocks in (np.array_split(signal, 7), [empty, signal, empty], np.split(signal, 1000)):
        for (start, stop), window in zip(plan, windows.cut(blocks, plan), strict=True):
            np.testing.assert_array_equal(window, signal[start:stop])
    with pytest.raises(ValueError, match="ends at 999, before sample 1000"):
        list(windows.cut([signal[:999]], plan))


@pytest.mark.parametrize("edge", [0, 10, 20])
def test_joining_what_agrees_changes_no_bit(edge):
    signal = _noise(3000)
    plan = windows.plan(3000, 400, 50)
    pieces = list(windows.join(plan, [signal[a:b] for a, b in plan], edge))
    assert np.array_equal(np.concatenate(pieces), signal)
    bounds = windows.pieces(plan, edge)
    assert [stop - start for start, stop in bounds] == [len(piece) for piece in pieces]


def test_edges_are_not_heard():
    signal, plan = _noise(3000), windows.plan(3000, 400, 50)
    estimates = [signal[a:b].copy() for a, b in plan]
    for estimate in estimates[1:]:
        estimate[:20] = 9
    for estimate in estimates[:-1]:
        estimate[-20:] = 9
    assert np.array_equal(np.concatenate(list(windows.join(plan, estimates, 20))), signal)


@pytest.mark.parametrize("causal", [False, True])
def test_the_receptive_field(config, causal):
    """What is further from a change keeps every bit; it is not larger than it need be."""
    model = _model(config, norm_type="cLN", causal=causal)
    reach, embedding = windows.receptive_field(model), _embed(model)
    assert reach % model.encoder.stride == 0
    mixture = _noise(8000)
    other = np.concatenate([mixture[:4000], _noise(4000, 5)])
    first, second = (_extract(model, m, embedding, mixture) for m in (mixture, other))
    changed = np.flatnonzero(np.abs(first - second) > 1e-9)[0]
    assert 4000 - reach <= changed
    if not causal:
        assert changed < 4000 - reach + 3 * model.encoder.stride
    other = np.concatenate([_noise(4000, 5), mixture[4000:]])
    second = _extract(model, other, embedding, mixture)
    last = np.flatnonzero(np.abs(second - first) > 1e-9)[-1]
    assert 4000 + reach - 4 * model.encoder.stride < last < 4000 + reach


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_samples", [20000, 30011])
def test_channelwise_norm_is_the_whole_recording(config, causal, num_samples):
    model = _model(config, norm_type="cLN", causal=causal)
    mixture, embedding = _noise(num_samples), _embed(model)
    whole = _extract(model, mixture, embedding)
    joined, plan = _by_windows(model, mixture, embedding, 12000)
    assert len(plan) > 1 and joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-5 * np.abs(whole).max())


def test_off_the_grid_of_frames_it_is_not(tse_config):
    model = _model(tse_config, norm_type="cLN")
    mixture, embedding = _noise(20000), _embed(model)
    whole = _extract(model, mixture, embedding)
    joined, _ = _by_windows(model, mixture, embedding, 12000, shift=5)
    assert si_sdr(whole, joined[: len(whole)]) < 60


def test_global_norm(config):
    """One window is the whole to the bit; several are near it, and their seams are as smooth."""
    model = _model(config)
    mixture, embedding = _noise(40000), _embed(model)
    whole = _extract(model, mixture, embedding)
    one, plan = _by_windows(model, mixture, embedding, 40000)
    assert len(plan) == 1 and np.array_equal(one, whole)
    joined, plan = _by_windows(model, mixture, embedding, 15000)
    assert len(plan) > 2 and si_sdr(whole, joined) > 30
    difference = np.abs(np.diff(joined - whole))
    for start, _ in plan[1:]:
        fade = slice(start, start + windows.overlap(model, RATE))
        # No step at a seam: the error changes there as slowly as it does elsewhere.
        assert difference[fade].max() < 1.5 * difference.max(initial=0, where=_outside(plan, model))


def _outside(plan, model):
    outside = np.ones(plan[-1][1] - 1, bool)
    for start, _ in plan[1:]:
        outside[start : start + windows.overlap(model, RATE)] = False
    return outside
