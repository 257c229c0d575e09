"""Trained models on disk: their configuration and weights, read safely and strictly.

ESPnet's ``build_model_from_file`` is not strict, and its ``init_param`` that matches nothing loads
nothing: `load_weights` is strict, counts what it loads and says what does not match.
"""

import logging
import re
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_yaml
from espnet_tse_ser.values.kinds import Id, Several, check_option
from espnet_tse_ser.values.numbers import RATE

logger = logging.getLogger(__name__)

_CRITERIA = Several(Several(Id(), 3, 3))


def read_config(model_dir):
    """Read ``config.yaml`` of an experiment with the safe loader.

    Raises:
        UserError: the file is missing, broken or not a mapping.
    """
    if Path(model_dir).is_file():
        raise UserError(
            f"{model_dir}: is a file, not the directory of a model; unpack an archive of stage 16 "
            f"with `python3 -m zipfile -e {model_dir} DIR` and give DIR"
        )
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
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_what_to_do(Path(model_dir), criterion)}")
    return path


def weights_of(model_dir, criterion=None):
    """`find_weights` of a criterion; None: that of the experiment's configuration."""
    if criterion is None:
        path = Path(model_dir) / "config.yaml"
        criterion = chosen_criterion(read_config(model_dir), path)
    return find_weights(model_dir, criterion)


def epoch_of(weights):
    """The epoch of best weights, which are a link to those of one, as a text; else "n/a"."""
    found = re.fullmatch(r"(\d+)epoch\.pth", Path(weights).resolve().name)
    return found[1] if found else "n/a"


def _what_to_do(model_dir, criterion):
    """What a user whose model lacks the weights of a criterion can do."""
    if not model_dir.is_dir():
        return f"there is no {model_dir}: run the stage that trains it"
    place = model_dir / "config.yaml"
    config = read_yaml(place) if place.is_file() else {}
    if "best_model_criterion" in config:
        kept = _kept_criteria(config, place)
        if criterion not in kept:
            kept = ", ".join(kept)
            return f"best_model_criterion of {place} keeps {kept} only; add it and train again"
    if (model_dir / "checkpoint.pth").exists():
        return (
            f"its training has begun: run the same command again, which goes on with it, or, if "
            f"that ends without them, remove {model_dir} and train again"
        )
    return f"it was not trained: remove {model_dir} and run the stage that trains it"


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
    """Load a state dict: dense tensors of real, finite numbers by name.

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    from espnet_tse_ser.plain_files import load_plain

    state = load_plain(path, "copy it again or train it again")
    check_state(state, path)
    return state


def check_state(state, path):
    """Raise `UserError` unless ``state``, which ``path`` holds, is what `load_state` returns."""
    import torch

    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise UserError(f"{path}: is not a state dict; give weights, e.g. valid.loss.best.pth")
    for name, value in state.items():
        odd = oddity(value)
        if odd:
            raise UserError(
                f"{path}: the tensor '{name}' {odd}; weights are dense and of real numbers: "
                "give the state dict of a model as it was trained"
            )
    check_finite(state, path, "train it again, at a lower rate if it has diverged")


def check_finite(tensors, where, remedy):
    """Raise `UserError` if there is NaN or infinity in ``tensors``, a dict of dense ones."""
    import torch

    numbers = {k: v for k, v in tensors.items() if v.is_floating_point() and v.numel()}
    if not numbers:
        return
    finite = torch.stack([v.isfinite().all() for v in numbers.values()])  # a GPU is asked once
    if finite.all():
        return
    spoilt = [name for name, good in zip(numbers, finite.tolist(), strict=True) if not good]
    first = numbers[spoilt[0]]
    raise UserError(
        f"{where}: {len(spoilt)} of {len(tensors)} tensors hold NaN or infinity, first "
        f"'{spoilt[0]}' ({int((~first.isfinite()).sum())} of its {first.numel()} numbers); {remedy}"
    )


_TYPES = {
    f"torch.{name}"
    for name in "float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split()
}


def oddity(tensor):
    """What a tensor has that no weights have, or None."""
    if str(tensor.layout) != "torch.strided" or tensor.is_nested:
        return f"is sparse or nested ({tensor.layout})"
    if str(tensor.dtype) not in _TYPES:
        return f"is of the type {tensor.dtype}"
    if tensor.is_meta:
        return "has no numbers (it is on the device meta)"
    span = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() > span:  # some share their place
        return f"has a shape {tuple(tensor.shape)} of more numbers than there are"
    return None


def load_weights(module, path, optional=()):
    """Load weights strictly: every parameter must be matched, with its shape.

    Args:
        module: receives the weights. path: a state dict file.
        optional: prefixes of keys that the file may have in excess or lack (e.g. a classifier
            used in training only).

    Raises:
        UserError: of `load_state`; or keys or shapes differ, the message counts them and names the
            first; or numbers that the module has no room for.
    """
    state = load_state(path)
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
    copy_state(module, matched, path)


def check_types(module, state, path):
    """Raise `UserError` if ``state`` has whole numbers where ``module`` has others, or the reverse.

    Loaded into it, they would become its numbers without a word.
    """
    own = module.state_dict()
    for name, value in state.items():
        if name in own and own[name].is_floating_point() != value.is_floating_point():
            raise UserError(
                f"{path}: the tensor '{name}' is of the type {value.dtype}, the model's of "
                f"{own[name].dtype}; give the state dict of a model as it was trained"
            )


def copy_state(module, state, path):
    """Copy tensors of a state dict, each of which ``module`` has in this shape, into it.

    Args:
        path: where they are from.

    Raises:
        UserError: whole numbers where there are others, or the reverse; or too large ones.
    """
    check_types(module, state, path)
    own = module.state_dict()
    state = {name: value.to(own[name].dtype) for name, value in state.items()}
    check_finite(state, path, "they are too large for the model's type of numbers")
    module.load_state_dict(state, strict=False)
    numbers = sum(value.numel() for value in state.values())
    logger.info("%s: %d of %d tensors loaded, %d numbers", path, len(state), len(own), numbers)
