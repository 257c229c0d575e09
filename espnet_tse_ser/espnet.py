"""The one place that knows awkward corners of ESPnet (202511).

* Checkpoints are written in place: the trainers here make each save a rename.
* ``build_model_from_file`` is not strict, and ``init_param`` that matches nothing loads nothing:
  `load_weights` is strict, counts what it loads and says what does not match.
* The reporter averages per-batch values, which no recall can be: `EmotionTrainer` computes WA and
  UA over the whole development set.
"""

import contextlib
import logging
import os
import pickle
from pathlib import Path

import torch
import yaml
from espnet2.train.trainer import Trainer

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path, write_tsv
from espnet_tse_ser.metrics.emotion import macro_f1, ua, wa

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _careful_saves():
    """Within the body, ``torch.save`` to a path is atomic, and a checkpoint updates epochs.tsv."""
    save = torch.save

    def careful_save(value, target, *args, **kwargs):
        if not isinstance(target, (str, os.PathLike)):
            return save(value, target, *args, **kwargs)
        with atomic_path(target) as temporary:
            save(value, temporary, *args, **kwargs)
        if isinstance(value, dict) and "reporter" in value:
            _write_epochs(Path(target).parent / "epochs.tsv", value["reporter"]["stats"])

    torch.save = careful_save
    try:
        yield
    finally:
        torch.save = save


def _write_epochs(path, stats):
    """Write the reporter's statistics, one line an epoch: ``epoch train_loss valid_ua ...``."""
    rows = [
        {"epoch": epoch}
        | {
            f"{phase}_{name}": f"{float(value):.6g}"
            for phase, values in phases.items()
            for name, value in values.items()
            if not name.endswith("_time")
            and name not in ("time", "total_count")
            and not name.startswith("gpu_")
        }
        for epoch, phases in sorted(stats.items())
    ]
    columns = sorted({name for row in rows for name in row} - {"epoch"})
    write_tsv(
        path,
        [{c: row.get(c, "nan") for c in ["epoch", *columns]} for row in rows],
        ["epoch", *columns],
    )


class ExtractionTrainer(Trainer):
    """ESPnet's trainer with atomic checkpoints and ``epochs.tsv``."""

    @classmethod
    def run(cls, **kwargs):
        with _careful_saves():
            return super().run(**kwargs)

    @staticmethod
    def resume(checkpoint, **kwargs):
        try:
            Trainer.resume(checkpoint=checkpoint, **kwargs)
        except Exception as error:  # a damaged pickle leads its reader to KeyError, IndexError, ...
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{checkpoint}: training cannot go on from it ({reason}): it is damaged or of "
                f"another configuration; remove {Path(checkpoint).parent} to train from the start"
            ) from error


class EmotionTrainer(ExtractionTrainer):
    """Also reports WA, UA and macro-F1 of the whole validation set as ``wa``, ``ua``, ``macro_f1``.

    The model offers ``labels``, ``reset_predictions()`` and, filled by its forward in evaluation
    mode, ``predictions``: a list of (reference index, hypothesis index).
    """

    @classmethod
    def validate_one_epoch(cls, *, model, reporter, distributed_option, **kwargs):
        emotion_model = getattr(model, "module", model)
        emotion_model.reset_predictions()
        super().validate_one_epoch(
            model=model, reporter=reporter, distributed_option=distributed_option, **kwargs
        )
        predictions = list(emotion_model.predictions)
        if distributed_option.distributed:
            gathered = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, predictions)
            predictions = [pair for part in gathered for pair in part]
        references, hypotheses = zip(*predictions, strict=True)
        classes = list(range(len(emotion_model.labels)))
        reporter.register(
            {
                "wa": wa(references, hypotheses, classes),
                "ua": ua(references, hypotheses, classes),
                "macro_f1": macro_f1(references, hypotheses, classes),
            }
        )
        reporter.next()


def read_config(model_dir):
    """Read ``config.yaml`` of an experiment with the safe loader.

    Raises:
        UserError: the file is missing or is not a mapping.
    """
    path = Path(model_dir) / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; is {model_dir} a trained model?") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not valid YAML ({reason}); repair or copy it again") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a mapping of options, got {type(config).__name__}")
    return config


def find_weights(model_dir, criterion):
    """Path of the best weights of an experiment.

    Args:
        criterion: as in ESPnet's file names, e.g. ``valid.ua``.

    Raises:
        UserError: the training has not written them.
    """
    path = Path(model_dir) / f"{criterion}.best.pth"
    if not path.exists():
        raise UserError(f"{path}: no such file; has the training in {model_dir} finished?")
    return path


def load_state(path):
    """Load a state dict with ``weights_only=True``.

    Raises:
        UserError: the file is missing, truncated, or is not a plain state dict.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged pickle leads its reader to KeyError, IndexError, ...
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
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
