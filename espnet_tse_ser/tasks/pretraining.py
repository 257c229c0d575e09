"""What the pretrainings on mixtures that are drawn from a pool have in common."""

import dataclasses
import logging

from espnet2.utils.types import str_or_none

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.espnet.mapping_action import MappingAction
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pairs, pretraining_mixtures
from espnet_tse_ser.tasks.checked import CheckedTask
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.distributed import DistributedTask, part_of_process
from espnet_tse_ser.training.dynamic import MixingIterFactory, mixing_options
from espnet_tse_ser.values.kinds import Choice, Maybe, Only

logger = logging.getLogger(__name__)

KINDS = {
    "iterator_type": Choice("task"),
    "num_iters_per_epoch": Only(None),
    "valid_iterator_type": Maybe(Choice("task")),
}


class PretrainingTask(CheckedTask, DistributedTask):
    """To be inherited before ESPnet's task: ``--iterator_type task`` mixes from ``--pool``."""

    needed_criteria = [["valid", "loss", "min"]]  # of the weights that later stages take

    @classmethod
    def add_mixing_arguments(cls, parser):
        """Add the options of dynamic mixing, and defaults of ESPnet's that fit it."""
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
            iterator_type="task",
            num_att_plot=0,
            num_workers=0,
            resume=True,
            use_matplotlib=False,
            use_tensorboard=False,
        )

    @classmethod
    def check_mixing(cls, options, where, taker, enrolled, window):
        """Check ``mixing_conf``, and put what is meant into ``options``.

        Args:
            options, where: of `CheckedTask.check_options`. taker: what a message calls the model.
            enrolled: whether it takes enrollments. window: the fewest samples that it takes.
        """
        mixing = mixing_options(PretrainingOptions, options.mixing_conf, where("mixing_conf"))
        if enrolled != (mixing.enroll_segment is not None):
            fault = "needs enrollments; give enroll_segment"
            if mixing.enroll_segment is not None:
                fault = "takes no enrollment; give enroll_segment: null"
            raise UserError(f"{where('mixing_conf')}: {taker} {fault}")
        if mixing.absent_share and not enrolled:
            raise UserError(
                f"{where('mixing_conf')}: absent_share is of enrollments, which {taker} has not; "
                "drop it"
            )
        if mixing.speed and not mixing.both:
            raise UserError(
                f"{where('mixing_conf')}: speed is of both talkers, whom only both: true draws "
                "alike; give it, or drop speed"
            )
        if mixing.both:
            faults = {
                "enrollments, which this model does not take; drop it": not enrolled,
                "two talkers; drop it or --noise": options.noise is not None,
                f"pairs; give an even batch_size, not {options.batch_size}": options.batch_size % 2,
                f"pairs at an SNR and at minus that; give a snr around 0, not {list(mixing.snr)}, "
                "and no snr_set": mixing.snr[0] != -mixing.snr[1] or mixing.snr_set is not None,
                f"pairs with one absent target at most; give absent_share 0.5 at most, not "
                f"{mixing.absent_share}": mixing.absent_share > 0.5,
            }
            for fault in (text for text, is_so in faults.items() if is_so):
                raise UserError(f"{where('mixing_conf')}: both is of {fault}")
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
    def build_collate_fn(cls, args, train):
        return pad_collate

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

        def batches(rng):
            paired = options.both and mode == "train"
            items = pairs(rng, count) if paired else [None] * count
            return [items[start : start + size] for start in range(0, count, size)]

        return MixingIterFactory(
            draw=mixtures.example,
            batches=batches,
            seed=args.seed + (0 if mode == "train" else 1),
            fixed=mode != "train",
            num_workers=args.num_workers,
            part=part_of_process(),
        )
