"""Extraction with a trained model."""

from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.checkpoints import find_weights, get_rate, load_weights, read_config
from espnet_tse_ser.data.checks import MIN_SAMPLES
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.tse.build import build_extraction_model


def load_extraction_model(model_dir, weights=None):
    """Load a pretrained extraction model, ours or ESPnet's.

    Args:
        model_dir: experiment with ``config.yaml``. weights: default ``valid.loss.best.pth``.

    Returns:
        `ESPnetTSEModel` in evaluation mode, and its sampling rate in Hz.

    Raises:
        UserError: a file is missing or broken, or the weights do not fit the configuration.
    """
    config = read_config(model_dir)
    rate = get_rate(config, "sample_rate", Path(model_dir) / "config.yaml")
    config["model_conf"] = {
        k: v
        for k, v in config.get("model_conf", {}).items()
        if k not in ("speaker_loss_weight", "num_speakers")  # of the training only
    }
    try:
        model = build_extraction_model(config)
    except UserError as error:
        raise UserError(f"{Path(model_dir) / 'config.yaml'}: {error}") from None
    weights = Path(weights) if weights else find_weights(model_dir, "valid.loss")
    load_weights(model, weights, optional=("speaker_classifier",))
    return model.eval(), rate


@torch.no_grad()
def extract(model, mixtures, enrollments):
    """Extract the targets of a batch.

    Args:
        model: `ESPnetTSEModel`. mixtures, enrollments: lists of ``(num_samples,)`` float arrays.

    Returns:
        list of ``(num_samples,)`` float32, each as long as its mixture and scaled to the level
        at which it explains the mixture best (least squares): the network's own level is
        arbitrary, because its loss is scale invariant.
    """
    from espnet_tse_ser.data.collate import pad_collate

    for signal in (*mixtures, *enrollments):
        if len(signal) < MIN_SAMPLES:
            raise UserError(f"{len(signal)} samples are too short to extract, {MIN_SAMPLES} needed")
    _, batch = pad_collate(
        [
            ("", {"mix": np.asarray(m, np.float32), "enroll": np.asarray(e, np.float32)})
            for m, e in zip(mixtures, enrollments, strict=True)
        ]
    )
    estimates, _ = model.extract(
        batch["mix"], batch["mix_lengths"], batch["enroll"], batch["enroll_lengths"]
    )
    return [
        rescale(estimate[: len(mixture)].numpy(), mixture)
        for estimate, mixture in zip(estimates, mixtures, strict=True)
    ]


def rescale(estimate, mixture):
    """Scale the estimate to the mixture (least squares), below a peak of 1.

    >>> rescale(np.array([1.0, 0.0]), np.array([0.5, 0.5])).tolist()
    [0.5, 0.0]
    """
    energy = float(np.dot(estimate, estimate))
    scale = float(np.dot(estimate, mixture)) / energy if energy > 0 else 0.0
    peak = abs(scale) * float(np.abs(estimate).max(initial=0.0))
    if peak > 0.999:
        scale *= 0.999 / peak
    return (scale * estimate).astype(np.float32)
