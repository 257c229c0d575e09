"""Learning rates of ShiftSER, which ESPnet's schedulers cannot express.

`register` adds them to the choices of ``--scheduler``. All are closed forms of the number of steps
or epochs that are done, t, and of the optimiser's own rate.
"""

import math

from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler, AbsEpochStepScheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.numbers import Number

_STEPS, _RATE = Number(0, 2**31 - 1, whole=True), Number(0, 100)


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

    def __init__(self, optimizer, warmup: _STEPS, hold: _STEPS, total: _STEPS, last_epoch=-1):
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


class TrapezoidPerEpochLR(_Trapezoid, AbsEpochStepScheduler):
    """`_Trapezoid` whose parts are counted in epochs.

    ShiftSER's fine-tuning as it ran: it gives numbers of batches (a warm-up of 5 x 139) to a
    schedule that it steps once an epoch.
    """


SCHEDULERS = {
    "warmup_cosine": WarmupCosineLR,
    "trapezoid": TrapezoidLR,
    "trapezoid_per_epoch": TrapezoidPerEpochLR,
}


def check_steps(schedulers, steps):
    """Raise `UserError` if one of the schedulers ends before a training does.

    Args:
        schedulers: of the batches, some may be None. steps: updates of the whole training.
    """
    for scheduler in schedulers:
        if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps:
            raise UserError(
                f"scheduler_conf: onecyclelr ends after {scheduler.total_steps} steps, but the "
                f"training has {steps}; give total_steps: {steps}"
            )


def register():
    """Let ESPnet's tasks know `SCHEDULERS`; to be called before a parser is made."""
    from espnet2.tasks.abs_task import scheduler_classes

    scheduler_classes.update(SCHEDULERS)
