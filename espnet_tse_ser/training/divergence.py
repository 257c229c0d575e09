"""A training whose numbers are no numbers any more is stopped, before anything of it is kept.

ESPnet's trainer leaves out steps whose gradients are not finite and takes the mean of the losses
that are: a training that has diverged would go on to its end, and its model be used.
"""

import math

import torch

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.checkpoints import check_finite

# Beyond any loss of a model that learns: as many dB, or a probability of exp(-10000).
LARGEST = 1e4

# Updates in a row that may fail for gradients that are not finite, without a loss that is not. The
# scale of ``use_amp`` is halved by each: from 2 ** 16 to one at which nothing overflows.
FAILURES = 20

_REMEDY = (
    "training has diverged: lower the rate (lr of optim_conf) or grad_clip; epochs that are saved "
    "stay, and the same command goes on from the last one"
)


def checked_batches(batches, reporter, model, accum_grad=None):
    """Yield ``batches`` for ESPnet's trainer, and look after each at what it has come to.

    Args:
        batches: of ``(ids, {name: tensor})``. reporter: ESPnet's, of one phase of an epoch, which
            has read the losses anyway. model: that is trained. accum_grad: batches to an update;
            None in a validation.

    Raises:
        UserError: a loss is not finite, or beyond `LARGEST`; or so are the gradients of `FAILURES`
            updates in a row.
    """
    failures = 0
    for number, (ids, batch) in enumerate(batches, 1):
        yield ids, batch
        loss = reporter.stats["loss"][-1].value
        if not abs(loss) <= LARGEST:  # nor is NaN
            _explain(loss, ids, batch, reporter, model)
        if accum_grad is not None and number % accum_grad == 0:
            failures = 0 if _was_updated(reporter) else failures + 1
            if failures == FAILURES:
                raise UserError(
                    f"{_place(reporter)}: the gradients of {failures} updates in a row are not "
                    f"finite, though the losses are; {_REMEDY}"
                )


def check_model(model, reporter):
    """Raise `UserError` if there is NaN or infinity in the model's state."""
    check_finite(model.state_dict(), f"{_place(reporter)}: the model", _REMEDY)


def check_updated(reporter, accum_grad):
    """Raise `UserError` if an epoch that is over has not updated the model."""
    if "grad_norm" in reporter.stats:
        return
    if reporter.count < accum_grad:
        raise UserError(
            f"epoch {reporter.get_epoch()}: its {reporter.count} batches are too few for an update "
            f"of {accum_grad} (accum_grad); lower that, or train with more data or smaller batches"
        )
    raise UserError(f"{_place(reporter)}: no update of the epoch had finite gradients; {_REMEDY}")


def _was_updated(reporter):
    norms = reporter.stats.get("grad_norm")  # ESPnet reports it of what it uses only
    return norms is not None and math.isfinite(norms[-1].value)


def _explain(loss, ids, batch, reporter, model):
    where = f"{_place(reporter)}: the loss is {loss:.3g}"
    some = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    # The input first: through it the model's running means are not finite either.
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    check_finite(tensors, f"{where}, the batch of {some}", "drop what is not finite from the data")
    check_finite(model.state_dict(), f"{where}, the model", _REMEDY)
    raise UserError(f"{where} for the batch of {some}; {_REMEDY}")


def _place(reporter):
    phase = "validation" if reporter.key == "valid" else "training"
    return f"epoch {reporter.get_epoch()}, {phase} step {reporter.count}"
