"""SSL front-end: equal to torchaudio's own models, independent of padding, frozen where it says."""

import types

import pytest
import torch
import torchaudio
from evil_files import EVIL, write_evil
from standardized import standardized_batch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend

_TINY = {
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 2, 2)],
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 48,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.0,
}
_WAV2VEC2 = {"encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 4}
_WAVLM = {"encoder_num_buckets": 16, "encoder_max_distance": 32, **_WAV2VEC2}
_BASE = {
    "extractor_mode": "group_norm",
    "extractor_conv_bias": False,
    "encoder_layer_norm_first": False,
}
_LARGE = {
    "extractor_mode": "layer_norm",
    "extractor_conv_bias": True,
    "encoder_layer_norm_first": True,
    "normalize_waveform": True,
}
CONFS = {
    "wav2vec2_base": {"type": "wav2vec2", **_TINY, **_WAV2VEC2, **_BASE},
    "hubert_large": {"type": "hubert", **_TINY, **_WAV2VEC2, **_LARGE},
    "wavlm_base": {"type": "wavlm", **_TINY, **_WAVLM, **_BASE},
    "wavlm_large": {"type": "wavlm", **_TINY, **_WAVLM, **_LARGE},
}
LENGTHS = [2000, 1333, 400, 60]


def _torchaudio_model(conf):
    """torchaudio's model with every weight random (biases and norms too)."""
    params = {k: v for k, v in conf.items() if k not in ("type", "normalize_waveform")}
    kind = "wavlm_model" if conf["type"] == "wavlm" else "wav2vec2_model"
    model = getattr(torchaudio.models, kind)(**params, aux_num_out=None)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(params=sorted(CONFS))
def case(request, tmp_path):
    """arch_conf, torchaudio's model, and the path of its weights."""
    torch.manual_seed(0)
    conf = CONFS[request.param]
    model = _torchaudio_model(conf)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return conf, model, path


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(len(LENGTHS), max(LENGTHS)) * 0.1 + 0.05, torch.tensor(LENGTHS)


@torch.no_grad()
def test_equals_torchaudio_alone_and_in_a_padded_batch(case, batch):
    conf, model, path = case
    speech, lengths = batch
    for layer, number in ((1, 0), ("last", -1)):
        frontend = SSLFrontend("custom", conf, path, layer).eval()
        padded, num_frames = frontend(speech, lengths)
        assert padded.shape[2] == frontend.output_size()
        for i, length in enumerate(LENGTHS):
            alone = speech[i : i + 1, :length]
            wave = standardized_batch(alone, [length])
            if conf.get("normalize_waveform"):
                wave = torch.nn.functional.layer_norm(wave, wave.shape, eps=0.0)
            expected = model.extract_features(wave)[0][number][0]
            assert num_frames[i] == len(expected)
            ours, _ = frontend(alone, torch.tensor([length]))
            torch.testing.assert_close(ours[0], expected, atol=2e-5, rtol=1e-5)
            torch.testing.assert_close(padded[i, : len(expected)], ours[0], atol=1e-5, rtol=1e-5)
            assert (padded[i, len(expected) :] == 0).all()


@torch.no_grad()
def test_weighted_sum_of_all_layers(case, batch):
    conf, _, path = case
    speech, lengths = batch
    layers = [SSLFrontend("custom", conf, path, n).eval()(speech, lengths)[0] for n in range(4)]
    frontend = SSLFrontend("custom", conf, path, "weighted").eval()
    torch.testing.assert_close(frontend(speech, lengths)[0], sum(layers) / 4, atol=1e-5, rtol=1e-5)
    frontend.layer_weights[2] = 100.0
    torch.testing.assert_close(frontend(speech, lengths)[0], layers[2], atol=1e-5, rtol=1e-5)


def test_frozen_stays_frozen(case, batch):
    conf, _, path = case
    frontend = SSLFrontend("custom", conf, path, "weighted").train()
    before = {k: v.clone() for k, v in frontend.state_dict().items()}
    assert [n for n, p in frontend.named_parameters() if p.requires_grad] == ["layer_weights"]
    assert not any(m.training for m in frontend.ssl.modules())
    optimizer = torch.optim.AdamW(frontend.parameters(), lr=0.1, weight_decay=0.1)
    first, _ = frontend(*batch)
    first.square().sum().backward()
    optimizer.step()
    changed = [k for k, v in frontend.state_dict().items() if not torch.equal(v, before[k])]
    assert changed == ["layer_weights"]


def test_finetuning_trains_the_transformer_only(case, batch):
    conf, _, path = case
    frontend = SSLFrontend("custom", conf, path, finetune=True).train()
    assert frontend.ssl.encoder.training and not frontend.ssl.feature_extractor.training
    assert not torch.equal(frontend(*batch)[0], frontend(*batch)[0])  # dropout
    frontend(*batch)[0].square().sum().backward()
    for name, parameter in frontend.named_parameters():
        # ... and nothing without effect on the output is left for DDP to miss.
        assert parameter.requires_grad == (parameter.grad is not None), name
        if not parameter.requires_grad:
            assert "feature_extractor" in name or name.startswith(
                "ssl.encoder.transformer.layer_norm"
            )


def test_gradient_reaches_the_waveform_through_a_frozen_model(case, batch):
    conf, _, path = case
    speech = batch[0].clone().requires_grad_()
    frontend = SSLFrontend("custom", conf, path).train()
    frontend(speech, batch[1])[0].square().sum().backward()
    for row, length in zip(speech.grad, LENGTHS, strict=True):
        assert row[:length].abs().sum() > 0 and (row[length:] == 0).all()
    assert not frontend(*batch)[0].requires_grad


def test_a_wrapped_or_fine_tuned_checkpoint_loads(case, tmp_path):
    conf, model, _ = case
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    torch.save(state | {"model.aux.weight": torch.zeros(2, 2)}, tmp_path / "wrapped.pt")
    frontend = SSLFrontend("custom", conf, tmp_path / "wrapped.pt")
    for name, value in frontend.ssl.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_wrong_choices_are_user_errors(tmp_path):
    conf = CONFS["wav2vec2_base"]
    with pytest.raises(UserError, match="unknown arch 'HUBERT_TINY'; use custom or .*HUBERT_BASE"):
        SSLFrontend("HUBERT_TINY")
    with pytest.raises(
        UserError, match="arch_conf: type: expected one of wav2vec2, .*, got 'bert'"
    ):
        SSLFrontend("custom", {"type": "bert"})
    with pytest.raises(UserError, match="arch_conf: unknown key 'no_such_option'"):
        SSLFrontend("custom", {"type": "hubert", "no_such_option": 1}, None)
    with pytest.raises(UserError, match="arch_conf belongs to arch custom"):
        SSLFrontend("HUBERT_BASE", conf)
    with pytest.raises(UserError, match="give a path as weights"):
        SSLFrontend("custom", conf)
    for layer in (4, -1, "first"):
        with pytest.raises(UserError, match=f"layer '{layer}' does not exist.* 0 to 3"):
            SSLFrontend("custom", conf, None, layer)
    with pytest.raises(UserError, match=r"none.pt: no such file"):
        SSLFrontend("custom", conf, tmp_path / "none.pt")
    torch.save(_torchaudio_model(CONFS["hubert_large"]).state_dict(), tmp_path / "large.pt")
    with pytest.raises(UserError, match="another architecture than 'custom': 0 missing, 7 unknown"):
        SSLFrontend("custom", conf, tmp_path / "large.pt")


@pytest.mark.parametrize(("payload", "save"), EVIL)
def test_nothing_in_weights_runs(tmp_path, monkeypatch, payload, save):
    monkeypatch.chdir(tmp_path)
    conf = CONFS["hubert_large"]
    write_evil(tmp_path / "x.pt", payload, save, within=_torchaudio_model(conf).state_dict())
    with pytest.raises(UserError, match="x.pt: holds other objects"):
        SSLFrontend("custom", conf, tmp_path / "x.pt")
    # Nor in what torchaudio has kept of a download, which it reads without a check.
    params = {k: v for k, v in conf.items() if k not in ("type", "normalize_waveform")}
    params |= {"aux_num_out": None}
    bundle = torchaudio.pipelines.Wav2Vec2Bundle("x.pt", params, 16000, True, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_TINY", bundle, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "x.pt").rename(tmp_path / "checkpoints" / "x.pt")
    with pytest.raises(UserError, match="x.pt: holds other objects"):
        SSLFrontend("HUBERT_TINY")
    assert not (tmp_path / "pwned").exists()


def test_weights_that_are_none(tmp_path):
    conf, path = CONFS["hubert_large"], tmp_path / "x.pt"
    state = _torchaudio_model(conf).state_dict()
    name = "encoder.feature_projection.projection.bias"
    for value, reason in (
        (torch.full_like(state[name], float("nan")), "hold NaN or infinity, first"),
        (state[name].long(), "is of the type torch.int64, the model's of torch.float32"),
        (state[name].to_sparse(), "is sparse"),
    ):
        torch.save(state | {name: value}, path)
        with pytest.raises(UserError, match=f"x.pt: .*{reason}"):
            SSLFrontend("custom", conf, path)


def test_too_short_for_one_frame():
    frontend = SSLFrontend("custom", CONFS["wav2vec2_base"], None)
    with pytest.raises(UserError, match="29 samples is too short"):
        frontend(torch.zeros(2, 100), torch.tensor([100, 29]))


def test_bundles(monkeypatch):
    tiny = {
        k: v for k, v in CONFS["hubert_large"].items() if k not in ("type", "normalize_waveform")
    }
    bundle = torchaudio.pipelines.Wav2Vec2Bundle("tiny.pth", tiny, 16000, True, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "HUBERT_TINY", bundle, raising=False)
    rebuilt = SSLFrontend("HUBERT_TINY", weights=None)
    assert rebuilt.normalize_waveform and rebuilt.output_size() == 24
    model = _torchaudio_model(CONFS["hubert_large"])
    monkeypatch.setattr(type(bundle), "get_model", lambda self: model)
    frontend = SSLFrontend("HUBERT_TINY")
    assert torch.equal(
        frontend.ssl.encoder.feature_projection.projection.weight,
        model.encoder.feature_projection.projection.weight,
    )

    def unreachable(self):
        raise OSError("no network")

    monkeypatch.setattr(type(bundle), "get_model", unreachable)
    with pytest.raises(UserError, match="HUBERT_TINY cannot be downloaded .no network."):
        SSLFrontend("HUBERT_TINY")


@pytest.mark.parametrize("name", ["HUBERT_BASE", "WAV2VEC2_BASE", "WAVLM_LARGE", "HUBERT_LARGE"])
def test_real_bundles_resolve(name, monkeypatch):
    made = types.SimpleNamespace()

    def factory(**params):
        made.params = params
        raise ValueError("stop here: the real size takes seconds to build")

    from espnet_tse_ser.recognise import ssl_frontend

    kind = "wavlm" if "WAVLM" in name else "wav2vec2"
    monkeypatch.setitem(ssl_frontend._FACTORIES, kind, factory)
    with pytest.raises(UserError, match="stop here"):
        SSLFrontend(name)
    assert made.params["encoder_embed_dim"] == (1024 if "LARGE" in name else 768)


_OF_TORCHAUDIO = {
    "WAV2VEC2_BASE": torchaudio.models.wav2vec2_base,
    "WAV2VEC2_LARGE": torchaudio.models.wav2vec2_large,
    "HUBERT_BASE": torchaudio.models.hubert_base,
    "HUBERT_LARGE": torchaudio.models.hubert_large,
    "WAVLM_BASE": torchaudio.models.wavlm_base,
    "WAVLM_LARGE": torchaudio.models.wavlm_large,
}


def _shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", _OF_TORCHAUDIO)
def test_real_encoders_have_the_weights_of_torchaudio_s_own(name):
    with torch.device("meta"):
        frontend = SSLFrontend(name, weights=None, layer="weighted")
        expected = _OF_TORCHAUDIO[name]()
    assert _shapes(frontend.ssl) == _shapes(expected)
    assert len(frontend.layer_weights) == (25 if "LARGE" in name else 13)


@torch.no_grad()
@pytest.mark.parametrize("name", _OF_TORCHAUDIO)
def test_real_encoders_of_two_layers_give_what_torchaudio_s_own_do(name, tmp_path):
    torch.manual_seed(0)
    params = dict(getattr(torchaudio.pipelines, name)._params) | {"encoder_num_layers": 2}
    del params["aux_num_out"]
    kind = name.partition("_")[0].lower()
    model = _torchaudio_model({"type": kind} | params)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    normalize = getattr(torchaudio.pipelines, name)._normalize_waveform
    conf = {"type": kind, "normalize_waveform": normalize} | params
    frontend = SSLFrontend("custom", conf, str(tmp_path / "weights.pt"), "weighted").eval()
    lengths = torch.tensor([6000, 4000])
    speech = 0.1 * torch.randn(2, 6000)
    layers, num_frames = frontend.layers(speech, lengths)
    assert len(layers) == 3
    for i, length in enumerate(lengths.tolist()):
        wave = standardized_batch(speech[i : i + 1, :length], [length])
        if normalize:
            wave = torch.nn.functional.layer_norm(wave, wave.shape, eps=0.0)
        expected = model.extract_features(wave)[0]
        for ours, theirs in zip(layers[1:], expected, strict=True):
            error = (ours[i, : num_frames[i]] - theirs[0]).abs().max()
            assert error < 1e-5 * theirs.abs().max()


@torch.no_grad()
def test_every_prefix_of_padding(case):
    conf, _, path = case
    torch.manual_seed(2)
    frontend = SSLFrontend("custom", conf, path, "weighted", layer_norm=True).eval()
    speech, length = 0.1 * torch.randn(1, 400), torch.tensor([400])
    alone, _ = frontend(speech, length)
    for padding in range(1, 120):
        noise = torch.randn(1, padding)
        padded, num_frames = frontend(torch.cat([speech, noise], 1), length)
        assert num_frames.tolist() == [alone.shape[1]]
        torch.testing.assert_close(padded[:, : alone.shape[1]], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_layers_are_normalised_before_they_are_summed(case, batch):
    conf, _, path = case
    frontend = SSLFrontend("custom", conf, path, "weighted", layer_norm=True).eval()
    torch.nn.init.normal_(frontend.layer_weights)
    layers, num_frames = frontend.layers(*batch)
    normed = torch.stack([(x - x.mean(2, True)) / x.std(2, False, True) for x in layers])
    expected = (frontend.layer_weights.softmax(0)[:, None, None, None] * normed).sum(0)
    summed, _ = frontend(*batch)
    for row, wanted, frames in zip(summed, expected, num_frames.tolist(), strict=True):
        torch.testing.assert_close(row[:frames], wanted[:frames], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="layer_norm is of the layers of a sum"):
        SSLFrontend("custom", conf, None, layer_norm=True)


def test_convolutions_are_fine_tuned_if_they_are_asked_to(case, batch):
    conf, _, path = case
    frontend = SSLFrontend("custom", conf, path, finetune=True, freeze_convolutions=False).train()
    frontend(*batch)[0].square().sum().backward()
    for name, parameter in frontend.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
        if not parameter.requires_grad:
            assert name.startswith("ssl.encoder.transformer.layer_norm")


def test_bfloat16_positions_are_those_of_float32():
    """Groups of 12 channels and an even kernel, which torch 2.11 convolves wrongly with AMX."""
    torch.manual_seed(0)
    sizes = {"encoder_embed_dim": 192, "encoder_pos_conv_kernel": 64, "encoder_pos_conv_groups": 16}
    conf = {"type": "hubert", **_TINY, **_BASE, **sizes, "encoder_num_layers": 1}
    frontend = SSLFrontend("custom", conf, None).eval()
    speech, lengths = torch.randn(2, 4000), torch.tensor([4000, 3000])
    expected, num_frames = frontend(speech, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = frontend(speech, lengths)
    error = (found.float() - expected)[0, : num_frames[0]].norm() / expected[0].norm()
    assert error < 0.03
