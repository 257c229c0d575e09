"""Learning rates: those of ShiftSER, which ESPnet's schedulers cannot express, and their lengths.

`register` adds ShiftSER's to the choices of ``--scheduler``. All are closed forms of the number of
steps or epochs that are done, t, and of the optimiser's own rate.

A schedule that counts steps belongs to one size of data. So its options may be in epochs ("5
epochs"), which become steps once the data is there (`in_steps`), and steps that do not fit the
training are refused (`check_lengths`).
"""

import logging
import math
import re
from collections.abc import Sized
from dataclasses import dataclass

from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler, AbsEpochStepScheduler
from espnet2.schedulers.exponential_decay_warmup import ExponentialDecayWarmup
from espnet2.schedulers.tristage_lr import TristageLR
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Kind
from espnet_tse_ser.values.numbers import Number

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steps(Kind):
    """A number of steps (updates of the weights), or of epochs as a text: "5 epochs".

    Args:
        least: the smallest number of steps.
    """

    least: int = 0

    def read(self, value):
        if _epochs(value) is not None:
            return value
        return Number(self.least, 2**31 - 1, whole=True)(value)

    def __str__(self):
        return f"a whole number of {self.least} or more, or epochs, e.g. '5 epochs'"


_STEPS, _RATE = Steps(), Number(0, 100)
_EPOCHS = Number(0, 2**31 - 1, whole=True)


class WarmupCosineLR(LRScheduler, AbsBatchStepScheduler):
    """Linear from ``init_lr`` to the optimiser's rate lr, then a cosine to ``min_lr``.

    After t steps: ``init_lr + (lr - init_lr) t / warmup_steps`` in the warm-up, then
    ``min_lr + (lr - min_lr) (1 + cos(pi t / max_steps)) / 2``, and ``min_lr`` in the end. The
    cosine counts from the first step, as timm's does, which ShiftSER uses: at the end of a short
    warm-up the rate falls a little below lr at once.

    Args:
        optimizer: has lr. warmup_steps, max_steps: in batches. init_lr, min_lr: rates.
    """

    def __init__(
        self,
        optimizer,
        warmup_steps: _STEPS,
        max_steps: _STEPS,
        init_lr: _RATE,
        min_lr: _RATE,
        last_epoch=-1,
    ):
        if not 0 <= warmup_steps < max_steps:
            raise ValueError(
                f"warmup_steps {warmup_steps} must be less than max_steps "
                f"{max_steps}, and neither negative"
            )
        self.warmup_steps, self.max_steps = warmup_steps, max_steps
        self.init_lr, self.min_lr = init_lr, min_lr
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """Rates of the parameter groups after ``last_epoch`` steps (torch's name for them)."""
        step = self.last_epoch
        if step < self.warmup_steps:
            share = step / self.warmup_steps
            return [self.init_lr + (lr - self.init_lr) * share for lr in self.base_lrs]
        share = (1 + math.cos(math.pi * min(step / self.max_steps, 1))) / 2
        return [self.min_lr + (lr - self.min_lr) * share for lr in self.base_lrs]


class _Trapezoid(LRScheduler):
    """Linear from 0 to the optimiser's rate, flat, linear to 0.

    Args:
        optimizer: has the rate. warmup, hold: length of the first two parts; total: of all.
    """

    def __init__(self, optimizer, warmup, hold, total, last_epoch=-1):
        if min(warmup, hold) < 0 or warmup + hold >= total:
            raise ValueError(
                f"warmup {warmup} and hold {hold} together must be less than "
                f"total {total}, and neither negative"
            )
        self.warmup, self.hold, self.total = warmup, hold, total
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """Rates of the parameter groups after ``last_epoch`` steps or epochs."""
        done = self.last_epoch
        if done < self.warmup:
            factor = done / self.warmup
        else:
            left = (self.total - done) / (self.total - self.warmup - self.hold)
            factor = min(1.0, max(0.0, left))
        return [lr * factor for lr in self.base_lrs]


class TrapezoidLR(_Trapezoid, AbsBatchStepScheduler):
    """`_Trapezoid` whose parts are counted in batches: ShiftSER's fine-tuning as it was meant."""

    def __init__(self, optimizer, warmup: _STEPS, hold: _STEPS, total: _STEPS, last_epoch=-1):
        super().__init__(optimizer, warmup, hold, total, last_epoch)


class TrapezoidPerEpochLR(_Trapezoid, AbsEpochStepScheduler):
    """`_Trapezoid` whose parts are counted in epochs.

    ShiftSER's fine-tuning as it ran: it gives numbers of batches (a warm-up of 5 x 139) to a
    schedule that it steps once an epoch.
    """

    def __init__(self, optimizer, warmup: _EPOCHS, hold: _EPOCHS, total: _EPOCHS, last_epoch=-1):
        super().__init__(optimizer, warmup, hold, total, last_epoch)


SCHEDULERS = {
    "warmup_cosine": WarmupCosineLR,
    "trapezoid": TrapezoidLR,
    "trapezoid_per_epoch": TrapezoidPerEpochLR,
}


_LENGTHS = {  # what says of a scheduler of batches how long it is
    WarmupCosineLR: "max_steps",
    TrapezoidLR: "total",
    TristageLR: "max_steps",
    ExponentialDecayWarmup: "total_steps",
    OneCycleLR: "total_steps",
}


def register():
    """Add `SCHEDULERS` to those of ESPnet's tasks; to be called before a parser is made."""
    from espnet2.tasks.abs_task import scheduler_classes

    scheduler_classes.update(SCHEDULERS)


def has_epochs(conf):
    """Whether an option of a ``scheduler_conf`` is in epochs."""
    return any(_epochs(value) is not None for value in conf.values())


def in_steps(conf, updates):
    """A ``scheduler_conf`` with steps in place of its epochs.

    Args:
        updates: of an epoch.

    >>> in_steps({"warmup_steps": "0.5 epochs", "max_steps": "30 epochs", "min_lr": 0.1}, 18)
    {'warmup_steps': 9, 'max_steps': 540, 'min_lr': 0.1}
    """
    epochs = {name: _epochs(value) for name, value in conf.items()}
    return conf | {name: round(n * updates) for name, n in epochs.items() if n is not None}


def count_updates(iter_factory, accum_grad, where):
    """Updates of the weights in an epoch; None if its batches are not known beforehand.

    ``where`` begins messages: the file of the configuration.

    Raises:
        UserError: there is none.
    """
    batches = iter_factory.build_iter(1)
    if not isinstance(batches, Sized):
        return None
    if len(batches) < accum_grad:
        raise UserError(
            f"{where}: accum_grad: {accum_grad} batches make one update, but an epoch has "
            f"{len(batches)}; give less, or smaller batches"
        )
    return len(batches) // accum_grad


def check_lengths(schedulers, updates, epochs, where):
    """Hold the lengths of schedules against that of the training.

    A training that goes on for longer is logged, since its rate stays what it is in the end.

    Args:
        schedulers: some may be None. updates: of an epoch. epochs: of the whole training.
        where: beginning of messages, the file of the configuration.

    Raises:
        UserError: the training ends long before the schedule (its rate would not come down), or
            goes on after the end of one that allows no further step.
    """
    steps = updates * epochs
    for scheduler in schedulers:
        name = _LENGTHS.get(type(scheduler))
        length = steps if name is None else getattr(scheduler, name)
        sizes = (
            f"{where}: scheduler_conf: {name} is {length} steps, but the training has {steps}: "
            f"{epochs} epochs of {updates}"
        )
        if steps < 0.875 * length or isinstance(scheduler, OneCycleLR) and steps > length:
            raise UserError(f"{sizes}; give {name}: {epochs} epochs, or another max_epoch")
        if steps > 1.125 * length:
            logger.warning("%s; the rate stays what it is in the end", sizes)


def _epochs(value):
    """The number of a text such as "5 epochs"; None if it is no such text."""
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*epochs?\s*", value) if isinstance(value, str) else None
    )
    return found and float(found[1])
