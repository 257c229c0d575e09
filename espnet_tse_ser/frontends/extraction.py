"""Extraction with a trained model."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.audio.reading import peak
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.front_end import FrontEnd
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
from espnet_tse_ser.models.build_tse import build_extraction_model
from espnet_tse_ser.training.batches import MAX_SECONDS, split_batch
from espnet_tse_ser.training.checkpoints import find_weights, get_rate, load_weights, read_config
from espnet_tse_ser.training.collate import pad_collate


def load_extraction_model(model_dir, weights=None):
    """Load a pretrained extraction or enhancement model, ours or ESPnet's.

    Args:
        model_dir: experiment with ``config.yaml``. weights: default ``valid.loss.best.pth``.

    Returns:
        `ESPnetTSEModel` in evaluation mode, and its sampling rate in Hz.

    Raises:
        UserError: a file is missing or broken, or the weights do not fit the configuration.
    """
    config = read_config(model_dir)
    path = Path(model_dir) / "config.yaml"
    rate = get_rate(config, "sample_rate", path)
    model = build_for_inference(config, path)
    load_extraction_weights(model, weights or find_weights(model_dir, "valid.loss"))
    return model, rate


def build_for_inference(config, path):
    """An `ESPnetTSEModel` in evaluation mode, without what only the training needs."""
    conf = config.get("model_conf")
    if isinstance(conf, dict):  # the loss that identifies speakers
        of_training = ("speaker_loss_weight", "num_speakers")
        conf = {k: v for k, v in conf.items() if k not in of_training}
        config = config | {"model_conf": conf}
    return build_extraction_model(config, path).eval()


def load_extraction_weights(model, path, optional=()):
    """Load the weights of a training into an `ESPnetTSEModel`, with or without its classifier.

    Args:
        optional: further parts that may be missing.
    """
    load_weights(model, Path(path), optional=("speaker_classifier", *optional))


class Extraction(FrontEnd):
    """A model of this package as a front-end; its weights must not change meanwhile.

    Args:
        model: `ESPnetTSEModel`; rate: in Hz; device: where to compute.
    """

    def __init__(self, model, rate, device="cpu"):
        super().__init__(rate, device)
        self.needs_enrollment, self.sets_level = model.needs_enrollment, model.sets_level
        self.model = model.to(device).eval()
        self._embeddings = Embeddings(self.model, rate)

    def note(self, enrollments=None):
        self._embeddings(enrollments)

    @torch.no_grad()
    def enhance(self, mixtures, lengths, enrollments=None):
        return self.model.extract_embedded(mixtures, lengths, self._embeddings(enrollments))


class Embeddings:
    """Embeddings of enrollments; each is computed once, however many mixtures it serves.

    An enrollment is known by its samples. The weights of the model must not change meanwhile.

    Args:
        model: `ESPnetTSEModel`; rate: in Hz.
    """

    def __init__(self, model, rate=16000):
        self.model, self._known = model, {}
        self._most = MAX_SECONDS * rate

    @torch.no_grad()
    def __call__(self, enrollments):
        """Embed a list of ``(num_samples,)`` float arrays: ``(B, D)``.

        None, whatever is given, for a model that needs no enrollment.

        Raises:
            UserError: one is too short.
        """
        if not self.model.needs_enrollment:
            return None
        arrays = [np.ascontiguousarray(e, np.float32) for e in enrollments]
        _check_lengths(arrays)
        keys = [hashlib.sha256(array).digest() for array in arrays]
        new = {k: a for k, a in zip(keys, arrays, strict=True) if k not in self._known}
        if new:
            for part in split_batch(list(new), [len(array) for array in new.values()], self._most):
                batch, lengths = pad_signals([new[key] for key in part], device_of(self.model))
                embedded = self.model.embed(batch, lengths)
                self._known |= zip(part, embedded, strict=True)
        return torch.stack([self._known[key] for key in keys])


def device_of(model):
    """Where the weights of a model are."""
    return next(model.parameters()).device


def pad_signals(signals, device):
    """Pad a list of arrays into a batch on ``device``: ``(B, T, ...)`` and lengths ``(B,)``."""
    _, batch = pad_collate([("", {"x": np.asarray(s, np.float32)}) for s in signals])
    return batch["x"].to(device), batch["x_lengths"].to(device)


def extract(front_end, mixtures, enrollments=None, names=None):
    """Estimate the targets of a batch.

    Args:
        front_end: `FrontEnd`. mixtures: list of ``(num_samples,)`` float arrays; enrollments: the
            same, where it needs them. names: what errors call the mixtures.

    Returns:
        list of ``(num_samples,)`` float32, each as long as its mixture and scaled by `rescale`.

    Raises:
        UserError: a mixture is too short, or what is extracted of it is not finite.
    """
    _check_lengths(mixtures)
    if front_end.needs_enrollment and enrollments is None:
        raise UserError("this front-end extracts the target and needs an enrollment of it")
    batch = pad_signals(mixtures, front_end.device)
    estimates = front_end.enhance(*batch, enrollments)
    names = names or [f"mixture {number} of the batch" for number in range(len(mixtures))]
    return [
        rescale(estimate[: len(mixture)].cpu().numpy(), mixture, name, front_end.sets_level)
        for estimate, mixture, name in zip(estimates, mixtures, names, strict=True)
    ]


def _check_lengths(signals):
    for signal in signals:
        if len(signal) < MIN_SAMPLES:
            raise UserError(f"{len(signal)} samples are too short to extract, {MIN_SAMPLES} needed")


def check_output(values, name):
    """Raise `UserError` if what a model gives for the signal ``name`` is not finite."""
    if not np.isfinite(values).all():
        raise UserError(
            f"{name}: what the model gives for it is NaN or infinite: its weights are damaged or "
            "its training diverged; take the weights of another epoch, or train it again"
        )


def rescale(estimate, mixture, name="the mixture", sets_level=False):
    """Scale the estimate to the level at which it explains the mixture best, below a peak of 1.

    That is by least squares, the mixture without its offset: a network's own level is arbitrary
    where its loss is scale invariant. Where it is not (``sets_level``, of a `FrontEnd`) the
    estimate keeps its level: silence stays silent.

    Raises:
        UserError: it is not finite; the error calls the mixture ``name``.

    >>> rescale(np.array([1.0, -1.0]), np.array([0.75, 0.25])).tolist()
    [0.25, -0.25]
    """
    check_output(estimate, name)
    mixture = mixture - mixture.mean(dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        product, energy = (float(np.dot(estimate, other)) for other in (mixture, estimate))
    level = level_to_mixture(product, energy, float(peak(estimate)), sets_level, name)
    return (level * estimate).astype(np.float32)


def level_to_mixture(product, energy, peak, sets_level=False, name="the mixture"):
    """The factor of `rescale`; its errors.

    Args:
        product: inner product of estimate and mixture; energy: that of the estimate with itself;
        peak: the greatest magnitude of the estimate.
    """
    check_output([product, energy], name)  # those of numbers that are huge are not
    scale = 1.0 if sets_level else product / energy if energy > 0 else 0.0
    loudest = abs(scale) * peak
    return scale * (0.999 / loudest) if loudest > 0.999 else scale
