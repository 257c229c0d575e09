"""TRNet: its losses and what they reach, padding, ablations."""

import pytest
import torch

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_ser import build_ser_model

LENGTHS = [6000, 4100, 2000]
CONFIG = {
    "labels": ["ang", "hap", "neu", "sad"],
    "frontend": "logmel",
    "frontend_conf": {"n_mels": 32},
    "normalize": "global_mvn",
    "preencoder": "deltas",
    "encoder": "cnn6",
    "encoder_conf": {"planes": 3, "channels": [4, 6, 8]},
    "pooling": "attention",
    "pooling_conf": {"size": 10},
    "model": "trnet",
}


def build(**model_conf):
    torch.manual_seed(0)
    model = build_ser_model(CONFIG | {"model_conf": model_conf})
    torch.nn.init.uniform_(model.normalize.mean, -1, 1)
    torch.nn.init.uniform_(model.normalize.std, 0.5, 2)
    return model


@pytest.fixture
def batch():
    torch.manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    signals = 0.1 * torch.randn(3, len(LENGTHS), max(LENGTHS))
    found = dict(zip(("speech", "mixture", "clean"), signals, strict=True))
    found |= {f"{name}_lengths": lengths for name in found}
    found |= {"embedding": torch.randn(3, 10), "embedding_lengths": torch.full((3,), 10)}
    return found | {"emotion": torch.tensor([[0], [2], [3]]), "utt_id": ["a", "b", "c"]}


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_the_loss_is_that_of_the_paper(batch, normalized, relative):
    conf = {"low_normalized": normalized, "low_relative": relative}
    model = build(low_weight=0.3, high_weight=0.7, **conf).eval()
    loss, stats, _ = model(**batch)
    error, count, ratios, embedded, logits = 0.0, 0, [], [], []
    for i, length in enumerate(LENGTHS):  # one by one
        one = [batch[name][i : i + 1, :length] for name in ("speech", "mixture", "clean")]
        level = standardize(one[0], torch.tensor([length]))[1]
        how = {"lengths": torch.tensor([length]), "level": level}
        denoised, noisy, clean = (model.frontend(s, **how)[0] for s in one)
        frames = torch.tensor([denoised.shape[1]])
        feats, score = model.compensation(noisy, denoised, frames)
        scale = model.normalize.std if normalized else 1.0
        error += ((feats - clean) / scale).square().sum()
        count += feats.numel()
        norms = [((x - clean) / scale).norm() for x in (feats, denoised)]
        ratios.append((norms[0] / norms[1]) ** 2)
        embedded.append(model.bridge(model.encode(feats, frames), score)[0])
        logits.append(model.classifier(embedded[-1]))
    low = sum(ratios) / 3 if relative else error / count
    high = (torch.stack(embedded) - batch["embedding"]).square().mean()
    cross = torch.nn.functional.cross_entropy(torch.stack(logits), batch["emotion"][:, 0])
    torch.testing.assert_close(stats["low"].squeeze(), low.detach())
    torch.testing.assert_close(stats["ce"].squeeze(), cross)
    torch.testing.assert_close(stats["high"].squeeze(), high.detach())
    torch.testing.assert_close(loss.squeeze(), cross + 0.3 * low + 0.7 * high)


def test_one_gain_for_what_is_blended_and_compared(batch):
    """Mixture and clean speech of the denoised speech's own waveform: nothing to be lost."""
    model = build().eval()
    batch["mixture"] = batch["clean"] = batch["speech"]
    _, stats, _ = model(**batch)
    assert stats["low"].item() == pytest.approx(0, abs=1e-9)
    batch["clean"] = 0.5 * batch["speech"]
    _, stats, _ = model(**batch)
    assert stats["low"].item() > 1  # (2 ln 2)^2, but near the offset of the logarithm


def test_a_relative_error_ends_where_the_denoised_speech_is_as_good_as_clean(batch):
    model = build(low_relative=True).eval()
    batch["clean"] = batch["speech"] * (1 + 1e-6)
    _, stats, _ = model(**batch)  # the mixture is another signal; half of it is blended in
    squares = [model.frontend(batch[n], batch["speech_lengths"])[0] for n in ("speech", "mixture")]
    assert 0 < stats["low"].item() < (squares[0] - squares[1]).square().mean() / 4 / 0.01 * 2


def test_everything_is_trained_from_the_start(batch):
    model = build(high_weight=0.0).train()
    model(**batch)[0].backward()
    assert {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()} == set()


@torch.no_grad()
def test_independent_of_padding(batch):
    model = build().eval()
    torch.nn.init.uniform_(model.compensation.weight, -0.05, 0.05)
    names = ("speech", "mixture")
    together = model.logits(**{k: batch[k] for n in names for k in (n, f"{n}_lengths")})
    for i, length in enumerate(LENGTHS):
        one = {n: batch[n][i : i + 1, :length] for n in names}
        one |= {f"{n}_lengths": torch.tensor([length]) for n in names}
        torch.testing.assert_close(model.logits(**one)[0], together[i], atol=1e-5, rtol=0)


def test_what_is_left_out(batch):
    whole = build().eval()
    without = build(bridge=False, high_weight=0.0).eval()
    plain = build(bridge=False, compensation=False, low_weight=0.0).eval()
    assert without.bridge is None and plain.compensation is None
    streams = {k: v for k, v in batch.items() if k.startswith(("speech", "mixture"))}
    embedding = plain.embed(batch["speech"], batch["speech_lengths"])
    torch.testing.assert_close(plain.refine(**streams).after, embedding)
    assert plain.refine(**streams).score.tolist() == [1, 1, 1]
    loss, stats, _ = without(**batch)
    expected = without.emotion_loss(without.logits(**streams), batch["emotion"][:, 0])
    torch.testing.assert_close(loss.squeeze(), expected + 0.5 * stats["low"].squeeze())
    assert not torch.equal(whole.logits(**streams), without.logits(**streams))


def test_a_teacher_of_another_size(batch):
    with pytest.raises(UserError, match="teacher's embeddings have 9 values, this model's have 10"):
        build()(**batch | {"embedding": torch.zeros(3, 9)})


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"compensation": False}, "without compensation there is no bridge, and low_weight is 0"),
        ({"per": "second"}, "per: expected one of utterance, frame, band, got 'second'"),
        ({"window": 4}, "window: expected an odd number"),
    ],
)
def test_options_that_do_not_fit(conf, message):
    with pytest.raises(UserError, match=message):
        build(**conf)


def test_nothing_to_normalize_by():
    with pytest.raises(UserError, match="low_normalized needs normalize"):
        build_ser_model(CONFIG | {"normalize": None, "model_conf": {"low_normalized": True}})
