"""Offset and level of mixtures and enrollments change nothing, in training and in inference."""

import numpy as np
import pytest
import soundfile
import tiny_ssl
import torch
from standardized import standardized
from tiny_formatted import voice

from espnet_tse_ser.frontends.extraction import Extraction, extract
from espnet_tse_ser.inference import recording
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recording import Recording, recognize_recording
from espnet_tse_ser.metrics.signal import si_sdr
from espnet_tse_ser.models import espnet_tse_model
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.models.build_ser import CLASSES, build_ser_model
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.recognise import frontend, ssl_frontend

RATE = 16000
OFFSETS = [0.0, 0.001, -0.001, 0.01, -0.01, 0.1, -0.1]
PEAKS = [-60, -40, -20, 0]  # dB
CHANGES = [(offset, peak) for offset in OFFSETS for peak in PEAKS]
SSL = {"arch": "custom", "arch_conf": tiny_ssl.ARCH, "weights": None}
NORMALISED = {"extractor_mode": "layer_norm", "normalize_waveform": True}
FRONTENDS = {
    "logmel": {"n_mels": 16},
    "logmel, fixed": {"n_mels": 16, "fixed_seconds": 0.2},
    "ssl": SSL,
    "ssl, fixed": SSL | {"fixed_seconds": 0.2},
    "ssl, normalised": SSL | {"arch_conf": tiny_ssl.ARCH | NORMALISED},
}
TOLERANCE = 1e-4  # of probabilities


def _changed(samples, change):
    """``samples`` with an offset, and this peak (dB) without it."""
    offset, peak = change
    samples = samples.astype(np.float64) - samples.mean()
    samples *= 10 ** (peak / 20) / np.abs(samples).max()
    return (samples + offset).astype(np.float32)


def _voices(seed, *lengths):
    rng = np.random.default_rng(seed)
    return [_changed(voice(rng, 90 + 35 * i, n), (0.0, -10)) for i, n in enumerate(lengths)]


REFERENCES, ENROLLMENTS = _voices(0, 3000, 4000, 2400), _voices(1, 3500, 2000, 2500)
MIXTURES = [r + i for r, i in zip(REFERENCES, _voices(2, 3000, 4000, 2400), strict=True)]


def _sharpened(model):
    """A `TSESER` to which the mixtures are as different as to a trained one."""
    model = TSESER(model, RATE)
    further = [ENROLLMENTS] if model.extracts else []
    logits = torch.tensor(np.log(_probabilities(model.recognize(MIXTURES, *further)))).float()
    scale = 2 / (logits - logits.mean(0)).std()
    classifier = getattr(model.model, "ser_model", model.model).classifier
    with torch.no_grad():
        classifier.bias.sub_(logits.mean(0)).mul_(scale)
        classifier.weight.mul_(scale)
    return model


def _ser_config(ser_config, name):
    return ser_config | {"frontend": name.split(",")[0], "frontend_conf": FRONTENDS[name]}


@pytest.fixture(scope="module", params=FRONTENDS)
def recogniser(request, ser_config):
    """A recogniser, and its `Recognition`s of the mixtures."""
    torch.manual_seed(0)
    model = _sharpened(build_ser_model(_ser_config(ser_config, request.param)))
    return model, model.recognize(MIXTURES)


def _joint(joint_config, name="logmel"):
    torch.manual_seed(0)
    config = joint_config | {"ser": _ser_config(joint_config["ser"], name)}
    return _sharpened(build_joint_model(config))


@pytest.fixture(scope="module", params=["logmel", "ssl"])
def joint(request, joint_config):
    """A joint model, and its `Recognition`s of the mixtures."""
    model = _joint(joint_config, request.param)
    return model, model.recognize(MIXTURES, ENROLLMENTS)


@pytest.fixture(scope="module", params=["gLN", "cLN"])
def extractor(request, tse_config):
    """An extraction model, and its estimates of the targets."""
    torch.manual_seed(0)
    conf = tse_config["extractor_conf"] | {"norm_type": request.param}
    model = build_extraction_model(tse_config | {"extractor_conf": conf}).eval()
    front_end = Extraction(model, RATE)
    return front_end, extract(front_end, MIXTURES, ENROLLMENTS)


def _probabilities(results):
    return np.array([list(result.probabilities.values()) for result in results])


def _assert_equal(results, expected):
    assert [r.label for r in results] == [e.label for e in expected]
    np.testing.assert_allclose(_probabilities(results), _probabilities(expected), atol=TOLERANCE)
    for result, other in zip(results, expected, strict=True):
        if other.speech is not None:
            one, other = standardized(result.speech), standardized(other.speech)
            np.testing.assert_allclose(one, other, atol=1e-4)


def _batch_of_all(number, seed=0):
    """Changed copies of one signal, each with another change, in random order."""
    order = np.random.default_rng(seed).permutation(len(CHANGES))
    return lambda signals: [_changed(signals[number], CHANGES[k]) for k in order]


def test_every_front_end_is_among_them():
    known = {name for kind, name in CLASSES if kind == "frontend"}
    assert known == {name.split(",")[0] for name in FRONTENDS}


@pytest.mark.parametrize("change", CHANGES)
def test_a_recogniser(recogniser, change):
    model, expected = recogniser
    _assert_equal([model(_changed(MIXTURES[0], change))], expected[:1])


def test_a_recogniser_of_a_batch(recogniser):
    model, expected = recogniser
    results = model.recognize([MIXTURES[1], *_batch_of_all(0)(MIXTURES)])
    _assert_equal(results, [expected[1], *expected[:1] * len(CHANGES)])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("part", ["mixture", "enrollment"])
def test_a_joint_model(joint, part, change):
    model, expected = joint
    mixture, enrollment = MIXTURES[0], ENROLLMENTS[0]
    if part == "mixture":
        mixture = _changed(mixture, change)
    else:
        enrollment = _changed(enrollment, change)
    _assert_equal([model(mixture, enrollment)], expected[:1])


def test_a_joint_model_of_a_batch(joint):
    model, expected = joint
    mixtures = [MIXTURES[1], *_batch_of_all(0, 1)(MIXTURES)]
    enrollments = [ENROLLMENTS[1], *_batch_of_all(0, 2)(ENROLLMENTS)]
    results = model.recognize(mixtures, enrollments)
    _assert_equal(results, [expected[1], *expected[:1] * len(CHANGES)])


def test_an_extractor(extractor):
    """What is extracted has the level of the mixture, whatever offset and level that has."""
    model, (expected, *_) = extractor
    mixtures, enrollments = _batch_of_all(0, 1)(MIXTURES), _batch_of_all(0, 2)(ENROLLMENTS)
    estimates = extract(model, mixtures, enrollments)
    for (mixture, enrollment), estimate in zip(
        [*zip(mixtures, enrollments, strict=True)], estimates, strict=True
    ):
        gain = np.std(mixture, dtype=np.float64) / np.std(MIXTURES[0], dtype=np.float64)
        tolerance = 5e-4 * np.abs(expected).max()
        (alone,) = extract(model, [mixture], [enrollment])
        for signal in (estimate, alone):
            np.testing.assert_allclose(signal / gain, expected, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_the_resampler_makes_no_step(joint, recogniser, rate):
    """Each channel has an offset of its own."""
    mixture, enrollment = (np.stack([s, 0.5 * s], 1) for s in _voices(6, 12000, 9000))
    offsets = np.array([0.1, -0.03])
    for (model, _), further in ((joint, [enrollment]), (recogniser, [])):
        expected = model(mixture, *further, rate=rate)
        changed = model(mixture + offsets, *(f - offsets for f in further), rate=rate)
        _assert_equal([changed], [expected])


@pytest.mark.parametrize("change", [(0.1, -10), (-0.01, -60), (0.0, -60), (0.03, 0)])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_long_recording(joint_config, tmp_path, rate, change):
    """By windows, which are far from equally loud: offset and level are those of the whole."""
    joint = _joint(joint_config)
    gains = np.interp(np.linspace(0, 6, 3 * rate), range(7), [1, 9, 3, 0.3, 5, 2, 1])
    mixture = _changed(gains * _voices(7, 3 * rate)[0], (0.0, -10))
    soundfile.write(tmp_path / "whole.wav", mixture, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "changed.wav", _changed(mixture, change), rate, subtype="FLOAT")
    embedding, options = joint.embeddings()(ENROLLMENTS[:1]), {"window_seconds": 1.2}
    found = []
    for name in ("whole", "changed"):
        recorded = Recording(tmp_path / f"{name}.wav", RATE)
        pieces = recording._extract(joint.model.tse_model, recorded, embedding, round(1.2 * RATE))
        extracted = np.concatenate([estimate for _, estimate in pieces])
        output = tmp_path / f"{name}.flac"
        segments = recognize_recording(
            joint, recorded, ENROLLMENTS[0], output, segment_seconds=0.7, **options
        )
        found.append((segments, extracted, soundfile.read(output)[0]))
    (segments, extracted, written), (others, other, rewritten) = found
    for one, changed in zip(segments, others, strict=True):
        assert changed.label == one.label
        assert changed.probabilities == pytest.approx(one.probabilities, abs=TOLERANCE)
    assert si_sdr(extracted, other) > 70
    gain = 10 ** ((change[1] + 10) / 20)
    np.testing.assert_allclose(other / gain, extracted, atol=1e-3 * np.abs(extracted).max())
    np.testing.assert_allclose(rewritten, gain * written, atol=(1.1 + gain) * 2**-15)


def _tensors(signals):
    lengths = torch.tensor([len(s) for s in signals])
    padded = [np.pad(s, (0, int(lengths.max()) - len(s))) for s in signals]
    return torch.from_numpy(np.stack(padded)), lengths


def _batch(change):
    changed = [[_changed(s, change) for s in g] for g in (MIXTURES, REFERENCES, ENROLLMENTS)]
    (mixtures, lengths), (references, _), (enrollments, enroll_lengths) = map(_tensors, changed)
    return {
        "speech_mix": mixtures,
        "speech_mix_lengths": lengths,
        "speech_ref1": references,
        "enroll_ref1": enrollments,
        "enroll_ref1_lengths": enroll_lengths,
        "speech": mixtures,
        "speech_lengths": lengths,
        "emotion": torch.tensor([[0], [3], [2]]),
    }


def _step(model, batch):
    torch.manual_seed(0)  # of dropout
    model.zero_grad()
    loss, _, _ = model(**batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


SNR = [{"name": "snr", "wrapper": "fixed_order"}]
FINETUNED = {"frontend": "ssl", "frontend_conf": SSL | {"finetune": True}}
TRAININGS = {
    "joint": lambda tse, ser: build_joint_model({"tse": tse, "ser": ser}),
    "si_snr": lambda tse, _: build_extraction_model(tse),
    "snr": lambda tse, _: build_extraction_model(tse | {"criterions": SNR}),
    "logmel": lambda _, ser: build_ser_model(ser),
    "ssl": lambda _, ser: build_ser_model(ser | FINETUNED),
}


@pytest.mark.parametrize("training", TRAININGS)
def test_training(tse_config, ser_config, training):
    """Losses and gradients; a reference has offset and level of its mixture."""
    size = {"channel": 64, "kernel_size": 32, "stride": 16}
    filters = {"encoder_conf": size, "decoder_conf": size, "model_conf": {"filterbank": "cosine"}}
    torch.manual_seed(0)
    model = TRAININGS[training](tse_config | filters, ser_config).train()
    expected, gradient = _step(model, _batch((0.0, -10)))
    assert gradient.norm() > 1e-3
    for change in [(0.1, -10), (0.1, -60), (-0.01, -40), (0.0, 0)]:
        loss, other = _step(model, _batch(change))
        assert loss == pytest.approx(expected, rel=1e-4, abs=1e-4), change
        assert (other - gradient).norm() < 2e-3 * gradient.norm(), change


def test_without_standardizing_all_of_this_fails(joint, recogniser, extractor, monkeypatch):
    """The models of these tests see offsets and levels, if one lets them."""
    for module in (espnet_tse_model, frontend, ssl_frontend):
        monkeypatch.setattr(module, "standardize", lambda speech, *_, **__: (speech, None))
    monkeypatch.setattr(espnet_tse_model, "restore", lambda signals, level: signals)
    changed = [_changed(mixture, (0.1, -60)) for mixture in MIXTURES]
    for (model, expected), further in ((joint, [ENROLLMENTS]), (recogniser, [])):
        results = model.recognize(changed, *further)
        difference = np.abs(_probabilities(results) - _probabilities(expected)).max()
        assert difference > 1000 * TOLERANCE
    model, expected = extractor
    for estimate, other in zip(extract(model, changed, ENROLLMENTS), expected, strict=True):
        assert si_sdr(other, estimate) < 20


def test_levels_that_count(ser_config):
    """`level_norm` false: the level changes the result, the offset does not."""
    torch.manual_seed(0)
    config = ser_config | {"frontend_conf": {"n_mels": 16, "level_norm": False}}
    model = _sharpened(build_ser_model(config))
    expected = model.recognize(MIXTURES)
    for offset in OFFSETS:
        _assert_equal(model.recognize([m + np.float32(offset) for m in MIXTURES]), expected)
    quiet = model.recognize([0.03 * mixture for mixture in MIXTURES])
    assert np.abs(_probabilities(quiet) - _probabilities(expected)).max() > 100 * TOLERANCE
