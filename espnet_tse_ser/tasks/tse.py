"""TSE pretraining: ESPnet's task with dynamic mixing and the masked TD-SpeakerBeam."""

import copy
import logging

from espnet2.tasks.enh_tse import TargetSpeakerExtractionTask, extractor_choices
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_tse_ser.data.collate import pad_collate
from espnet_tse_ser.data.dynamic import (
    PRETRAINING_DEFAULTS,
    MixingIterFactory,
    complete_options,
    pretraining_mixtures,
    pretraining_speakers,
)
from espnet_tse_ser.data.pool import Pool
from espnet_tse_ser.distributed import DistributedTask, part_of_process
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.espnet import ExtractionTrainer
from espnet_tse_ser.tse.build import build_extraction_model
from espnet_tse_ser.tse.td_speakerbeam import TDSpeakerBeamExtractor

logger = logging.getLogger(__name__)


class TSETask(DistributedTask, TargetSpeakerExtractionTask):
    """ESPnet's extraction task; ``--iterator_type task`` mixes dynamically from ``--pool``."""

    class_choices_list = [copy.copy(c) for c in TargetSpeakerExtractionTask.class_choices_list]
    trainer = ExtractionTrainer

    @classmethod
    def add_task_arguments(cls, parser):
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Dynamic mixing")
        group.add_argument(
            "--pool", type=str_or_none, default=None, help="Formatted directory of the pool"
        )
        group.add_argument(
            "--mixing_conf",
            action=NestedDictAction,
            default=dict(PRETRAINING_DEFAULTS),
            help="Levels, segments and sizes of dynamic mixing",
        )
        parser.set_defaults(sample_rate=16000)  # ESPnet's is 8000, nothing else here is

    @classmethod
    def build_collate_fn(cls, args, train):
        return pad_collate

    @classmethod
    def build_model(cls, args):
        if args.model_conf.get("speaker_loss_weight", 0) > 0 and args.pool is not None:
            pool = Pool.read(args.pool, args.sample_rate)
            options = complete_options(args.mixing_conf, PRETRAINING_DEFAULTS)
            speakers, _ = pretraining_speakers(pool, options, args.seed)
            args.model_conf["num_speakers"] = len(speakers)
        return build_extraction_model(vars(args))

    @classmethod
    def build_task_iter_factory(cls, args, iter_options, mode):
        if args.pool is None:
            raise UserError("--iterator_type task needs --pool, the formatted pretraining pool")
        options = complete_options(args.mixing_conf, PRETRAINING_DEFAULTS)
        pool = Pool.read(args.pool, args.sample_rate)
        mixtures = pretraining_mixtures(pool, args.mixing_conf, args.seed)[
            0 if mode == "train" else 1
        ]
        if mode == "train":
            count = options["steps_per_epoch"] * args.batch_size
        else:
            count = options["valid_examples"]
        logger.info(
            "%s: %d of the pool's %d speakers (speaker_share %g), %.2f h, %d mixtures an epoch",
            *(mode, len(mixtures.usable), len(pool.by_speaker), options["speaker_share"]),
            *(mixtures.pool.seconds / 3600, count),
        )
        batches = [
            [None] * (min(start + args.batch_size, count) - start)
            for start in range(0, count, args.batch_size)
        ]
        return MixingIterFactory(
            draw=lambda rng, _: mixtures.example(rng),
            batches=lambda _: batches,
            seed=args.seed + (0 if mode == "train" else 1),
            fixed=mode != "train",
            num_workers=args.num_workers,
            part=part_of_process(),
        )


# The choice named td_speakerbeam is ours: same parameters, padding masked, faster.
_choices = copy.copy(extractor_choices)
_choices.classes = dict(_choices.classes) | {"td_speakerbeam": TDSpeakerBeamExtractor}
TSETask.class_choices_list = [
    _choices if c.name == "extractor" else c for c in TSETask.class_choices_list
]
