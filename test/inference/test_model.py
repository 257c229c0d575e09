"""`TSESER`: three lines of use, any rate and channel count, batches, errors."""

import numpy as np
import pytest
import torch
import yaml
from tiny_experiments import write_experiment

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.models.build_ser import build_ser_model


def _noise(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(num_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def joint(joint_dir):
    return TSESER.from_pretrained(joint_dir)


@pytest.fixture(scope="module")
def recogniser(ser_dir):
    return TSESER.from_pretrained(ser_dir)


def test_joint_model(joint, joint_dir):
    assert joint.extracts and joint.rate == 16000 and joint.labels == ["ang", "hap", "neu", "sad"]
    assert not joint.model.training
    mixture, enrollment = _noise(5000), _noise(3000, 1)
    result = joint(mixture, enrollment)
    assert list(result.probabilities) == joint.labels
    assert sum(result.probabilities.values()) == pytest.approx(1.0)
    assert result.label == max(result.probabilities, key=result.probabilities.get)
    assert result.rate == 16000 and result.speech.dtype == np.float32
    assert result.speech.shape == mixture.shape and np.abs(result.speech).max() <= 1
    # The same by hand, from the weights in the file.
    state = torch.load(joint_dir / "valid.ua.best.pth", weights_only=True)
    assert all(torch.equal(v, state[k]) for k, v in joint.model.state_dict().items())
    with torch.no_grad():
        estimate, logits = joint.model.extract_and_classify(
            torch.from_numpy(mixture)[None],
            torch.tensor([5000]),
            torch.from_numpy(enrollment)[None],
            torch.tensor([3000]),
        )
    expected = logits.softmax(-1)[0].tolist()
    assert list(result.probabilities.values()) == pytest.approx(expected, abs=1e-6)
    estimate = estimate[0].numpy()
    scale = np.dot(estimate, mixture - mixture.mean()) / np.dot(estimate, estimate)
    np.testing.assert_allclose(result.speech, scale * estimate, atol=1e-5)


def test_warnings(joint):
    assert joint(_noise(30000), _noise(30000, 1)).warnings == ()
    clipped = np.clip(_noise(30000), -0.1, 0.1)
    for mixture in (clipped, np.stack([clipped, _noise(30000, 2)], 1)):
        result = joint(mixture, [_noise(30000, 1), _noise(4000, 1)])
        kinds = [text.partition(":")[0] for text in result.warnings]
        assert kinds == ["mixture clipped", "enrollment short"]


def test_the_enrollment_matters(joint):
    mixture = _noise(5000)
    first, second = joint(mixture, _noise(3000, 1)), joint(mixture, np.sin(np.arange(3000) / 9.0))
    assert np.abs(first.speech - second.speech).max() > 1e-5


def test_a_recogniser_alone_needs_no_enrollment(recogniser):
    assert not recogniser.extracts
    result = recogniser(_noise(5000))
    assert result.speech is None and sum(result.probabilities.values()) == pytest.approx(1.0)


def test_results_do_not_depend_on_the_batch(joint, recogniser):
    mixtures = [_noise(n, n) for n in (5000, 1600, 3333)]
    enrollments = [_noise(n, n) for n in (1700, 4000, 2000)]
    for model, more in ((joint, [enrollments]), (recogniser, [])):
        together = model.recognize(mixtures, *more)
        for i, result in enumerate(together):
            (alone,) = model.recognize([mixtures[i]], *([e[i]] for e in more))
            assert alone.label == result.label
            assert result.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
            if model.extracts:
                np.testing.assert_allclose(result.speech, alone.speech, atol=1e-5)


def test_any_rate_and_channel_count(joint):
    time = np.arange(44100) / 44100
    stereo = np.stack([0.3 * np.sin(2 * np.pi * 440 * time), 0.1 * np.cos(900 * time)], 1)
    result = joint(stereo, stereo[:20000, :1], rate=44100)
    assert abs(len(result.speech) - 16000) <= 1 and result.rate == 16000
    mono = joint(stereo.mean(1), stereo[:20000, 0], rate=44100)
    assert result.probabilities == pytest.approx(mono.probabilities, abs=1e-5)
    np.testing.assert_allclose(result.speech, mono.speech, atol=1e-5)


def test_an_enrollment_of_another_rate(joint):
    mixture, enrollment = _noise(24000), _noise(8000, 1)
    expected = joint(mixture, enrollment, rate=48000, enrollment_rate=16000)
    by_hand = joint.recognize(
        [joint.prepare(mixture, 48000, "m")], [joint.prepare(enrollment, None, "e")]
    )
    assert expected.probabilities == by_hand[0].probabilities
    assert joint(mixture, enrollment, rate=48000).probabilities != expected.probabilities
    with pytest.raises(UserError, match="the enrollment: sampling rate in Hz: expected a whole"):
        joint(mixture, enrollment, enrollment_rate=-1)


def test_several_enrollments_of_one_target(joint):
    """They come one after the other; their levels and their order in files do not count."""
    mixture, first, second = _noise(5000), _noise(3000, 1), _noise(4000, 2)
    one = joint(mixture, [first])
    assert one.probabilities == joint(mixture, first).probabilities
    both = joint(mixture, [first, second])
    assert np.abs(both.speech - one.speech).max() > 1e-6
    level = [s * (0.05 / np.sqrt(np.mean((s - s.mean()) ** 2))) for s in (first, second)]
    expected = joint(mixture, np.concatenate(level))
    np.testing.assert_allclose(both.speech, expected.speech, atol=1e-4)
    quieter = joint(mixture, [first, 0.1 * second])
    np.testing.assert_allclose(quieter.speech, both.speech, atol=1e-5)
    with pytest.raises(UserError, match="the enrollment: is silent"):
        joint(mixture, [first, 0 * second])


GOOD = _noise(3000)


@pytest.mark.parametrize(
    ("mixture", "enrollment", "message"),
    [
        (GOOD, None, "needs an enrollment"),
        (GOOD[:0], GOOD, "the mixture: holds no samples"),
        (GOOD, GOOD[:0], "the enrollment: holds no samples"),
        (GOOD[:1599], GOOD, "the mixture: is too short: 0.100 s, at least 0.100 s"),
        (GOOD, GOOD[:100], "the enrollment: is too short: 0.006 s"),
        (GOOD * np.nan, GOOD, "the mixture: sample 0 is NaN or infinite"),
        (
            GOOD,
            np.where(np.arange(3000) == 7, np.inf, GOOD),
            "the enrollment: sample 7 is NaN or infinite",
        ),
        (GOOD * 0, GOOD, "the mixture: is silent"),
        (GOOD, GOOD * 1e-5, "the enrollment: is silent"),
        (GOOD * 0 + 0.5, GOOD, "the mixture: is silent"),
        ((GOOD * 32767).astype(np.int16), GOOD, "the mixture: must be floats.* got int16"),
        (GOOD > 0, GOOD, "the mixture: must be floats.* got bool"),
        (GOOD * 1j, GOOD, "the mixture: must be floats.* got complex"),
        (GOOD.astype(object), GOOD, "the mixture: must be floats.* got object"),
        ("m.wav", GOOD, "the mixture: give its samples, not a name"),
        (0.5, GOOD, r"the mixture: must be floats.* got float64 \(\)"),
        ([[0.1, 0.2], [0.3]], GOOD, "the mixture: is no array of samples"),
        ([], GOOD, "the mixture: holds no samples"),
        (None, GOOD, "the mixture: must be floats.* got object"),
        (GOOD.reshape(10, 10, 30), GOOD, r"the mixture: must be floats.*\(10, 10, 30\)"),
        (np.stack([GOOD, GOOD]), GOOD, "the mixture: has 3000 channels of 2 samples.* transpose"),
        (GOOD[None], GOOD, "the mixture: has 3000 channels of 1 samples.* transpose it"),
        (GOOD, np.stack([GOOD, -GOOD], 1), "the enrollment: its 2 channels cancel each other"),
        (GOOD * 1e17, GOOD, "the mixture: sample 0 is .*, which no recording has"),
        (GOOD, GOOD.astype(float) * 1e300, "the enrollment: sample 0 is .*, which no recording"),
        (GOOD * 32767 * 16, GOOD, "the mixture: sample .*, which no recording has"),
    ],
)
def test_bad_signals(joint, mixture, enrollment, message):
    with pytest.raises(UserError, match=message):
        joint(mixture, enrollment)


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf, True, "fast", 1e12, 16000.5, 1, [16000]])
def test_what_is_no_rate(joint, recogniser, rate):
    for call in (lambda: joint(GOOD, GOOD, rate=rate), lambda: recogniser(GOOD, rate=rate)):
        with pytest.raises(UserError, match="the mixture: sampling rate in Hz: expected a whole"):
            call()


@pytest.mark.parametrize("rate", ["16000", 16000.0, np.int32(16000), np.float64(16000), None])
def test_what_is_a_rate(recogniser, rate):
    expected = recogniser(GOOD).probabilities
    assert recogniser(GOOD, rate=rate).probabilities == expected
    assert recogniser(GOOD.tolist(), rate=rate).probabilities == pytest.approx(expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["ser_model", "tse_model"])
def test_what_is_not_finite_is_no_emotion(joint_dir, part, value):
    model = TSESER.from_pretrained(joint_dir)
    with torch.no_grad():
        next(getattr(model.model, part).parameters()).fill_(value)
    mixtures = [_noise(3000), _noise(4000)]
    for call, name in (
        (lambda: model(GOOD, GOOD), "the mixture"),
        (lambda: model.recognize(mixtures, mixtures), "mixture 0 of the batch"),
        (lambda: model.recognize(mixtures, mixtures, names=["a-1", "b"]), "a-1"),
    ):
        with pytest.raises(UserError, match=f"^{name}: what the model gives for it is NaN or inf"):
            call()
    if part == "ser_model":
        with pytest.raises(UserError, match="^5 to 6 s: what the model gives"):
            model.classify({"speech": GOOD}, "5 to 6 s")


def test_an_estimate_that_is_not_finite(tse_dir):
    from espnet_tse_ser.frontends.extraction import Extraction, extract, load_extraction_model

    model, rate = load_extraction_model(tse_dir)
    with torch.no_grad():
        next(model.parameters()).fill_(np.nan)
    with pytest.raises(UserError, match="^b: what the model gives for it is NaN or infinite"):
        extract(Extraction(model, rate), [GOOD], [GOOD], names=["b"])


@pytest.mark.parametrize("size", [1e20, 1e25, 3e38])
def test_an_estimate_whose_energy_is_not_finite(size):
    from espnet_tse_ser.frontends.extraction import rescale

    estimate = np.array([size, -size, size], np.float32)
    with pytest.raises(UserError, match="^b: what the model gives for it is NaN or infinite"):
        rescale(estimate, GOOD[:3], "b")


def test_a_recogniser_of_one_length(tmp_path, ser_config):
    torch.manual_seed(2)
    config = ser_config | {"frontend_conf": {"n_mels": 16, "fixed_seconds": 0.25}}
    config["frontend_conf"]["level_norm"] = False
    directory = write_experiment(tmp_path, config, build_ser_model(config), "valid.ua")
    model = TSESER.from_pretrained(directory)
    speech = _noise(9000)
    for part in (speech[:3000], speech[3000:4000], speech[4000:]):
        part -= part.mean()  # so that the offset that is taken out is that of no length
    first = model(speech[:4000])
    for samples, same in ((speech, True), (speech[:3000], False)):
        result = model(samples)
        assert (result.probabilities == pytest.approx(first.probabilities, abs=1e-6)) == same
    # Silence at the end counts, whether it is recorded or appended.
    silence = np.concatenate([speech[:3000], np.zeros(1000, np.float32)])
    assert model(silence).probabilities == pytest.approx(result.probabilities, abs=1e-6)
    batch = model.recognize([speech, speech[:3000], speech[:4000]])
    assert batch[1].probabilities == pytest.approx(result.probabilities, abs=1e-6)


def test_wrong_directories(tmp_path, tse_dir, joint_dir, joint_config):
    with pytest.raises(UserError, match="none: is no directory or archive of a model here, and"):
        TSESER.from_pretrained(tmp_path / "none")
    with pytest.raises(UserError, match="is neither a joint nor a SER model; it is a front-end"):
        TSESER.from_pretrained(tse_dir)
    with pytest.raises(UserError, match=r"holds models \(a, b\) and is none itself; .* e.g. .*/a"):
        for name in "ab":
            (tmp_path / "folds" / name).mkdir(parents=True)
            (tmp_path / "folds" / name / "config.yaml").touch()
        TSESER.from_pretrained(tmp_path / "folds")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(joint_config))
    with pytest.raises(UserError, match="valid.ua.best.pth: no such file; "):
        TSESER.from_pretrained(tmp_path)
    weights = joint_dir / "valid.ua.best.pth"
    TSESER.from_pretrained(tmp_path, weights)
    ser = joint_config["ser"] | {"frontend_conf": {"n_mels": 20}}
    config.write_text(yaml.safe_dump(joint_config | {"ser": ser}))
    with pytest.raises(UserError, match="best.pth: weights of another architecture"):
        TSESER.from_pretrained(tmp_path, weights)
    for changes, message in (
        ({"ser": ser | {"pooling": "max"}}, "ser: pooling: 'max' is not known"),
        ({"tse": joint_config["tse"] | {"encoder": "stft"}}, "tse: encoder: extractor td_s"),
        ({"model_conf": {"w": 1}}, "model_conf: unknown key 'w'"),
        ({"fs": "16k"}, "fs: expected a whole number of 1000 or more .*, got '16k'"),
    ):
        config.write_text(yaml.safe_dump(joint_config | changes))
        with pytest.raises(UserError, match=f"config.yaml: .*{message}"):
            TSESER.from_pretrained(tmp_path, weights)


@pytest.mark.parametrize("kind", ["ser_dir", "joint_dir"])
def test_silence_at_the_ends_counts_for_nothing(kind, request):
    model = TSESER.from_pretrained(request.getfixturevalue(kind))
    rng = np.random.default_rng(4)
    speech = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    enrollment = [] if kind == "ser_dir" else [speech]
    quiet = (1e-5 * rng.standard_normal(24000)).astype(np.float32)
    around = np.concatenate([quiet, speech, quiet[:9600]])
    result = model(around, *enrollment)
    (plain,) = model.recognize([around], *([e] for e in enrollment))
    if kind == "ser_dir":
        inside = around[24000 - 1600 : 40000 + 1600]
        (expected,) = model.recognize([inside])
        assert result.probabilities == pytest.approx(expected.probabilities, abs=0.02)
    else:
        np.testing.assert_allclose(result.speech, plain.speech, atol=1e-6)  # it keeps its silence
        expected = model.classify({"speech": result.speech})
        assert list(result.probabilities.values()) == pytest.approx(expected, abs=1e-9)
    assert max(abs(result.probabilities[k] - p) for k, p in plain.probabilities.items()) > 1e-4
    assert result.label == max(result.probabilities, key=result.probabilities.get)
    # Without it, all is as it was.
    (plain,) = model.recognize([speech], *([e] for e in enrollment))
    assert model(speech, *enrollment).probabilities == pytest.approx(plain.probabilities, abs=1e-5)
    silent = model.classify({"speech": np.zeros(8000, np.float32)})
    assert sum(silent) == pytest.approx(1)
