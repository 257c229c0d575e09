"""ESPnet's trainer, and what is awkward about it.

* Checkpoints are written in place, and before what belongs to them: see `ExtractionTrainer`.
* They are read by what runs anything that is in them, if a user lets it: see `plain_files`.
* A training that has diverged goes on to its end: see `divergence`.
* It stops at once at a signal: see `interruption`.
* The reporter averages per-batch values, which no recall can be: `EmotionTrainer` computes WA and
  UA over the whole development set.
"""

import dataclasses
import functools
import logging
import os
import resource
from pathlib import Path

import torch
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from espnet2.utils.types import str2bool

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import atomic_path, clear_all_remains, read_tsv, write_tsv
from espnet_tse_ser.metrics.emotion import macro_f1, ua, wa
from espnet_tse_ser.plain_files import DamagedFile, only_plain_files, plain
from espnet_tse_ser.training.checkpoints import load_state
from espnet_tse_ser.training.compilation import check_compile, compiled_extractors
from espnet_tse_ser.training.divergence import check_model, check_updated, checked_batches
from espnet_tse_ser.training.interruption import (
    CHECKPOINT,
    STEP_CHECKPOINT,
    Interruption,
    read_states,
    restore,
    stamped,
)
from espnet_tse_ser.training.plan import PLAN, planned
from espnet_tse_ser.training.precision import check_autocast, mixed_training
from espnet_tse_ser.training.schedulers import check_lengths, count_updates

logger = logging.getLogger(__name__)

PREVIOUS, PENDING = "checkpoint.previous.pth", "checkpoint.pending.pth"


def _save_carefully(save, value, target, *args, **kwargs):
    """``torch.save`` of what `load_plain` reads, and that is atomic.

    A checkpoint waits beside its place until it is committed.
    """
    if not isinstance(target, (str, os.PathLike)):
        return save(value, target, *args, **kwargs)
    target, value = Path(target), plain(value)
    if target.name in (CHECKPOINT, STEP_CHECKPOINT):
        value = stamped(value)
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


def _read_checkpoint(path):
    """The states in a checkpoint, or in the one before it where it is damaged."""
    remedy = f"training cannot go on from it; remove {path.parent} to train from the start"
    try:
        return read_states(path, remedy)
    except DamagedFile as error:
        previous = path.with_name(PREVIOUS)
        try:
            states = read_states(previous, remedy)
        except UserError:
            raise error from None
        logger.warning(
            "%s: is damaged (%s); going on from %s, one epoch earlier",
            *(path, error.reason, previous.name),
        )
        return states


def _restore(states, path, *, model, reporter, optimizers, schedulers, scaler, strict):
    """Let a training be where it was when these states were saved."""
    restore(model, states["model"], path, strict=strict)
    _check_reporter(states["reporter"])
    reporter.load_state_dict(states["reporter"])
    objects = [*optimizers, *schedulers, scaler]
    saved = [*states["optimizers"], *states["schedulers"], states["scaler"]]
    for value, state in zip(objects, saved, strict=True):
        if (value is None) != (state is None):
            raise ValueError("another optimizer, scheduler or precision")
        if value is not None:
            restore(value, state)


def _check_reporter(state):
    """Raise an error unless the reporter's state is one of numbers of each epoch and phase."""
    last, stats = state["epoch"], state["stats"]
    if type(last) is not int or last != len(stats) or [*stats] != [*range(1, len(stats) + 1)]:
        raise ValueError("not the reports of all epochs")
    for epoch, phases in stats.items():
        for phase, values in phases.items():
            values["total_count"]  # noqa: B018 - there has to be one
            for name, value in values.items():
                if name != "time" and not isinstance(value, (int, float)):
                    raise ValueError(f"{phase}.{name} of epoch {epoch}")


def _check_result(directory, criterion):
    """Raise `UserError` unless the training has left the weights that it was to choose."""
    phase, name, *_ = criterion
    path = directory / f"{phase}.{name}.best.pth"
    if path.is_file():
        load_state(path)
        return
    rows = read_tsv(directory / "epochs.tsv") if (directory / "epochs.tsv").is_file() else []
    reported = [c.replace("_", ".", 1) for c in (rows[0] if rows else {}) if c != "epoch"]
    if f"{phase}.{name}" in reported:
        raise UserError(
            f"{path}: is missing, though the training has ended; remove {directory} to train again"
        )
    raise UserError(
        f"{path}: the training has ended without it: best_model_criterion chooses by "
        f"{phase}.{name}, which no epoch has ({', '.join(reported) or 'there was none'}); correct "
        f"it and remove {directory} to train again"
    )


def _writes(distributed_option):
    """Whether this process is the one that writes files."""
    return not distributed_option.distributed or distributed_option.dist_rank == 0


def _unwrapped(model):
    """The model itself, of what lets several processes train it."""
    return getattr(model, "module", model)


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
    """Log how long an epoch has trained, how much of that it waited for data, and its memory."""
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
        peak += f" and, in this epoch, {torch.cuda.max_memory_allocated() / 1e9:.1f} GB on the GPU"
        torch.cuda.reset_peak_memory_stats()  # a plan's epochs differ
    share = 100 * times["iter_time"] / times["train_time"]
    logger.info(
        "epoch %d: trained %.1f s, %.1f %% of it waited for data; memory so far at most %s",
        *(reporter.get_epoch(), times["train_time"], share, peak),
    )


class _Sized:
    """Batches with the length of the iterator that they come from, if that has one."""

    def __init__(self, batches, iterator):
        self.batches, self.iterator = batches, iterator

    def __iter__(self):
        return self.batches

    def __len__(self):
        return len(self.iterator)


@dataclasses.dataclass
class _Options(TrainerOptions):
    """ESPnet's and ours."""

    config: str | None = None
    autocast: str = "none"
    compile: bool = False
    plan: list = dataclasses.field(default_factory=list)


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
        group.add_argument(
            "--plan",
            type=PLAN,
            default=[],
            help="What is frozen, and at which rate the rest is trained, from which epoch on",
        )

    @classmethod
    def build_options(cls, args):
        args.autocast = args.autocast or "none"  # YAML's "no" and "null"
        options = build_dataclass(_Options, args)
        check_autocast(options.autocast, _device(options))
        check_compile(options.compile, _device(options))
        if options.use_amp and options.autocast != "none":
            raise UserError("use_amp and autocast exclude each other; drop use_amp")
        if options.no_forward_run:
            raise UserError("no_forward_run trains nothing; drop it")
        if any(entry["lr_scale"] == 0 for entry in options.plan):
            options.unused_parameters = True  # of processes that wait for the gradients of others
        return options

    @classmethod
    def run(
        cls, *, model, schedulers, train_iter_factory, trainer_options, distributed_option, **kwargs
    ):
        directory = Path(trainer_options.output_dir)
        if _writes(distributed_option):  # of a run that was cut off: its epoch will be done again
            clear_all_remains(directory)
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
                only_plain_files(),
                mixed_training(model, trainer_options.autocast, device),
                compiled_extractors(model, trainer_options.compile),
            ):
                where = trainer_options.config or "the options"
                updates = count_updates(train_iter_factory, trainer_options.accum_grad, where)
                if updates is not None:
                    check_lengths(schedulers, updates, trainer_options.max_epoch, where)
                super().run(
                    model=model,
                    schedulers=schedulers,
                    train_iter_factory=train_iter_factory,
                    trainer_options=trainer_options,
                    distributed_option=distributed_option,
                    **kwargs,
                )
                if _writes(distributed_option):
                    _commit_checkpoint(directory)
                    _check_result(directory, trainer_options.best_model_criterion[0])
        finally:
            torch.save = save

    @classmethod
    def train_one_epoch(
        cls, *, iterator, options, distributed_option, reporter, summary_writer, **stateful
    ):
        if _writes(distributed_option):
            _commit_checkpoint(options.output_dir)
        # ESPnet leaves the gradients of the last batches, if accum_grad does not divide their
        # number; a training that was resumed would not have them.
        for optimizer in stateful["optimizers"]:
            optimizer.zero_grad()
        model = _unwrapped(stateful["model"])
        plan = planned(options.plan, model, stateful["optimizers"], reporter.get_epoch())
        with (
            plan,
            cls.interruption.training(
                iterator, options.accum_grad, reporter, **stateful
            ) as batches,
        ):
            super().train_one_epoch(
                iterator=_Sized(
                    checked_batches(batches, reporter, model, options.accum_grad),
                    iterator,
                ),
                options=options,
                distributed_option=distributed_option,
                reporter=reporter,
                summary_writer=summary_writer,
                **stateful,
            )
        check_updated(reporter, options.accum_grad)
        cls.interruption.together(check_model, model, reporter)
        if _writes(distributed_option):
            _log_resources(reporter, _device(options))
        return False  # not all steps are invalid

    @classmethod
    def validate_one_epoch(cls, *, iterator, model, reporter, **kwargs):
        with cls.interruption.validation(iterator) as batches:
            super().validate_one_epoch(
                iterator=checked_batches(batches, reporter, _unwrapped(model)),
                model=model,
                reporter=reporter,
                **kwargs,
            )
        cls.interruption.progress = True

    @staticmethod
    def resume(checkpoint, model, reporter, optimizers, schedulers, scaler, ngpu=0, strict=True):
        checkpoint = Path(checkpoint)
        states = _read_checkpoint(checkpoint)
        try:
            _restore(
                states,
                checkpoint,
                model=model,
                reporter=reporter,
                optimizers=optimizers,
                schedulers=schedulers,
                scaler=scaler,
                strict=strict,
            )
        except UserError:
            raise
        except Exception as error:  # of another model's states
            raise UserError(
                f"{checkpoint}: training cannot go on from it ({first_line(error)}): it is of "
                f"another configuration; remove {checkpoint.parent} to train from the start"
            ) from error
        logger.info("%s: going on after epoch %d", checkpoint, reporter.get_epoch())


class EmotionTrainer(ExtractionTrainer):
    """Also reports WA, UA and macro-F1 of the whole validation set as ``wa``, ``ua``, ``macro_f1``.

    The model offers ``labels``, ``reset_predictions()`` and, filled by its forward in evaluation
    mode, ``predictions``: a list of (reference index, hypothesis index).
    """

    @classmethod
    def validate_one_epoch(cls, *, model, reporter, distributed_option, **kwargs):
        emotion_model = _unwrapped(model)
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
