"""Temperature, presence of the target, and the file that has them; level of what is extracted."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from tiny_experiments import write_experiment

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import checksum
from espnet_tse_ser.frontends.extraction import Extraction, extract, rescale
from espnet_tse_ser.inference.calibration import (
    _RIDGE,
    Calibration,
    fit_presence,
    fit_temperature,
    nll,
    read_calibration,
    temper,
    to_bytes,
)
from espnet_tse_ser.inference.evidence import FEATURES, evidence
from espnet_tse_ser.inference.frames import Frames
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.packing import pack
from espnet_tse_ser.models.build_joint import build_joint_model

PRESENCE = {"bias": -0.5} | dict(zip(FEATURES, (0.03, 2.0, 1.5, -1.0, 0.7, 3.0, -0.4), strict=True))


def _noise(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


@pytest.fixture
def calibrated(tmp_path, joint_dir):
    """A joint experiment with a calibration of numbers that nobody fitted."""
    directory = tmp_path / "calibrated"
    shutil.copytree(joint_dir, directory)
    weights = checksum(directory / "valid.ua.best.pth")
    made = Calibration(weights, 2.5, PRESENCE, {"trials": 3})
    (directory / "calibration.json").write_bytes(to_bytes(made))
    return directory


def test_temperature():
    rng = np.random.default_rng(0)
    for sharpness in (0.4, 1.0, 3.0):
        logits = rng.normal(size=(300, 4))
        reference = np.array([rng.choice(4, p=softmax(row)) for row in logits])
        raw = softmax(sharpness * logits, axis=1)
        found = fit_temperature(raw, reference)

        def loss(t, logits=sharpness * logits, reference=reference):
            return -log_softmax(logits / t, axis=1)[np.arange(300), reference].mean()

        expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded")
        assert found == pytest.approx(expected.x, rel=1e-3)
        assert nll(temper(raw, found), reference) == pytest.approx(expected.fun, rel=1e-6)
        np.testing.assert_allclose(
            temper(raw, found), softmax(sharpness * logits / found, axis=1), atol=1e-9
        )
    # Nothing but right or wrong answers: as far as it goes.
    assert fit_temperature([[0.9, 0.1]] * 3, [0, 0, 0]) < 0.06
    assert fit_temperature([[0.9, 0.1]] * 3, [1, 1, 1]) == pytest.approx(20)


def test_presence():
    rng = np.random.default_rng(1)
    present = rng.random(200) < 0.3
    spread, shift = [10, 1, 0.1, 1, 0, 0.1, 0.1], [9, 0, 0.1, 1, 0, 0.1, 0]
    x = rng.normal(size=(200, 7)) * spread + present[:, None] * shift
    weights = np.where(present, 0.5 / present.sum(), 0.5 / (~present).sum())
    found = fit_presence(x, present, weights)
    scale = np.sqrt(weights @ np.square(x - weights @ x)) + 1e-6

    def loss(values):
        odds = x @ values[1:] + values[0]
        log_loss = np.logaddexp(0, odds) - present * odds
        return weights @ log_loss + _RIDGE / 2 * np.sum(np.square(values[1:] * scale))

    values = [found[name] for name in ("bias", *FEATURES)]
    expected = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-9})
    assert loss(values) == pytest.approx(expected.fun, abs=1e-8)
    assert found["over_suppressed"] == pytest.approx(0, abs=1e-6)  # says nothing: is constant
    made = Calibration("", 1.0, found, {})
    judged = np.array(made.target_present(x))
    assert judged[present].mean() > 0.7 and judged[~present].mean() < 0.3
    # What can be separated has an answer, too, and half of the weight is a prior of half.
    found = fit_presence(x, x[:, 0] > 4, np.full(200, 1 / 200))
    assert all(np.isfinite(list(found.values())))
    assert weights @ judged == pytest.approx(0.5, abs=1e-6)


def test_the_file(calibrated, tmp_path, joint_dir):
    path, weights = calibrated / "calibration.json", calibrated / "valid.ua.best.pth"
    made = read_calibration(calibrated, weights)
    assert made.temperature == 2.5 and made.presence == PRESENCE
    assert read_calibration(joint_dir, weights) is None
    content = json.loads(path.read_text())
    for changes, message in (
        ({"weights": "0" * 64}, "was fitted to other weights than .*best.pth; run `tse-ser cal"),
        ({"presence_with_voice": None}, "is of an older version; run `tse-ser calibrate` again"),
        ({"temperature": 0}, "temperature: expected a number of 0.05 or more and of 20"),
        ({"presence": PRESENCE | {"pitch": 1}}, "presence: unknown key 'pitch'"),
        ({"presence": {"bias": 1}}, "presence has no level; run `tse-ser calibrate` again"),
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises(UserError, match=f"calibration.json: {message}"):
            TSESER.from_pretrained(calibrated)
    # Other weights than those chosen have none.
    assert TSESER.from_pretrained(calibrated, weights).calibration is None
    assert TSESER.from_pretrained(calibrated, calibrated=False).calibration is None


def test_a_calibrated_model(calibrated, joint_dir):
    model, raw = TSESER.from_pretrained(calibrated), TSESER.from_pretrained(joint_dir)
    mixture, enrollment = _noise(9000), _noise(5000, 1)
    result, before = model(mixture, enrollment), raw(mixture, enrollment)
    assert result.calibrated and not before.calibrated
    assert before.target_present is before.evidence is None
    expected = temper([list(before.probabilities.values())], 2.5)[0]
    assert list(result.probabilities.values()) == pytest.approx(expected, abs=1e-9)
    assert result.label == before.label and np.array_equal(result.speech, before.speech)
    odds = PRESENCE["bias"] + result.evidence @ [PRESENCE[name] for name in FEATURES]
    assert result.target_present == pytest.approx(1 / (1 + np.exp(-odds)))
    assert 0 <= result.over_suppressed == before.over_suppressed <= 1
    row = model.classify({"speech": mixture})
    assert row == pytest.approx(temper([raw.classify({"speech": mixture})], 2.5)[0])


def test_evidence(calibrated):
    model = TSESER.from_pretrained(calibrated)
    signals = [_noise(n, n) for n in (9000, 4000)], [_noise(n, n) for n in (3000, 5000)]
    together = model.recognize(*signals)
    for factor in (1.0, 0.01):  # alone, and at another level
        for index, expected in enumerate(together):
            (alone,) = model.recognize([factor * signals[0][index]], [signals[1][index]])
            assert alone.evidence == pytest.approx(expected.evidence, abs=1e-3)
    mixture, _ = signals[0]
    same = model.embeddings()([mixture])

    def found(*estimates):
        count = len(estimates)
        given = [mixture] * count, list(estimates), [mixture] * count, same.repeat(count, 1)
        return evidence(model.model.tse_model, model.voices, *given, 16000)

    half, nothing = found(mixture / 2, 0 * mixture)
    assert half == pytest.approx([-6.02, 1, 1, 1, 0, 1, 1], abs=1e-2)
    assert nothing[:2].tolist() == [-60, 0] and nothing[4] == 1 and np.isfinite(nothing).all()
    other = found(np.sin(np.arange(9000, dtype=np.float32) / 5))[0]
    assert other[2] < 0.9999 and other[5] < 0.9 and other[6] == pytest.approx(1, abs=1e-4)


def test_over_suppressed():
    mixture = np.repeat(np.float32([0.5, 0.1, 0.001]), 3200) * _noise(9600)
    gain = np.repeat(np.float32([1, 0.05, 1]), 3200)
    frames = Frames(16000)
    frames.add(mixture, mixture * gain)  # of the two parts that are active one is suppressed
    assert frames.over_suppressed() == 0.5
    gentle = Frames(16000)
    gentle.add(mixture, mixture * gain.clip(0.2))
    assert gentle.over_suppressed() == 0
    silent = Frames(16000)
    silent.add(0 * mixture, 0 * mixture)
    assert silent.over_suppressed() is None and Frames(16000).over_suppressed() is None


@pytest.mark.parametrize("criterion", ["si_snr", "thresholded_snr", "snr"])
def test_silence_stays_silent_where_the_level_is_trained(
    tmp_path, tse_config, joint_config, criterion
):
    losses = [dict(tse_config["criterions"][0], name=criterion, conf={})]
    config = joint_config | {"tse": tse_config | {"criterions": losses}}
    torch.manual_seed(3)
    model = build_joint_model(config)
    with torch.no_grad():
        model.tse_model.decoder.convtrans1d.weight *= 1e-3  # next to nothing is extracted
    exp = write_experiment(tmp_path / "exp", config, model, "valid.ua")
    mixture, enrollment = _noise(9000), _noise(5000, 1)
    result = TSESER.from_pretrained(exp)(mixture, enrollment)
    front_end = Extraction(model.tse_model, 16000)
    (extracted,) = extract(front_end, [mixture], [enrollment])
    np.testing.assert_allclose(extracted, result.speech, atol=1e-4)
    level = np.sqrt(np.mean(result.speech**2) / np.mean(mixture**2))
    is_silent = criterion != "si_snr"
    assert front_end.sets_level == is_silent
    assert (level < 0.01) == is_silent
    assert result.over_suppressed == 1 or not is_silent


def test_what_keeps_its_level_does_not_clip():
    mixture = _noise(1000)
    np.testing.assert_array_equal(rescale(0.1 * mixture, mixture, "m", True), 0.1 * mixture)
    assert np.abs(rescale(100 * mixture, mixture, "m", True)).max() == pytest.approx(0.999)
    with pytest.raises(UserError, match="^m: what the model gives for it is NaN or infinite"):
        rescale(np.full(1000, 3e38, np.float32), mixture, "m", True)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("output", ["packed", "packed.zip"])
def test_packing_takes_it_along(calibrated, tmp_path, small, output):
    pack(calibrated, tmp_path / output, small)
    model, expected = TSESER.from_pretrained(tmp_path / output), TSESER.from_pretrained(calibrated)
    assert dataclasses.replace(model.calibration, weights="") == dataclasses.replace(
        expected.calibration, weights=""
    )
    signals = _noise(9000), _noise(5000, 1)
    result, other = model(*signals), expected(*signals)
    assert result.target_present == pytest.approx(other.target_present, abs=5e-3)
    assert result.probabilities == pytest.approx(other.probabilities, abs=1e-3)
    if output == "packed":  # another model in the same place, that has none
        (calibrated / "calibration.json").unlink()
        pack(calibrated, tmp_path / output, small)
        assert TSESER.from_pretrained(tmp_path / output).calibration is None
