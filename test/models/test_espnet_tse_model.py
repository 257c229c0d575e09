"""The extraction model: ESPnet's losses and signals, padding, speaker identification."""

import pytest
import torch
from espnet2.enh.encoder.conv_encoder import ConvEncoder
from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor
from espnet2.enh.loss.criterions.time_domain import SISNRLoss, SNRLoss
from espnet2.enh.loss.wrappers.fixed_order import FixedOrderSolver
from standardized import standardized_batch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.models.build_tse import build_extraction_model

LENGTHS = [3200, 2511, 1999]
ENROLL_LENGTHS = [1700, 2600, 1601]
TWO_CRITERIONS = [
    {"name": "snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 0.3}},
    {"name": "si_snr", "conf": {"clamp_db": 30}, "wrapper": "fixed_order", "wrapper_conf": {}},
]


def _build(config, **changes):
    torch.manual_seed(0)
    return build_extraction_model(config | changes)


def _espnet_model(model, config):
    """ESPnet's own model around ESPnet's own extractor, with the weights of ``model``."""
    encoder = ConvEncoder(**config["encoder_conf"])
    theirs = ESPnetExtractionModel(
        encoder=encoder,
        extractor=TDSpeakerBeamExtractor(encoder.output_dim, **config["extractor_conf"]),
        decoder=model.decoder,
        loss_wrappers=[
            FixedOrderSolver(SNRLoss(), weight=0.3),
            FixedOrderSolver(SISNRLoss(clamp_db=30)),
        ],
    )
    theirs.load_state_dict(model.state_dict())
    return theirs


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {  # without offset and of usual level, as ESPnet's model takes out neither
        "speech_mix": standardized_batch(torch.randn(3, max(LENGTHS)), LENGTHS),
        "speech_mix_lengths": torch.tensor(LENGTHS),
        "speech_ref1": standardized_batch(torch.randn(3, max(LENGTHS)), LENGTHS),
        "enroll_ref1": standardized_batch(torch.randn(3, max(ENROLL_LENGTHS)), ENROLL_LENGTHS),
        "enroll_ref1_lengths": torch.tensor(ENROLL_LENGTHS),
        "speaker": torch.tensor([[0], [4], [2]]),
    }


def _one(batch, i):
    """Item ``i`` alone, without padding."""
    n, m = LENGTHS[i], ENROLL_LENGTHS[i]
    return {
        "speech_mix": batch["speech_mix"][i : i + 1, :n],
        "speech_mix_lengths": torch.tensor([n]),
        "speech_ref1": batch["speech_ref1"][i : i + 1, :n],
        "enroll_ref1": batch["enroll_ref1"][i : i + 1, :m],
        "enroll_ref1_lengths": torch.tensor([m]),
    }


def _inputs(batch):
    names = ("speech_mix", "speech_mix_lengths", "enroll_ref1", "enroll_ref1_lengths")
    return [batch[name] for name in names]


@torch.no_grad()
def test_signal_equals_espnet_and_depends_on_no_padding(tse_config, batch):
    model = _build(tse_config, criterions=TWO_CRITERIONS).eval()
    theirs = _espnet_model(model, tse_config).eval()
    together, embeddings = model.extract(*_inputs(batch))
    wider = dict(batch)
    for name in ("speech_mix", "enroll_ref1"):
        # What lies beyond the lengths must not matter, whatever it is.
        wider[name] = torch.nn.functional.pad(batch[name], (0, 777), value=0.5)
    padded, embeddings_padded = model.extract(*_inputs(wider))
    assert padded.shape == wider["speech_mix"].shape
    for i, n in enumerate(LENGTHS):
        one = _one(batch, i)
        alone, embedding = model.extract(*_inputs(one))
        (espnets,), *_ = theirs.forward_enhance(
            one["speech_mix"],
            one["speech_mix_lengths"],
            [one["enroll_ref1"]],
            [one["enroll_ref1_lengths"]],
        )
        torch.testing.assert_close(alone, espnets, atol=1e-6, rtol=1e-4)
        for signals, vectors in ((together, embeddings), (padded, embeddings_padded)):
            torch.testing.assert_close(signals[i, :n], alone[0], atol=1e-5, rtol=0)
            assert (signals[i, n:] == 0).all()
            torch.testing.assert_close(vectors[i], embedding[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_loss_equals_espnet(tse_config, batch):
    model = _build(tse_config, criterions=TWO_CRITERIONS).eval()
    theirs = _espnet_model(model, tse_config).eval()
    expected, expected_stats = [], []
    for i in range(3):
        loss, stats, _ = theirs(**_one(batch, i))
        mine, my_stats, weight = model(**_one(batch, i))
        torch.testing.assert_close(mine, loss, atol=1e-4, rtol=1e-5)
        assert my_stats.keys() == stats.keys() and int(weight) == 1
        for name, value in stats.items():
            torch.testing.assert_close(my_stats[name].squeeze(), value.squeeze(), atol=1e-4, rtol=0)
        expected.append(loss)
        expected_stats.append(stats)
    loss, stats, weight = model(**batch)
    torch.testing.assert_close(loss.squeeze(), torch.cat(expected).mean(), atol=1e-4, rtol=0)
    assert int(weight) == 3
    for name, value in stats.items():
        mean = torch.stack([s[name].squeeze() for s in expected_stats]).mean()
        torch.testing.assert_close(value.squeeze(), mean, atol=1e-4, rtol=0)


def test_padding_gets_no_gradient(tse_config, batch):
    model = _build(tse_config).train()
    batch["speech_mix"].requires_grad_()
    loss, _, _ = model(**batch)
    loss.backward()
    for row, n in zip(batch["speech_mix"].grad, LENGTHS, strict=True):
        assert row[:n].abs().sum() > 0 and (row[n:] == 0).all()


def test_speaker_identification(tse_config, batch):
    conf = {"speaker_loss_weight": 0.5, "num_speakers": 5}
    model = _build(tse_config, model_conf=conf).train()
    loss, stats, _ = model(**batch)
    _, embedding = model.extract(*_inputs(batch))
    logits = model.speaker_classifier(embedding)
    speaker_loss = torch.nn.functional.cross_entropy(logits, batch["speaker"][:, 0])
    torch.testing.assert_close(stats["speaker_loss"].squeeze(), speaker_loss.detach())
    total = stats["si_snr_loss"] + 0.5 * speaker_loss
    torch.testing.assert_close(loss, total)
    right = (logits.argmax(1) == batch["speaker"][:, 0]).float().mean()
    torch.testing.assert_close(stats["speaker_acc"].squeeze(), right)
    speaker_loss.backward()
    assert model.speaker_classifier.weight.grad.abs().sum() > 0
    assert model.extractor.auxiliary_net.network[1].weight.grad.abs().sum() > 0
    # Speakers of the validation set have no class.
    loss, stats, _ = model.eval()(**batch)
    assert "speaker_loss" not in stats
    torch.testing.assert_close(loss.detach(), stats["si_snr_loss"])


@pytest.mark.parametrize("short", ["speech_mix", "enroll_ref1"])
def test_less_than_one_window(tse_config, batch, short):
    model = _build(tse_config)
    batch[f"{short}_lengths"][1] = 31
    with pytest.raises(ValueError, match=r"31 samples are less than one encoder window \(32\)"):
        model.extract(*_inputs(batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "stft"}, "encoder: extractor td_speakerbeam is for encoder conv, got stft"),
        ({"extractor": "rnn"}, "use td_speakerbeam, tcn"),
        ({"decoder": ["conv"]}, r"decoder: \['conv'\] is not supported; use conv"),
        ({"encoder": True}, "encoder: True is not supported; use conv"),
        ({"extractor_conf": {"layers": 3}}, "layers"),
        ({"extractor_conf": {"norm_type": "BN"}}, "norm_type: expected one of gLN, cLN, got 'BN'"),
        ({"encoder_conf": {"channel": 16}}, "kernel_size"),
        ({"decoder": None}, "decoder: is missing; use conv"),
        ({"model_conf": {"num_spk": 2}}, "num_spk: expected 1, all that is supported here"),
        ({"model_conf": {"share_encoder": False}}, "share_encoder: expected True, all that is"),
        ({"model_conf": {"speaker_loss_weight": 0.5}}, "num_speakers >= 2"),
        (
            {"criterions": [{"name": "l1", "wrapper": "fixed_order"}]},
            r"criterions\[0\]: name: 'l1' is not supported; use snr, si_snr",
        ),
        ({"criterions": [{"wrapper": "fixed_order"}]}, "'name'"),
        ({"criterions": TWO_CRITERIONS[:1] * 2}, "Duplicated loss names"),
    ],
)
def test_wrong_configurations_are_user_errors(tse_config, changes, message):
    with pytest.raises(UserError, match=message):
        _build(tse_config, **changes)


def test_a_configuration_without_a_part_names_it(tse_config):
    with pytest.raises(UserError, match="extractor: is missing; use td_speakerbeam, tcn"):
        build_extraction_model({k: v for k, v in tse_config.items() if k != "extractor"})


LEVELLED = [
    {"name": "thresholded_snr", "wrapper": "fixed_order", "wrapper_conf": {"weight": 0.5}},
    {
        "name": "si_snr",
        "conf": {"only_for_test": True},
        "wrapper": "fixed_order",
        "wrapper_conf": {"weight": 0},
    },
]


def _with_absent(batch, absent):
    reference = batch["speech_ref1"] * (1 - torch.tensor(absent)[:, None])
    return batch | {"speech_ref1": reference, "absent": torch.tensor(absent)[:, None]}


@pytest.mark.parametrize("absent", [[0, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]])
def test_absent_targets_have_a_loss_of_their_own(tse_config, batch, absent):
    """Each item counts as much, whoever is in the batch with it."""
    model = _build(tse_config, criterions=LEVELLED).eval()
    estimate, _ = model.extract(*_inputs(batch))
    loss, stats, _ = model(**_with_absent(batch, absent))
    values, levels = [], []
    for i, n in enumerate(LENGTHS):
        row = estimate[i, :n]
        if absent[i]:
            mixture = batch["speech_mix"][i, :n] - batch["speech_mix"][i, :n].mean()
            levels.append(10 * torch.log10(row.square().sum() / mixture.square().sum() + 1e-3))
            continue
        reference = batch["speech_ref1"][i, :n] - batch["speech_ref1"][i, :n].mean()
        error = (row - reference).square().sum() / reference.square().sum()
        values.append(10 * torch.log10(error + 1e-3))
    expected = (0.5 * sum(values) + sum(levels)) / 3
    torch.testing.assert_close(loss[0], expected, atol=1e-4, rtol=0)
    for name, parts in (("thresholded_snr_loss", values), ("absent_level", levels)):
        mean = torch.stack(parts).mean() if parts else torch.tensor(float("nan"))
        found = stats[name][0]
        torch.testing.assert_close(found, mean.detach(), equal_nan=True, atol=1e-4, rtol=0)
    assert {*stats} == {"thresholded_snr_loss", "si_snr_loss", "absent_level", "loss"}


def test_measures_do_not_depend_on_who_is_absent(tse_config, batch):
    """Several processes add theirs up in this order."""
    model = _build(tse_config, criterions=LEVELLED).train()
    names = [[*model(**_with_absent(batch, a))[1]] for a in ([0, 0, 0], [0, 1, 0], [1, 1, 1])]
    assert names == [["thresholded_snr_loss", "absent_level", "loss"]] * 3


def test_training_silences_absent_targets(tse_config, batch):
    model = _build(tse_config, criterions=LEVELLED).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    levels = []
    for _ in range(30):
        loss, stats, _ = model(**_with_absent(batch, [1, 1, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        levels.append(float(stats["absent_level"]))
    assert levels[-1] < levels[0] - 5


VOICE = {"speaker_encoder": "resemblyzer"}
ALONE = {"use_spk_emb": True, "spk_emb_dim": 256}


def _with_voice(config, alone=False):
    extractor = config["extractor_conf"] | (ALONE if alone else {})
    model = _build(config, model_conf=VOICE, extractor_conf=extractor)
    model.speaker_encoder.load_pretrained()
    return model


@torch.no_grad()
def test_a_speaker_encoder_beside_starts_without_effect(tse_config, batch):
    plain, model = _build(tse_config).eval(), _with_voice(tse_config).eval()
    load = model.load_state_dict(plain.state_dict(), strict=False)
    assert {k.split(".")[0] for k in load.missing_keys} == {"speaker_encoder", "speaker_projection"}
    for ours, theirs in zip(
        model.extract(*_inputs(batch)), plain.extract(*_inputs(batch)), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("alone", [False, True])
def test_a_speaker_encoder_counts_and_is_not_trained(tse_config, batch, alone):
    model = _with_voice(tse_config, alone)
    before = {k: v.clone() for k, v in model.speaker_encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch)[0].backward()
        optimizer.step()
    after = model.speaker_encoder.state_dict()
    assert before and all(torch.equal(before[k], after[k]) for k in before)
    model.eval()
    with torch.no_grad():
        together, embeddings = model.extract(*_inputs(batch))
        for i, n in enumerate(LENGTHS):
            alone_, embedding = model.extract(*_inputs(_one(batch, i)))
            torch.testing.assert_close(alone_[0], together[i, :n], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(embedding[0], embeddings[i], atol=1e-5, rtol=1e-4)
        changed = dict(batch, enroll_ref1=batch["enroll_ref1"].flip(0))
        assert not torch.allclose(model.extract(*_inputs(changed))[1], embeddings, atol=1e-4)
        louder = dict(batch, enroll_ref1=8 * batch["enroll_ref1"] + 0.1)
        torch.testing.assert_close(
            model.extract(*_inputs(louder))[1], embeddings, atol=1e-4, rtol=1e-3
        )
    weights = model.speaker_projection.weight if not alone else None
    assert alone == (weights is None) and (alone or weights.abs().max() > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_conf": VOICE, "sample_rate": 8000}, "model_conf: speaker_encoder .* 16000 Hz"),
        ({"model_conf": VOICE, "extractor": "tcn"}, "speaker_encoder needs an extractor with"),
        ({"model_conf": {"speaker_encoder": "ecapa"}}, "speaker_encoder"),
        ({"model_conf": VOICE, "alone": 192}, "spk_emb_dim: must be 256 with speaker_encoder"),
    ],
)
def test_a_speaker_encoder_has_to_fit(tse_config, changes, message):
    config = tse_config | changes
    conf = dict(config["extractor_conf"])
    if "alone" in config:
        conf |= {"use_spk_emb": True, "spk_emb_dim": config.pop("alone")}
    if config["extractor"] == "tcn":
        conf = {k: v for k, v in conf.items() if not k.startswith(("i_adapt", "adapt"))}
    with pytest.raises(UserError, match=message):
        _build(config, extractor_conf=conf)
