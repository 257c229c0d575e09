"""TSE pretraining: ESPnet's task with dynamic mixing and the masked TD-SpeakerBeam."""

import argparse
import copy
import dataclasses
import logging

from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask, extractor_choices
from espnet2.utils.types import str_or_none

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.frontends.td_speakerbeam.extractor import TCNExtractor, TDSpeakerBeamExtractor
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import (
    PretrainingOptions,
    pretraining_mixtures,
    pretraining_speakers,
)
from espnet_tse_ser.models.build_tse import (
    build_extraction_model,
    check_extraction_config,
    criterion_names,
    needs_enrollment,
)
from espnet_tse_ser.tasks.checked import CheckedTask
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.distributed import DistributedTask, part_of_process
from espnet_tse_ser.training.dynamic import MixingIterFactory, mixing_options
from espnet_tse_ser.training.trainer import ExtractionTrainer
from espnet_tse_ser.values.kinds import Choice, Maybe, Only
from espnet_tse_ser.values.numbers import RATE

logger = logging.getLogger(__name__)

_PARTS = ("encoder", "extractor", "decoder")
_USED = {"model_conf", "criterions", "sample_rate", *_PARTS, *(f"{p}_conf" for p in _PARTS)}


def _unused():
    """Kinds of ESPnet's options that have no effect here: dynamic mixing does what they do."""
    parser = argparse.ArgumentParser(add_help=False)
    TargetSpeakerExtractionTask.add_task_arguments(parser)
    return {a.dest: Only(a.default) for a in parser._actions if a.dest not in _USED}


class TSETask(CheckedTask, DistributedTask, TargetSpeakerExtractionTask):
    """ESPnet's extraction task; ``--iterator_type task`` mixes dynamically from ``--pool``."""

    class_choices_list = [copy.copy(c) for c in TargetSpeakerExtractionTask.class_choices_list]
    trainer = ExtractionTrainer
    needed_criteria = [["valid", "loss", "min"]]  # of the weights that later stages take
    kinds = _unused() | {
        "criterions": lambda value: value,  # check_options looks at them
        "iterator_type": Choice("task"),
        "num_iters_per_epoch": Only(None),
        "sample_rate": RATE,
        "valid_iterator_type": Maybe(Choice("task")),
    }

    @classmethod
    def add_task_arguments(cls, parser):
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Dynamic mixing")
        group.add_argument(
            "--pool", type=str_or_none, default=None, help="Formatted directory of the pool"
        )
        group.add_argument(
            "--noise",
            type=str_or_none,
            default=None,
            help="Formatted directory of noise, which then disturbs instead of other speakers",
        )
        group.add_argument(
            "--mixing_conf",
            action=MappingAction,
            default=dataclasses.asdict(PretrainingOptions()),
            help="Levels, segments and sizes of dynamic mixing",
        )
        parser.set_defaults(
            batch_type="unsorted",
            encoder="conv",
            decoder="conv",
            iterator_type="task",
            num_att_plot=0,
            num_workers=0,
            resume=True,
            sample_rate=16000,  # ESPnet's is 8000, nothing else here is
            use_matplotlib=False,
            use_tensorboard=False,
        )

    @classmethod
    def check_options(cls, options, where):
        vars(options).update(check_extraction_config(vars(options), where))
        mixing = mixing_options(PretrainingOptions, options.mixing_conf, where("mixing_conf"))
        if needs_enrollment(vars(options), "the options") != (mixing.enroll_segment is not None):
            fault = "needs enrollments; give enroll_segment"
            if mixing.enroll_segment is not None:
                fault = "takes no enrollment; give enroll_segment: null"
            raise UserError(f"{where('mixing_conf')}: extractor {options.extractor} {fault}")
        window = options.encoder_conf["kernel_size"]
        if min(mixing.segment, mixing.enroll_segment or window) < window:
            raise UserError(
                f"{where('mixing_conf')}: segment and enroll_segment must not be less than one "
                f"window of the encoder, {window} samples"
            )
        if mixing.steps_per_epoch < options.accum_grad:
            raise UserError(
                f"{where('accum_grad')}: {options.accum_grad} batches make one update, but an "
                f"epoch has {mixing.steps_per_epoch} (steps_per_epoch of mixing_conf); give less"
            )
        options.mixing_conf = dataclasses.asdict(mixing)

    @classmethod
    def measures(cls, options):
        names, trained = criterion_names(vars(options))
        train = dict.fromkeys([*trained, "loss"], "min")
        if options.model_conf.get("speaker_loss_weight", 0) > 0:
            train |= {"speaker_loss": "min", "speaker_acc": "max"}
        return {"train": train, "valid": dict.fromkeys([*names, "loss"], "min")}

    @classmethod
    def build_collate_fn(cls, args, train):
        return pad_collate

    @classmethod
    def build_model(cls, args):
        if args.model_conf.get("speaker_loss_weight", 0) > 0 and args.pool is not None:
            pool = Pool.read(args.pool, args.sample_rate)
            options = PretrainingOptions(**args.mixing_conf)
            speakers, _ = pretraining_speakers(pool, options, args.seed)
            args.model_conf["num_speakers"] = len(speakers)
        return build_extraction_model(vars(args), args.config or "the options")

    @classmethod
    def build_task_iter_factory(cls, args, iter_options, mode):
        if args.pool is None:
            raise UserError("--iterator_type task needs --pool, the formatted pretraining pool")
        options = PretrainingOptions(**args.mixing_conf)
        pool = Pool.read(args.pool, args.sample_rate)
        noise = None if args.noise is None else Pool.read(args.noise, args.sample_rate)
        sides = pretraining_mixtures(pool, options, args.seed, noise)
        mixtures = sides[0 if mode == "train" else 1]
        size = args.batch_size
        if mode == "train":
            count = options.steps_per_epoch * size
        else:
            count = options.valid_examples
            size = args.valid_batch_size or size
        logger.info(
            "%s: %d of the pool's %d speakers (speaker_share %g), %.2f h, %d mixtures an epoch",
            *(mode, len(mixtures.usable), len(pool.by_group), options.speaker_share),
            *(mixtures.pool.seconds / 3600, count),
        )
        batches = [[None] * min(size, count - start) for start in range(0, count, size)]
        return MixingIterFactory(
            draw=mixtures.example,
            batches=lambda _: batches,
            seed=args.seed + (0 if mode == "train" else 1),
            fixed=mode != "train",
            num_workers=args.num_workers,
            part=part_of_process(),
        )


# The choice named td_speakerbeam is ours: same parameters, padding masked, faster.
_choices = copy.copy(extractor_choices)
_choices.classes = {"td_speakerbeam": TDSpeakerBeamExtractor, "tcn": TCNExtractor}
TSETask.class_choices_list = [
    _choices if c.name == "extractor" else c for c in TSETask.class_choices_list
]
