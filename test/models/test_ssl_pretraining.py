"""Pretraining of an encoder: what is asked, what it is asked from, and that it can be learnt."""

import pytest
import tiny_ssl
import torch

from espnet_tse_ser.models.ssl_pretraining import SSLPretrainingModel
from espnet_tse_ser.recognise.quantizer import RandomProjectionQuantizer
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend
from espnet_tse_ser.training.checkpoints import load_state

ARCH = tiny_ssl.ARCH | {"extractor_conv_layer_config": [[8, 40, 20], [8, 16, 16]]}
LENGTHS = torch.tensor([8000, 6000])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SSLPretrainingModel(ARCH, codes=8, mask_width=4)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    clean = 0.1 * torch.randn(2, 8000)
    noisy = clean + 0.1 * torch.randn(2, 8000)
    return {"speech_mix": noisy, "speech_mix_lengths": LENGTHS, "speech_ref1": clean}


def test_units_do_not_depend_on_padding_level_or_colour():
    torch.manual_seed(0)
    quantizer = RandomProjectionQuantizer(5, codes=32)
    feats, lengths = torch.randn(3, 21, 5), torch.tensor([21, 14, 2])
    units = quantizer(feats, lengths)
    assert units.shape == (3, 10) and units.unique().numel() > 8
    for row, feat, length in zip(units, feats, lengths.tolist(), strict=True):
        changed = feat[None, :length] * torch.rand(5) + torch.randn(5)
        assert torch.equal(quantizer(changed, torch.tensor([length]))[0], row[: length // 2])


def test_alike_frames_have_one_unit():
    torch.manual_seed(0)
    one, other = torch.randn(2, 2, 5)
    feats = torch.cat([one, other, one, one, other])[None]
    a, b, *rest = RandomProjectionQuantizer(5)(feats, torch.tensor([10]))[0].tolist()
    assert a != b and rest == [a, a, b]


@torch.no_grad()
def test_the_loss_is_of_hidden_frames_and_of_clean_units(model, batch):
    model.eval()
    loss, stats, weight = model(**batch)
    frames = model.frontend(batch["speech_mix"], LENGTHS)[1]
    hidden = model._spans(frames, int(frames.max()))
    assert 0.3 < hidden.float().mean() < 0.8 and not hidden[1, frames[1] :].any()
    units = model.quantizer(*model.features(batch["speech_ref1"], LENGTHS))

    def hide(x, num_frames):
        return torch.where(hidden[..., None], model.mask_vector, x)

    logits = model.classifier(model.frontend.layers(batch["speech_mix"], LENGTHS, hide)[0][-1])
    logits, units = logits[hidden], units[:, : hidden.shape[1]][hidden]
    expected = torch.nn.functional.cross_entropy(logits, units)
    torch.testing.assert_close(loss.squeeze(), expected)
    torch.testing.assert_close(stats["acc"].squeeze(), (logits.argmax(1) == units).float().mean())
    assert int(weight) == 2 and torch.equal(model(**batch)[0], loss)  # nothing is drawn anew
    model.train()
    assert not torch.equal(model(**batch)[0], model(**batch)[0])


@torch.no_grad()
def test_features_are_those_of_clean_speech_hidden_and_seen(batch):
    torch.manual_seed(0)
    model = SSLPretrainingModel(ARCH, targets="features", mask_width=4).eval()
    loss, stats, _ = model(**batch)
    frames = model.frontend(batch["speech_mix"], LENGTHS)[1]
    hidden = model._spans(frames, int(frames.max()))
    layers, _ = model.frontend.layers(
        batch["speech_mix"],
        LENGTHS,
        lambda x, n: torch.where(hidden[..., None], model.mask_vector, x),
    )
    errors = {True: [], False: []}
    for row, clean, length, count, where in zip(
        model.classifier(layers[-1]), batch["speech_ref1"], LENGTHS, frames, hidden, strict=True
    ):
        feats = model.features(clean[None, :length], length[None])[0][0]
        feats = (feats - feats.mean(0)) / feats.std(0, unbiased=False)
        for k in range(count):
            error = (row[k] - feats[2 * k : 2 * k + 2].flatten()).abs().mean()
            errors[bool(where[k])].append(error)
    means = {name: torch.stack(errors[name]).mean() for name in errors}
    torch.testing.assert_close(stats["hidden"].squeeze(), means[True])
    torch.testing.assert_close(stats["seen"].squeeze(), means[False])
    torch.testing.assert_close(loss.squeeze(), (means[True] + means[False]) / 2)
    assert model.quantizer is None and set(stats) == set(model.measures_of(targets="features"))


def test_what_is_hidden_is_not_seen(model, batch):
    """Where a frame is hidden, what the convolutions have there changes nothing."""
    model.eval()
    frames = []

    def hide_all_but_one(x, num_frames):
        x.retain_grad()
        frames.append(x)
        hidden = torch.ones(x.shape[:2], dtype=torch.bool)
        hidden[:, 7] = False
        return torch.where(hidden[..., None], model.mask_vector, x)

    batch["speech_mix"].requires_grad_()
    layers, _ = model.frontend.layers(batch["speech_mix"], LENGTHS, hide_all_but_one)
    layers[-1].square().sum().backward()
    seen = frames[0].grad.abs().sum((0, 2)) > 0
    assert seen.nonzero().flatten().tolist() == [7]


def _learn(model, batch):
    """The losses of 60 steps."""
    optimizer = torch.optim.Adam(model.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model(**batch)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_features_can_be_learnt(batch):
    torch.manual_seed(0)
    model = SSLPretrainingModel(ARCH, targets="features", mask_width=4)
    losses = _learn(model, batch)
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])


def test_everything_is_trained_but_the_units(model, batch):
    before = {name: value.clone() for name, value in model.named_buffers()}
    losses = _learn(model, batch)
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert sum(losses[-10:]) < 0.93 * sum(losses[:10])
    assert {"quantizer.projection", "quantizer.codebook"} <= before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_the_encoder_is_taken_out_of_it_whole(model, tmp_path, caplog):
    caplog.set_level("INFO")
    torch.save(model.state_dict(), tmp_path / "valid.loss.best.pth")
    frontend = SSLFrontend("custom", ARCH, str(tmp_path / "valid.loss.best.pth"))
    state = load_state(tmp_path / "valid.loss.best.pth")
    for name, value in frontend.ssl.state_dict().items():
        assert torch.equal(value, state[f"frontend.ssl.{name}"])
    whole = len(model.frontend.ssl.state_dict())
    numbers = sum(v.numel() for v in model.frontend.ssl.state_dict().values())
    assert f"{whole} of {whole} tensors loaded, {numbers} numbers" in caplog.text


def test_frames_of_another_length():
    with pytest.raises(ValueError, match=r"strides \[5, 4\] .* one frame of 320 samples"):
        SSLPretrainingModel(tiny_ssl.ARCH)


def test_a_first_layer_that_starts_as_a_filterbank():
    layers = [[8, 160, 40], [8, 8, 8]]
    arch = tiny_ssl.ARCH | {"extractor_conv_layer_config": layers}
    found = []
    for filterbank in ("mel", "random"):
        torch.manual_seed(0)
        model = SSLPretrainingModel(arch, filterbank=filterbank)
        found.append(model.frontend.ssl.state_dict())
    changed = [name for name in found[0] if not torch.equal(found[0][name], found[1][name])]
    assert changed == ["feature_extractor.conv_layers.0.conv.weight"]
    with pytest.raises(ValueError, match="filterbank mel: the first layer of"):
        SSLPretrainingModel(ARCH, filterbank="mel")
