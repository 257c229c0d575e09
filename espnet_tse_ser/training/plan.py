"""A plan of training: what is frozen and at which rate the rest is trained, from epoch to epoch.

In a configuration it is a list of what holds from an epoch on::

    plan:
      - {from_epoch: 1, modules: [frontend.ssl], lr_scale: 0}      # frozen
      - {from_epoch: 5, modules: [frontend.ssl], lr_scale: 0.5}    # half the rate of the others

Of the entries that name a parameter, or a module around it, the one of the latest epoch rules. What
no entry names is trained at the rate of the optimizer. A frozen module has no gradient, weight
decay or moments, and is in evaluation mode: its running means stay, and nothing is dropped.

All of it follows from the number of the epoch, so a training that goes on needs nothing more.
"""

import contextlib
import dataclasses
import logging
from dataclasses import dataclass

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Mapping, Several, Text, check_options
from espnet_tse_ser.values.numbers import Number, shown

logger = logging.getLogger(__name__)

PLAN = Several(Mapping(), 0)  # the kind of the option


@dataclass(frozen=True)
class Entry:
    """What holds from an epoch on.

    Args:
        from_epoch: the first one is 1. modules: names of modules or parameters of the model.
        lr_scale: factor of the rate that optimizer and scheduler give; 0 freezes.
    """

    from_epoch: Number(1, whole=True)
    modules: Several(Text())
    lr_scale: Number(0, 1000)


def check_plan(plan, max_epoch, where):
    """Check a plan as far as that is possible without a model.

    Args:
        plan: of the kind `PLAN`. max_epoch: of the training. where: beginning of messages.

    Returns:
        list of dicts of what is meant.

    Raises:
        UserError: a value does not fit, an epoch never comes, or two entries of one epoch name the
            same module or one within the other.
    """
    checked, seen = [], []
    for number, entry in enumerate(plan):
        place = f"{where}[{number}]"
        entry = Entry(**check_options(entry, Entry, place))
        if entry.from_epoch > max_epoch:
            raise UserError(
                f"{place}: from_epoch: {entry.from_epoch} never comes: max_epoch is {max_epoch}; "
                "correct one of them"
            )
        for name in entry.modules:
            for epoch, other in seen:
                if epoch == entry.from_epoch and (_within(name, other) or _within(other, name)):
                    raise UserError(
                        f"{place}: modules: {shown(name)} and {shown(other)} overlap, both from "
                        f"epoch {epoch} on; name what is meant once"
                    )
            seen.append((entry.from_epoch, name))
        checked.append(dataclasses.asdict(entry))
    return checked


def fit_plan(plan, model, optimizer, where):
    """Hold a checked plan against a model, and let its optimizer tell the rates apart.

    Args:
        model: to be trained; parameters of it that have no gradient never are.
        optimizer: keeps those that are trained, in a group for each course of rates.
        where: beginning of messages.

    Raises:
        UserError: an entry names what the model does not have, or what is not trained anyway; or an
            epoch has nothing to train.
    """
    names = [name for name, _ in model.named_parameters()]
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    for number, entry in enumerate(plan):
        for module in entry["modules"]:
            place = f"{where}[{number}]: modules: {shown(module)}"
            if any(_within(name, module) for name in trained):
                continue
            if any(_within(name, module) for name in names):
                raise UserError(
                    f"{place} is not trained in any epoch (an SSL front-end is with finetune: "
                    "true); drop the entry, or let it be trained"
                )
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name in trained))
            raise UserError(
                f"{place}: the model has no such part with weights; it has {known} and their "
                "parts; correct it"
            )
    epochs = sorted({1} | {entry["from_epoch"] for entry in plan})
    for epoch in epochs:
        if not any(_scale(plan, name, epoch) for name in trained):
            raise UserError(f"{where}: nothing is left to train from epoch {epoch} on; freeze less")
    course = {p: tuple(_scale(plan, n, e) for e in epochs) for n, p in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        parts = {}
        for parameter in filter(lambda p: p.requires_grad, group["params"]):
            parts.setdefault(course[parameter], []).append(parameter)
        groups += [group | {"params": part} for part in parts.values()]
    optimizer.param_groups[:] = groups


@contextlib.contextmanager
def planned(plan, model, optimizers, epoch):
    """Let the body train ``model`` by a plan's entries for an epoch.

    Args:
        plan: checked. model: without what lets several processes train it. optimizers: of
            `fit_plan`.
    """
    if not plan:
        yield
        return
    scales = {p: _scale(plan, name, epoch) for name, p in model.named_parameters()}
    frozen = [p for p, scale in scales.items() if scale == 0 and p.requires_grad]
    still = [module for name, module in model.named_modules() if _scale(plan, name, epoch) == 0]
    train = model.train

    def train_the_rest(mode=True):
        train(mode)
        for module in still:
            module.training = False
        return model

    model.train = train_the_rest  # of this object, which whatever wraps it calls
    with contextlib.ExitStack() as stack:
        stack.callback(model.__delattr__, "train")
        for parameter in frozen:
            parameter.requires_grad_(False)
            stack.callback(parameter.requires_grad_, True)
        for optimizer in optimizers:
            stack.enter_context(_scaled_steps(optimizer, scales))
        _log(plan, epoch)
        yield


@contextlib.contextmanager
def _scaled_steps(optimizer, scales):
    """Let the steps of an optimizer have scaled rates that no scheduler sees."""
    rates = []

    def scale(optimizer, *_):
        rates[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] *= scales[group["params"][0]]

    def restore(optimizer, *_):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    hooks = [
        optimizer.register_step_pre_hook(scale),
        optimizer.register_step_post_hook(restore),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scale(plan, name, epoch):
    """Factor of the rate of a parameter, or of a module, in an epoch."""
    entries = [
        entry
        for entry in plan
        if entry["from_epoch"] <= epoch and any(_within(name, m) for m in entry["modules"])
    ]
    return max(entries, key=lambda entry: entry["from_epoch"])["lr_scale"] if entries else 1.0


def _within(name, module):
    return name == module or name.startswith(f"{module}.")


def _log(plan, epoch):
    names = dict.fromkeys(name for entry in plan for name in entry["modules"])
    scales = [(name, _scale(plan, name, epoch)) for name in names]
    texts = [f"{name} {f'at {s:g} of the rate' if s else 'frozen'}" for name, s in scales]
    logger.info("epoch %d: %s", epoch, ", ".join(texts))
