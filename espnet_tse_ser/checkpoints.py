"""Trained models on disk: their configuration and weights, read safely and strictly.

ESPnet's ``build_model_from_file`` is not strict, and ``init_param`` that matches nothing loads
nothing: `load_weights` is strict, counts what it loads and says what does not match.
"""

import logging
import pickle
from pathlib import Path

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.kinds import Id, Several, check_option
from espnet_tse_ser.numbers import RATE

logger = logging.getLogger(__name__)

_CRITERIA = Several(Several(Id(), 3, 3))


def read_config(model_dir):
    """Read ``config.yaml`` of an experiment with the safe loader.

    Raises:
        UserError: the file is missing, broken or not a mapping.
    """
    path = Path(model_dir) / "config.yaml"
    if not path.is_file():
        raise UserError(f"{path}: no such file; is {model_dir} a trained model?")
    return read_yaml(path)


def get_rate(config, key, path):
    """The sampling rate in Hz (default 16000) under ``key`` of ``config``, read from ``path``."""
    return check_option(config.get(key, 16000), RATE, f"{path}: {key}")


def find_weights(model_dir, criterion):
    """Path of the best weights of an experiment.

    Args:
        criterion: as in ESPnet's file names, e.g. ``valid.ua``.

    Raises:
        UserError: the training has not written them.
    """
    path = Path(model_dir) / f"{criterion}.best.pth"
    if path.exists():
        return path
    place = Path(model_dir) / "config.yaml"
    config = read_yaml(place) if place.is_file() else {}
    if "best_model_criterion" in config:
        kept = _kept_criteria(config, place)
        if criterion not in kept:
            raise UserError(
                f"{path}: no such file: best_model_criterion of {place} keeps "
                f"{', '.join(kept)} only; add it and train again"
            )
    raise UserError(f"{path}: no such file; has the training in {model_dir} finished?")


def chosen_criterion(config, path):
    """The criterion by which the model of a training is chosen, e.g. ``valid.ua``.

    It is the first of ESPnet's ``best_model_criterion`` in the configuration of the experiment,
    which was read from ``path``.
    """
    return _kept_criteria(config, path)[0]


def _kept_criteria(config, path):
    criteria = config.get("best_model_criterion", [("valid", "ua", "max")])
    criteria = check_option(criteria, _CRITERIA, f"{path}: best_model_criterion")
    return [f"{phase}.{name}" for phase, name, _ in criteria]


def load_state(path):
    """Load a state dict with ``weights_only=True``.

    Raises:
        UserError: the file is missing, truncated, or is not a plain state dict.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged pickle leads its reader to KeyError, IndexError, ...
        reason = first_line(error)
        if isinstance(error, pickle.UnpicklingError):  # whose text advises to load it all the same
            reason = "it holds other objects than tensors, or is damaged"
        raise UserError(
            f"{path}: cannot be loaded as weights ({reason}); copy it again or train it again"
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise UserError(f"{path}: is not a state dict; give weights, e.g. valid.loss.best.pth")
    return state


def load_weights(module, path, prefix="", optional=()):
    """Load weights strictly: every parameter must be matched, with its shape.

    Args:
        module: receives the weights. path: a state dict file.
        prefix: only keys ``<prefix>.*`` of the file are taken, without the prefix.
        optional: prefixes of keys that the file may have in excess or lack (e.g. a classifier
            used in training only).

    Raises:
        UserError: keys or shapes differ; the message counts them and names the first.
    """
    state = load_state(path)
    if prefix:
        state = {k[len(prefix) + 1 :]: v for k, v in state.items() if k.startswith(prefix + ".")}
    own = module.state_dict()
    skip = tuple(f"{p}." for p in optional)
    missing = [k for k in own if k not in state and not (skip and k.startswith(skip))]
    excess = [k for k in state if k not in own and not (skip and k.startswith(skip))]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    shapes = [k for k in shapes if not (skip and k.startswith(skip))]
    if missing or excess or shapes:
        first = (shapes or missing or excess)[0]
        detail = (
            f"{tuple(state[first].shape)} instead of {tuple(own[first].shape)}"
            if shapes
            else "missing in the file"
            if missing
            else "unknown to the model"
        )
        raise UserError(
            f"{path}: weights of another architecture: {len(missing)} missing, {len(excess)} "
            f"unknown, {len(shapes)} of another shape; first '{first}' ({detail}); use the "
            "configuration that the weights were trained with"
        )
    matched = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(matched, strict=False)
    logger.info("%s: %d of %d tensors loaded", path, len(matched), len(own))
