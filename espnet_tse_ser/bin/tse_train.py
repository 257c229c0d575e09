"""Stage 6: pretrain an extraction or enhancement model on mixtures drawn from a pool."""

import argparse
import sys

from espnet_tse_ser.errors import REQUEUE_HELP, run
from espnet_tse_ser.values.numbers import SEED


def get_parser():
    """Own options; all further ones go to ESPnet's extraction task."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,  # ESPnet has options of its own
        description=__doc__,
        epilog="Every further option is one of ESPnet's extraction task, e.g. --max_epoch 100. "
        + REQUEUE_HELP,
    )
    parser.add_argument("--config", required=True, help="YAML of the model and the training")
    parser.add_argument("--pool", required=True, help="formatted pretraining pool")
    parser.add_argument("--noise", help="formatted noise that disturbs, instead of other speakers")
    parser.add_argument("--output_dir", required=True, help="experiment directory, to be resumed")
    parser.add_argument("--seed", type=SEED.option, default=0, help="seed of weights and mixtures")
    return parser


def main(argv=None):
    """Run the training."""
    args, further = get_parser().parse_known_args(argv)
    from espnet_tse_ser.tasks.options import parse_task_options
    from espnet_tse_ser.tasks.tse import TSETask

    options = parse_task_options(
        TSETask,
        ["--config", args.config, *further],
        pool=args.pool,
        noise=args.noise,
        output_dir=args.output_dir,
        seed=args.seed,
    )
    TSETask.main(args=options)


if __name__ == "__main__":
    sys.exit(run(main))
