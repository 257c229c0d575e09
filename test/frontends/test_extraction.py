"""Loading ours and ESPnet's checkpoints, extracting with them, levels, errors."""

import numpy as np
import pytest
import torch
import yaml
from espnet2.enh.decoder.conv_decoder import ConvDecoder
from espnet2.enh.encoder.conv_encoder import ConvEncoder
from espnet2.enh.espnet_model_tse import ESPnetExtractionModel
from espnet2.enh.extractor.td_speakerbeam_extractor import TDSpeakerBeamExtractor
from espnet2.enh.loss.criterions.time_domain import SISNRLoss
from espnet2.enh.loss.wrappers.fixed_order import FixedOrderSolver
from standardized import standardized

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import (
    Embeddings,
    Extraction,
    extract,
    load_extraction_model,
    pad_signals,
    rescale,
)
from espnet_tse_ser.frontends.loading import load_front_end
from espnet_tse_ser.metrics.signal import si_sdr


def _signals(*lengths):
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


@pytest.fixture
def espnet_experiment(tmp_path, tse_config):
    """ESPnet's own model after two steps of training, and its experiment directory."""
    torch.manual_seed(0)
    encoder = ConvEncoder(**tse_config["encoder_conf"])
    model = ESPnetExtractionModel(
        encoder=encoder,
        extractor=TDSpeakerBeamExtractor(encoder.output_dim, **tse_config["extractor_conf"]),
        decoder=ConvDecoder(**tse_config["decoder_conf"]),
        loss_wrappers=[FixedOrderSolver(SISNRLoss())],
    )
    for _ in range(2):
        mixture, target, enrollment = torch.randn(3, 2, 2000)
        loss, _, _ = model.train()(speech_mix=mixture, speech_ref1=target, enroll_ref1=enrollment)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
                    parameter.grad = None
    torch.save(model.state_dict(), tmp_path / "2epoch.pth")
    (tmp_path / "valid.loss.best.pth").symlink_to("2epoch.pth")
    # As ESPnet dumps it: much else, and the defaults of the model.
    further = {"model_conf": {"num_spk": 1, "share_encoder": True}, "preprocessor": "tse"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tse_config | further | {"optim": "adam"}))
    return model.eval(), tmp_path


def test_a_checkpoint_of_espnet(espnet_experiment):
    theirs, directory = espnet_experiment
    ours, fs = load_extraction_model(directory)
    assert fs == 16000 and not ours.training
    mixtures, enrollments = _signals(4000, 3210), _signals(2500, 3333)
    for estimate, mixture, enrollment in zip(
        extract(Extraction(ours, fs), mixtures, enrollments), mixtures, enrollments, strict=True
    ):
        with torch.no_grad():
            (expected,), *_ = theirs.forward_enhance(
                torch.from_numpy(standardized(mixture))[None],
                torch.tensor([len(mixture)]),
                [torch.from_numpy(standardized(enrollment))[None]],
                [torch.tensor([len(enrollment)])],
            )
        expected = rescale(expected[0].numpy(), mixture)
        assert estimate.dtype == np.float32 and estimate.shape == mixture.shape
        np.testing.assert_allclose(estimate, expected, atol=1e-4 * np.abs(expected).max())


def test_classifier_of_the_training_is_left_out(tmp_path, tse_config, tse_dir):
    from espnet_tse_ser.models.build_tse import build_extraction_model

    conf = {"speaker_loss_weight": 0.5, "num_speakers": 9}
    trained = build_extraction_model(tse_config | {"model_conf": conf})
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    text = yaml.safe_dump(tse_config | {"model_conf": conf, "sample_rate": 8000})
    (tmp_path / "config.yaml").write_text(text)
    model, fs = load_extraction_model(tmp_path, tmp_path / "weights.pth")
    assert model.speaker_classifier is None and fs == 8000
    assert torch.equal(model.encoder.conv1d.weight, trained.encoder.conv1d.weight)


def test_independent_of_the_batch(tse_dir):
    front_end = Extraction(*load_extraction_model(tse_dir))
    mixtures, enrollments = _signals(5000, 2000, 3456), _signals(1700, 4000, 2222)
    together = extract(front_end, mixtures, enrollments)
    for i, estimate in enumerate(together):
        (alone,) = extract(front_end, mixtures[i : i + 1], enrollments[i : i + 1])
        assert estimate.shape == mixtures[i].shape
        np.testing.assert_allclose(estimate, alone, atol=1e-5)
        # Least squares: what is left of the mixture has nothing of the estimate.
        rest = mixtures[i] - mixtures[i].mean() - estimate
        assert abs(np.dot(rest, estimate)) < 1e-3 * np.dot(estimate, estimate)


def test_without_an_enrollment(enhancer_dir):
    """Alone and in a batch, at any level of the mixture; whatever enrollment is given."""
    front_end = load_front_end(enhancer_dir)
    assert isinstance(front_end, Extraction) and not front_end.needs_enrollment
    mixtures = _signals(5000, 2000, 3456)
    together = extract(front_end, mixtures)
    assert all(map(np.array_equal, together, extract(front_end, mixtures, _signals(1700) * 3)))
    for mixture, estimate in zip(mixtures, together, strict=True):
        (alone,) = extract(front_end, [0.1 * mixture + 0.2])
        assert np.abs(estimate).max() > 0.001
        np.testing.assert_allclose(10 * alone, estimate, atol=1e-5)


def test_level():
    (mixture,) = _signals(3000)
    estimate = 40.0 * mixture + 3.0 * _signals(3000, 3000)[1]
    scaled = rescale(estimate, mixture)
    best = np.linalg.lstsq(estimate[:, None], mixture - mixture.mean(), rcond=None)[0][0]
    np.testing.assert_allclose(scaled, best * estimate, rtol=1e-4)
    assert si_sdr(mixture, scaled) == pytest.approx(si_sdr(mixture, estimate), abs=1e-3)
    loud = rescale(mixture, 20.0 * mixture)  # would clip
    assert np.abs(loud).max() == pytest.approx(0.999, abs=1e-4)
    np.testing.assert_allclose(loud / np.abs(loud).max(), mixture / np.abs(mixture).max(), 1e-4)
    assert (rescale(np.zeros(9, np.float32), mixture[:9]) == 0).all()


def test_too_short(tse_dir):
    front_end = Extraction(*load_extraction_model(tse_dir))
    for lengths in ((4000, 1599), (1599, 4000)):
        with pytest.raises(UserError, match="1599 samples are too short to extract, 1600"):
            extract(front_end, *([signal] for signal in _signals(*lengths)))
    with pytest.raises(UserError, match="needs an enrollment"):
        extract(front_end, _signals(4000))


def test_errors_name_the_file(tmp_path, tse_config, tse_dir):
    with pytest.raises(UserError, match="config.yaml: no such file"):
        load_extraction_model(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tse_config))
    with pytest.raises(UserError, match="valid.loss.best.pth: no such file; "):
        load_extraction_model(tmp_path)
    larger = {"extractor_conf": tse_config["extractor_conf"] | {"hidden_dim": 24}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tse_config | larger))
    weights = tse_dir / "valid.loss.best.pth"
    with pytest.raises(UserError, match=r"best.pth: weights of another arch.*\d+ of another shape"):
        load_extraction_model(tmp_path, weights)
    deeper = {"extractor_conf": tse_config["extractor_conf"] | {"layer": 3}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tse_config | deeper))
    with pytest.raises(UserError, match=r"best.pth: weights of another arch.*[1-9]\d* missing"):
        load_extraction_model(tmp_path, weights)
    (tmp_path / "config.yaml").write_text("frontend: logmel\nlabels: [a, b]\n")
    with pytest.raises(UserError, match="config.yaml: encoder: is missing; use conv"):
        load_extraction_model(tmp_path, weights)


def test_an_enrollment_is_embedded_once(tse_dir, monkeypatch):
    model, fs = load_extraction_model(tse_dir)
    mixtures, enrollments = _signals(5000, 2000, 3456, 2500), _signals(1700, 4000)
    enrollments = [enrollments[i] for i in (0, 1, 0, 1)]
    expected = extract(Extraction(model, fs), mixtures, enrollments)
    embedded, embed = [], model.embed
    monkeypatch.setattr(model, "embed", lambda x, n: embedded.extend(n.tolist()) or embed(x, n))
    front_end = Extraction(model, fs)
    for i, (mixture, enrollment) in enumerate(zip(mixtures, enrollments, strict=True)):
        # Known by its samples: a copy is no other.
        (estimate,) = extract(front_end, [mixture], [enrollment.copy()])
        np.testing.assert_allclose(estimate, expected[i], atol=1e-5)
    assert embedded == [1700, 4000]
    with pytest.raises(UserError, match="1599 samples are too short to extract"):
        Embeddings(model, fs)(_signals(1599))


def test_a_batch_is_that_of_the_model(tse_dir):
    """The way by embeddings is `ESPnetTSEModel.extract`, to the bit."""
    model, _ = load_extraction_model(tse_dir)
    (mixture, other), enrollments = _signals(5000, 3000), _signals(1700, 4000)
    batches = [pad_signals(s, "cpu") for s in ([mixture, other], enrollments)]
    with torch.no_grad():
        estimate, embedding = model.extract(*batches[0], *batches[1])
        assert torch.equal(model.embed(*batches[1]), embedding)
        assert torch.equal(model.extract_embedded(*batches[0], embedding), estimate)
