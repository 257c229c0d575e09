"""The one place that knows awkward corners of ESPnet (202511).

* Checkpoints are written in place, and before what belongs to them: see `ExtractionTrainer`.
* It stops at once at a signal: see `interruption`.
* The reporter averages per-batch values, which no recall can be: `EmotionTrainer` computes WA and
  UA over the whole development set.
"""

import dataclasses
import functools
import logging
import os
import resource
from collections.abc import Sized
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from espnet2.utils.types import str2bool

from espnet_tse_ser.compilation import check_compile, compiled_extractors
from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import atomic_path, write_tsv
from espnet_tse_ser.interruption import CHECKPOINT, STEP_CHECKPOINT, Interruption
from espnet_tse_ser.metrics.emotion import macro_f1, ua, wa
from espnet_tse_ser.precision import check_autocast, mixed_training

logger = logging.getLogger(__name__)

PREVIOUS, PENDING = "checkpoint.previous.pth", "checkpoint.pending.pth"


def _save_carefully(save, value, target, *args, **kwargs):
    """``torch.save`` that is atomic; a checkpoint waits beside its place until it is committed."""
    if not isinstance(target, (str, os.PathLike)):
        return save(value, target, *args, **kwargs)
    target = Path(target)
    checkpoint = target.name == CHECKPOINT
    with (
        atomic_path(target.with_name(PENDING) if checkpoint else target) as temporary,
        open(temporary, "wb") as stream,
    ):
        try:
            save(value, stream, *args, **kwargs)
        except RuntimeError as error:  # torch buries why it could not write, e.g. a full disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    if checkpoint:
        _write_epochs(target.with_name("epochs.tsv"), value["reporter"]["stats"])


def _commit_checkpoint(directory):
    """Put the checkpoint in its place, now that all that belongs to its epoch is written."""
    directory = Path(directory)
    if not (directory / PENDING).exists():
        return
    if (directory / CHECKPOINT).exists():
        # A second name, not a move: at every moment there is a checkpoint.
        (directory / f"{PREVIOUS}.new").unlink(missing_ok=True)
        os.link(directory / CHECKPOINT, directory / f"{PREVIOUS}.new")
        os.replace(directory / f"{PREVIOUS}.new", directory / PREVIOUS)
    os.replace(directory / PENDING, directory / CHECKPOINT)
    (directory / STEP_CHECKPOINT).unlink(missing_ok=True)


def _is_damaged(checkpoint):
    """Whether a checkpoint is missing or cannot be read."""
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=False)
    except Exception:  # a damaged pickle leads its reader to KeyError, IndexError, ...
        return True
    return False


def _writes(distributed_option):
    """Whether this process is the one that writes files."""
    return not distributed_option.distributed or distributed_option.dist_rank == 0


def _device(options):
    return "cuda" if options.ngpu > 0 else "cpu"


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


def _log_resources(reporter, device):
    """Log which share of an epoch's training has waited for data, and how much memory it took."""
    times = {
        name: sum(v.value for v in reporter.stats[name] if v.value == v.value)  # others are nan
        for name in ("iter_time", "train_time")
        if name in reporter.stats
    }
    if not times.get("train_time"):
        return
    # Kilobytes on Linux; of this process, without those that prepare its data.
    peak = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
    if device == "cuda":
        peak += f" and {torch.cuda.max_memory_allocated() / 1e9:.1f} GB on the GPU"
    share = 100 * times["iter_time"] / times["train_time"]
    logger.info(
        "epoch %d: waited for data %.1f %% of the training; memory so far at most %s",
        *(reporter.get_epoch(), share, peak),
    )


@dataclasses.dataclass
class _Options(TrainerOptions):
    """ESPnet's and ours."""

    autocast: str = "none"
    compile: bool = False


class ExtractionTrainer(Trainer):
    """ESPnet's trainer, with checkpoints that survive a crash or a signal, and ``epochs.tsv``.

    ESPnet writes the checkpoint of an epoch first, then its weights and the links to the best
    ones: after a crash between them the epoch would count as done without these. Here the
    checkpoint takes its place last, and the one before it is kept.
    """

    @classmethod
    def add_arguments(cls, parser):
        group = parser.add_argument_group("Trainer of espnet_tse_ser")
        group.add_argument(
            "--autocast",
            default="none",
            help="bfloat16: mixed precision, on GPUs and CPUs; in place of ESPnet's use_amp",
        )
        group.add_argument(
            "--compile",
            type=str2bool,
            default=False,
            help="Compile the extractor on a GPU; the first steps then take minutes",
        )

    @classmethod
    def build_options(cls, args):
        args.autocast = args.autocast or "none"  # YAML's "no" and "null"
        options = build_dataclass(_Options, args)
        check_autocast(options.autocast, _device(options))
        check_compile(options.compile, _device(options))
        if options.use_amp and options.autocast != "none":
            raise UserError("use_amp and autocast exclude each other; drop use_amp")
        return options

    @classmethod
    def run(cls, *, model, trainer_options, distributed_option, **kwargs):
        directory = Path(trainer_options.output_dir)
        if _writes(distributed_option):  # of a run that was cut off: its epoch will be done again
            (directory / PENDING).unlink(missing_ok=True)
            if not trainer_options.resume:
                (directory / STEP_CHECKPOINT).unlink(missing_ok=True)
        save = torch.save
        torch.save = functools.partial(_save_carefully, save)
        device = _device(trainer_options)
        cls.interruption = Interruption(directory, distributed_option, device, torch.save)
        try:
            with (
                cls.interruption.noted_signals(),
                mixed_training(model, trainer_options.autocast, device),
                compiled_extractors(model, trainer_options.compile),
            ):
                super().run(
                    model=model,
                    trainer_options=trainer_options,
                    distributed_option=distributed_option,
                    **kwargs,
                )
                if _writes(distributed_option):
                    _commit_checkpoint(directory)
        finally:
            torch.save = save

    @classmethod
    def train_one_epoch(
        cls, *, iterator, options, distributed_option, reporter, summary_writer, **stateful
    ):
        if isinstance(iterator, Sized) and len(iterator) < options.accum_grad:
            raise UserError(
                f"accum_grad: {options.accum_grad} batches make one update, but an epoch has "
                f"{len(iterator)}; give less, or smaller batches"
            )
        if _writes(distributed_option):
            _commit_checkpoint(options.output_dir)
        # ESPnet leaves the gradients of the last batches, if accum_grad does not divide their
        # number; a training that was resumed would not have them.
        for optimizer in stateful["optimizers"]:
            optimizer.zero_grad()
        all_steps_are_invalid = super().train_one_epoch(
            iterator=cls.interruption.training(iterator, options.accum_grad, reporter, **stateful),
            options=options,
            distributed_option=distributed_option,
            reporter=reporter,
            summary_writer=summary_writer,
            **stateful,
        )
        if _writes(distributed_option):
            _log_resources(reporter, _device(options))
        # Of the steps of this process: those before an interruption may have been valid.
        return all_steps_are_invalid and "grad_norm" not in reporter.stats

    @classmethod
    def validate_one_epoch(cls, *, iterator, **kwargs):
        super().validate_one_epoch(iterator=cls.interruption.validation(iterator), **kwargs)
        cls.interruption.progress = True

    @staticmethod
    def resume(checkpoint, **kwargs):
        checkpoint = Path(checkpoint)
        previous = checkpoint.with_name(PREVIOUS)
        try:
            Trainer.resume(checkpoint=checkpoint, **kwargs)
        except Exception as error:  # of a damaged pickle, or of another model's states
            reason = first_line(error)
            if checkpoint != previous and _is_damaged(checkpoint) and not _is_damaged(previous):
                logger.warning(
                    "%s: is damaged (%s); going on from %s, one epoch earlier",
                    *(checkpoint, reason, previous.name),
                )
                return ExtractionTrainer.resume(previous, **kwargs)
            raise UserError(
                f"{checkpoint}: training cannot go on from it ({reason}): it is damaged or of "
                f"another configuration; remove {checkpoint.parent} to train from the start"
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
