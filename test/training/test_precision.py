"""Mixed precision: what is bfloat16, what is not, and trainings that are interrupted."""

import pytest
import torch
from tiny_training import products, signal_at, train
from two_processes import run_two

from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError, run
from espnet_tse_ser.frontends.td_speakerbeam import tcn as td_speakerbeam
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.models.build_ser import build_ser_model
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.training.precision import check_autocast, float32, mixed_training, widened

MIXED = ("--autocast", "bfloat16")


def _batch():
    generator = torch.Generator().manual_seed(1)
    speech = 0.1 * torch.randn(3, 2, 4000, generator=generator)
    lengths = torch.tensor([4000, 3200])
    return {
        "speech_mix": speech[0],
        "speech_mix_lengths": lengths,
        "speech_ref1": speech[1],
        "enroll_ref1": speech[2],
        "enroll_ref1_lengths": lengths.flip(0),
        "speaker": torch.tensor([[0], [1]]),
        "emotion": torch.tensor([[2], [0]]),
        "speech": speech[0],
        "speech_lengths": lengths,
    }


def _types(model):
    """Records the output's type of every module at its last forward, by name."""
    types = {}

    def note(name):
        def hook(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            types[name] = first.dtype

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(note(name))
    return types


def _loss(model, mixed, batch=None):
    torch.manual_seed(0)  # of dropout
    model.zero_grad()
    with mixed_training(model, "bfloat16" if mixed else "none", "cpu"):
        loss, stats, _ = model(**(batch or _batch()))
    if model.training:
        loss.backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    assert {value.dtype for value in stats.values()} == {torch.float32}
    assert loss.dtype == torch.float32 and "forward" not in vars(model)
    return loss.item()


def test_the_joint_model(joint_config):
    torch.manual_seed(1)
    model = build_joint_model(joint_config).train()
    types = _types(model)
    exact = _loss(model, mixed=False)
    assert set(types.values()) == {torch.float32}
    mixed = _loss(model, mixed=True)
    assert mixed != exact and mixed == pytest.approx(exact, rel=0.02)
    low = {name for name, dtype in types.items() if dtype == torch.bfloat16}
    assert {"ser_model.preencoder.conv1", "ser_model.encoder.blocks.0.expand"} <= low
    whole = {f"ser_model.{name}" for name in ("frontend", "pooling", "classifier", "dropout")}
    whole |= {f"tse_model.{name}" for name in ("encoder", "decoder")}
    assert whole <= set(types) and not low & whole
    model.eval()
    assert _loss(model, mixed=True) == _loss(model, mixed=False)  # to the bit


@pytest.mark.parametrize("norm_type", ["gLN", "cLN"])
def test_an_extractor_in_bfloat16(tse_config, norm_type, monkeypatch):
    # as on a GPU: without the blocks for CPUs
    config = tse_config | {
        "extractor_conf": tse_config["extractor_conf"] | {"norm_type": norm_type},
        "model_conf": {"speaker_loss_weight": 0.5, "num_speakers": 2},
    }
    torch.manual_seed(1)
    model = build_extraction_model(config).train()
    exact = _loss(model, mixed=False)
    gradient = model.extractor.tcn.network[1].weight.grad.clone()
    monkeypatch.setattr(td_speakerbeam, "_is_for_cpu_block", lambda *_: False)
    assert _loss(model, mixed=False) == pytest.approx(exact, abs=1e-4)
    types = _types(model)
    outputs, pointwise = [], td_speakerbeam._pointwise
    monkeypatch.setattr(
        td_speakerbeam, "_pointwise", lambda *a: outputs.append(pointwise(*a)) or outputs[-1]
    )
    assert _loss(model, mixed=True) == pytest.approx(exact, abs=0.05 * abs(exact) + 0.1)
    dtypes = [output.dtype for output in outputs]
    assert set(dtypes) == {torch.bfloat16, torch.float32}
    assert dtypes.count(torch.float32) == 2  # the norm before the first product is taken after it
    assert types["encoder"] == types["decoder"] == types["speaker_classifier"] == torch.float32
    change = model.extractor.tcn.network[1].weight.grad - gradient
    assert 0 < change.norm() < 0.25 * gradient.norm()  # at random weights


@pytest.mark.parametrize("num_utterances", [1, 2])
def test_an_extractor_for_cpus(tse_config, num_utterances):
    torch.manual_seed(1)
    model = build_extraction_model(tse_config).train()
    batch = {name: value[:num_utterances] for name, value in _batch().items()}
    exact = _loss(model, mixed=False, batch=batch)
    gradient = model.extractor.tcn.network[1].weight.grad.clone()
    mixed = _loss(model, mixed=True, batch=batch)
    assert mixed != exact and mixed == pytest.approx(exact, abs=0.05 * abs(exact) + 0.1)
    change = model.extractor.tcn.network[1].weight.grad - gradient
    assert 0 < change.norm() < 0.25 * gradient.norm()


@pytest.mark.parametrize("encoder", ["shift_cnn", "shift_lstm", "shiftformer"])
def test_all_back_ends(ser_config, encoder):
    torch.manual_seed(1)
    model = build_ser_model(ser_config | {"encoder": encoder}).train()
    exact = _loss(model, mixed=False)
    assert _loss(model, mixed=True) == pytest.approx(exact, rel=0.05)


def test_islands():
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        low = a @ a
        with float32(a):
            assert (a @ a).dtype == torch.float32
            assert widened(low).dtype == torch.float32 and widened(a) is a
        assert low.dtype == (a @ a).dtype == torch.bfloat16
    assert widened(a.double()).dtype == torch.float64


def test_what_cannot_be_trained_with(monkeypatch):
    check_autocast("none", "cuda")
    check_autocast("bfloat16", "cpu")
    with pytest.raises(UserError, match="autocast: float16: .* small range: .* give bfloat16 or"):
        check_autocast("float16", "cpu")
    with pytest.raises(UserError, match="autocast: bf16: .* bfloat16 only; give"):
        check_autocast("bf16", "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(UserError, match="this GPU cannot"):
        check_autocast("bfloat16", "cuda")


def test_the_type_of_weights_and_of_the_validation(tmp_path):
    for name, options in {"mixed": MIXED, "exact": ()}.items():
        train(tmp_path / name, *options)
    texts = [products(tmp_path / name)[0] for name in ("mixed", "exact")]
    assert texts[0] != texts[1]
    states = torch.load(tmp_path / "mixed" / "checkpoint.pth", weights_only=False)
    assert states["scaler"] is None
    tensors = [*states["model"].values()]
    tensors += [v for s in states["optimizers"][0]["state"].values() for v in s.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


@pytest.mark.parametrize("accum_grad", ["1", "2"])
def test_a_signal_loses_nothing(tmp_path, accum_grad):
    options = (*MIXED, "--accum_grad", accum_grad)
    train(tmp_path / "whole", *options)
    for at in (1, 4, 6, 11):
        directory = tmp_path / str(at)
        with pytest.raises(Requeue):
            train(directory, *options, at_forward=signal_at(at))
        train(directory, *options)
        assert products(directory) == products(tmp_path / "whole"), at


def _train_mixed(rank, directory, at_forward):
    keywords = {"at_forward": at_forward, "rank": rank, "meeting": directory.with_name("meeting")}
    return run(lambda _: train(directory, *MIXED, **keywords) and None)


def test_two_processes_lose_nothing(tmp_path):
    train(tmp_path / "one", *MIXED)  # what torch imports on first use

    def train_two(name, at_forward):
        (tmp_path / "meeting").unlink(missing_ok=True)
        return run_two(_train_mixed, tmp_path / name, at_forward)

    assert train_two("whole", signal_at()) == [0, 0]
    assert train_two("parts", signal_at(2)) == [REQUEUE_STATUS] * 2
    assert train_two("parts", signal_at()) == [0, 0]
    assert products(tmp_path / "parts") == products(tmp_path / "whole")
