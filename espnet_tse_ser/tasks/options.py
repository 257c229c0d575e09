"""Options of a training: read, held against what each can be, and put into one namespace.

ESPnet takes the values of a configuration as they are, whatever their type.
"""

import argparse
import importlib.util

import torch
from espnet2.optimizers.optim_groups import add_optimizer_hooks
from espnet2.schedulers.abs_scheduler import AbsValEpochStepScheduler
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from espnet2.train.distributed_utils import resolve_distributed_mode
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_tse_ser.configuration import read_configuration
from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.espnet.kinds import (
    kind_of,
    kinds_of_decay,
    kinds_of_optimizer,
    kinds_of_scheduler,
)
from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.machine import check_gpus
from espnet_tse_ser.training.muon import Muon
from espnet_tse_ser.training.plan import check_plan
from espnet_tse_ser.training.schedulers import has_epochs
from espnet_tse_ser.values.kinds import check_option, check_options
from espnet_tse_ser.values.numbers import shown

optim_classes["muon"] = Muon  # beside ESPnet's

_MODULES = {"use_matplotlib": "matplotlib", "use_tensorboard": "tensorboard", "use_wandb": "wandb"}


def parse_task_options(task, command, **given):
    """Parse and check the options of ``task``, configuration file included.

    Args:
        task: class that inherits `CheckedTask` and ESPnet's `AbsTask`.
        command: list of strings. given: values of further options, which a configuration cannot
            change.

    Returns:
        the namespace that ``task.main(args=...)`` takes, with the values that were meant.

    Raises:
        UserError: an unknown option, an unknown key in the configuration, a value that does not
            fit, or a configuration that is missing or no YAML. The message names the file and the
            key, or the option.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--config")
    config, command = own.parse_known_args(command)
    config = config.config
    parser, kinds = _get_parser(task)

    def refuse(message):
        raise UserError(f"{message}; see {parser.prog} --help and ESPnet's options")

    parser.error = refuse
    conf = {} if config is None else _read(config, kinds, given)
    parser.set_defaults(**given, **conf)
    options = parser.parse_args(command)

    for key in conf:
        name = key.removesuffix("_conf")
        if name != key and name in kinds and name not in conf and getattr(options, name) is None:
            raise UserError(f"{conf.where(key)}: there is no {name} that takes it; name one")
    in_file = {key for key, value in conf.items() if getattr(options, key) is value}

    def where(key):
        return conf.where(key) if key in in_file else f"--{key}"

    for key, value in vars(options).items():
        if key in kinds and key not in ("help", "config"):
            setattr(options, key, check_option(value, kinds[key], where(key)))
    options.config = config
    task.check_options(options, where)
    _check_training(options, where)
    _check_criteria(options, task.measures(options), where)
    for criterion in task.needed_criteria:
        if criterion not in options.best_model_criterion:
            raise UserError(
                f"{where('best_model_criterion')}: later stages take the weights of "
                f"[{', '.join(criterion)}]; add it"
            )
    return options


def get_kinds(task):
    """Name -> kind of all options of a task."""
    return _get_parser(task)[1]


def set_emotion_defaults(parser):
    """Defaults of ESPnet that fit training with a dev UA; configurations and options override."""
    parser.set_defaults(
        batch_type="unsorted",
        best_model_criterion=[("valid", "ua", "max"), ("valid", "wa", "max")],
        early_stopping_criterion=("valid", "ua", "max"),
        keep_nbest_models=[1],
        num_att_plot=0,
        num_workers=0,
        resume=True,
        use_matplotlib=False,
        use_tensorboard=False,
    )


def _get_parser(task):
    """The parser of a task, which takes all values as they are, and their kinds."""
    parser = task.get_parser()
    parser.allow_abbrev = False
    for action in parser._actions:
        if isinstance(action, NestedDictAction):
            action.__class__ = MappingAction
    kinds = {action.dest: kind_of(action) for action in parser._actions} | task.kinds
    for action in parser._actions:
        action.type = action.choices = None
    return parser, kinds


def _read(path, kinds, given):
    conf = read_configuration(path)
    for key in conf:
        if key not in kinds or key in ("config", "help"):
            raise UserError(f"{conf.places[key]}: unknown key {shown(key)}; correct it or drop it")
        if key in given:
            raise UserError(f"{conf.where(key)}: the command line rules it; drop it here")
    return conf


def _check_training(options, where):
    """Check the optimizer and the schedule by making them, and that there are the GPUs."""
    check_gpus(options.ngpu, where("ngpu"))
    try:
        resolve_distributed_mode(argparse.Namespace(**vars(options)))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = first_line(error)
        raise UserError(f"--dist_launcher and the like do not fit this process: {reason}") from None
    for key in ("batch_type", "valid_batch_type"):
        if getattr(options, key) == "folded" and len(options.fold_length) != 1:
            raise UserError(f"{where(key)}: folded needs one fold_length, of the audio")
    if options.use_amp and (options.ngpu == 0 or options.use_tf32):
        raise UserError(f"{where('use_amp')}: needs a GPU, and no use_tf32; use autocast: bfloat16")
    for key, module in _MODULES.items():
        if getattr(options, key) and importlib.util.find_spec(module) is None:
            raise UserError(f"{where(key)}: needs the package {module}, which is not installed")
    options.plan = check_plan(options.plan, options.max_epoch, where("plan"))
    if options.optim == "rprop" and any(e["lr_scale"] not in (0, 1) for e in options.plan):
        raise UserError(f"{where('plan')}: rprop has no rate to scale; take another optim")
    kinds, conf = kinds_of_decay(add_optimizer_hooks), "exclude_weight_decay_conf"
    setattr(options, conf, check_options(getattr(options, conf), kinds, where(conf)))
    kinds = kinds_of_optimizer(optim_classes[options.optim])
    options.optim_conf = check_options(options.optim_conf, kinds, where("optim_conf"))
    place = where("optim_conf") if options.optim_conf else where("optim")
    try:
        optimizer = _make_optimizer(options)
        if options.scheduler is None:
            optimizer.step()
    except Exception as error:  # whatever does not fit it
        raise UserError(f"{place}: {options.optim}: {first_line(error)}; correct it") from None
    if options.scheduler is None:
        return
    kinds = kinds_of_scheduler(scheduler_classes[options.scheduler])
    options.scheduler_conf = check_options(options.scheduler_conf, kinds, where("scheduler_conf"))
    if not has_epochs(options.scheduler_conf):
        check_schedule(options, where("scheduler_conf"))


def check_schedule(options, where):
    """Check a schedule by making it and taking two steps.

    Args:
        options: namespace, whose scheduler_conf is in steps. where: beginning of a message.

    Raises:
        UserError: the options of the schedule do not go together.
    """
    optimizer = _make_optimizer(options)
    try:
        scheduler = scheduler_classes[options.scheduler](optimizer, **options.scheduler_conf)
        for _ in range(2):
            optimizer.step()
            if isinstance(scheduler, AbsValEpochStepScheduler):
                scheduler.step(0.0)
            else:
                scheduler.step()
    except Exception as error:  # whatever does not fit it
        reason = first_line(error)
        raise UserError(f"{where}: {options.scheduler}: {reason}; correct it") from None


def _make_optimizer(options):
    """An optimizer of one number."""
    weights = torch.nn.Parameter(torch.zeros(1))
    weights.grad = torch.zeros(1)
    return optim_classes[options.optim]([weights], **options.optim_conf)


def _check_criteria(options, measures, where):
    """Check that every criterion names something that is measured, and its better direction.

    Args:
        measures: phase -> name -> "min" or "max".
    """
    for key in ("best_model_criterion", "early_stopping_criterion", "val_scheduler_criterion"):
        value = getattr(options, key)
        for phase, name, *mode in value if key == "best_model_criterion" else [value]:
            known = measures.get(phase)
            if known is None:
                raise UserError(
                    f"{where(key)}: there is no phase {shown(phase)}; use {', '.join(measures)}"
                )
            if name not in known:
                raise UserError(
                    f"{where(key)}: {shown(name)} is not measured in {phase}; use one of "
                    f"{', '.join(known)}"
                )
            if mode and mode != [known[name]]:
                raise UserError(
                    f"{where(key)}: the better {name} is its {known[name]}, not {shown(mode[0])}"
                )
