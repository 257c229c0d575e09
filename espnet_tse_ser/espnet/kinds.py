"""Kinds of ESPnet's and PyTorch's own options, which say little about what they can be."""

import argparse
import inspect
from dataclasses import dataclass

import humanfriendly
from espnet2.utils.types import (
    float_or_none,
    int_or_none,
    str2bool,
    str2triple_str,
    str_or_int,
    str_or_none,
)

from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.training.schedulers import Steps
from espnet_tse_ser.values.kinds import (
    Choice,
    Either,
    Flag,
    Kind,
    Mapping,
    Maybe,
    Only,
    Several,
    Text,
)
from espnet_tse_ser.values.numbers import BATCH_SIZE, SEED, SHARE, Number

_WHOLE = Number(0, 2**31 - 1, whole=True)
_COUNT = Number(1, 2**31 - 1, whole=True)
_NONNEGATIVE, _POSITIVE = Number(0), Number(0, above=True)
_BELOW_1 = Number(0, 1, below=True)


@dataclass(frozen=True)
class _Triple(Kind):
    """Three texts, in a list or between commas."""

    def read(self, value):
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        return Several(Text(), 3, 3).read(value)

    def __str__(self):
        return "three texts"


@dataclass(frozen=True)
class _Bytes(Kind):
    """A number of bytes, also as 10MB."""

    def read(self, value):
        if isinstance(value, str):
            try:
                value = humanfriendly.parse_size(value)
            except humanfriendly.InvalidSize:
                raise ValueError from None
        return _NONNEGATIVE(value)

    def __str__(self):
        return "a size, e.g. 2GB"


_BATCHES = Choice("unsorted", "sorted", "folded", "length", "numel")
_CRITERION = Several(_Triple(), 1, 100)
_UNUSED = (  # what these trainings have not, what ends without a trained model, or runs a pickle
    "allow_multi_rates",
    "allow_variable_data_keys",
    "collect_stats",
    "deepspeed_config",
    "drop_last_iter",
    "ignore_init_mismatch",
    "init_param",
    "multi_task_dataset",
    "multiple_iterator",
    "no_forward_run",
    "pretrain_path",
    "print_config",
    "sharded_ddp",
    "use_adapter",
    "use_deepspeed",
    "write_collected_feats",
)
_TRAINING = {
    "accum_grad": _COUNT,
    "autocast": Either(Maybe(Text()), Flag()),  # its own check says more
    "batch_bins": _COUNT,
    "batch_size": BATCH_SIZE,
    "batch_type": _BATCHES,
    "best_model_criterion": _CRITERION,
    "dist_backend": Choice("nccl", "gloo"),
    "fold_length": Several(_COUNT, 0),
    "freeze_param": Only([], "give a plan, which keeps running means as well"),
    "grad_clip": _POSITIVE,
    "grad_clip_type": _POSITIVE,
    "keep_nbest_models": Several(_COUNT),
    "log_interval": Maybe(_COUNT),
    "max_batch_size": Maybe(BATCH_SIZE),
    "max_cache_size": _Bytes(),
    "max_epoch": _COUNT,
    "min_batch_size": BATCH_SIZE,
    "ngpu": Number(0, 64, whole=True),
    "num_att_plot": Only(0),
    "num_iters_per_epoch": Maybe(_COUNT),
    "num_workers": Number(0, 256, whole=True),
    "seed": SEED,
    "train_dtype": Choice("float32"),
    "valid_batch_bins": Maybe(_COUNT),
    "valid_batch_size": Maybe(BATCH_SIZE),
    "valid_batch_type": Maybe(_BATCHES),
    "valid_max_cache_size": Maybe(_Bytes()),
    "wandb_model_log_interval": Number(-1, whole=True),
}
_BY_TYPE = {
    None: Text(),
    float: _NONNEGATIVE,
    float_or_none: Maybe(_NONNEGATIVE),
    int: _WHOLE,
    int_or_none: Maybe(_WHOLE),
    str: Text(),
    str2bool: Flag(),
    str2triple_str: _Triple(),
    str_or_int: Either(_WHOLE, Text()),
    str_or_none: Maybe(Text()),
}

_OPTIMIZER = {
    "alpha": SHARE,
    "betas": Several(_BELOW_1, 2, 2),
    "differentiable": Only(False),
    "eps": Number(0, 1),
    "etas": Several(_POSITIVE, 2, 2),
    "foreach": Maybe(Flag()),
    "fused": Maybe(Flag()),
    "lr": _POSITIVE,
    "maximize": Only(False),
    "momentum": _BELOW_1,
    "rho": SHARE,
    "step_sizes": Several(_POSITIVE, 2, 2),
    "weight_decay": Number(0, 10),
}
_SCHEDULER = {
    "T_0": _COUNT,
    "T_max": _COUNT,
    "T_mult": _COUNT,
    "anneal_strategy": Choice("cos", "linear"),
    "base_lr": _POSITIVE,
    "base_momentum": SHARE,
    "decay_ratio": SHARE,
    "epochs": Maybe(_COUNT),
    "factor": Number(0, 1, above=True, below=True),
    "final_lr_scale": SHARE,
    "first_cycle_steps": Steps(1),
    "gamma": Number(0, 1, above=True),
    "hold_ratio": SHARE,
    "init_lr_scale": SHARE,
    "max_lr": _POSITIVE,
    "max_momentum": SHARE,
    "max_steps": Steps(1),
    "milestones": Several(_COUNT),
    "min_lr": _NONNEGATIVE,
    "mode": Text(),
    "model_size": _POSITIVE,
    "pct_start": Number(0, 1, above=True, below=True),
    "scale_fn": Only(None),
    "step_size": _COUNT,
    "step_size_down": Maybe(Steps(1)),
    "step_size_up": Steps(1),
    "steps_per_epoch": Maybe(_COUNT),
    "threshold_mode": Choice("rel", "abs"),
    "total_steps": Maybe(Steps(1)),
    "warmup_lr_list": Several(_NONNEGATIVE),
    "warmup_ratio": SHARE,
    "warmup_steps": Steps(),
    "warmup_steps_list": Several(_NONNEGATIVE),
}


def kind_of(action):
    """The kind of an option of ESPnet's parser.

    Args:
        action: `argparse.Action`. Its type may be a kind, as with options of ours.
    """
    if action.dest in _UNUSED:
        return Only(action.default)
    if action.dest in _TRAINING:
        return _TRAINING[action.dest]
    if isinstance(action, MappingAction):
        return Mapping()
    if isinstance(action.const, bool):  # store_true
        return Flag()
    if action.choices is not None:
        names = [choice for choice in action.choices if choice is not None]
        kind = Choice(*names)
        kind = Maybe(kind) if action.default is None or None in action.choices else kind
    else:
        kind = _BY_TYPE.get(action.type, action.type)
    if isinstance(action.nargs, int):
        return Several(kind, action.nargs, action.nargs)
    if action.nargs is not None or isinstance(action, argparse._AppendAction):
        return Several(kind, 1 if action.default else 0)
    return Maybe(kind) if action.default is None else kind


def kinds_of_optimizer(taker):
    """Name -> kind of the options of an optimizer."""
    return _kinds(taker, _OPTIMIZER)


def kinds_of_decay(taker):
    """Name -> kind of the options that exclude parameters from weight decay."""
    return _kinds(taker, {})


def kinds_of_scheduler(taker):
    """Name -> kind of the options of a scheduler."""
    return _kinds(taker, _SCHEDULER)


def _kinds(taker, known):
    """By annotation where we declare it, by name where it is known, else by the default."""
    kinds = {}
    for name, parameter in inspect.signature(taker).parameters.items():
        default, declared = parameter.default, parameter.annotation
        if isinstance(declared, (Kind, Number)):
            kinds[name] = declared
        elif name in known:
            kinds[name] = known[name]
        elif isinstance(default, bool):
            kinds[name] = Flag()
        elif isinstance(default, (int, float)) and name != "last_epoch":
            kinds[name] = _NONNEGATIVE
    return kinds
