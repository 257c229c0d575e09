"""Stage 6: pretrain an extraction or enhancement model on mixtures drawn from a pool."""

import argparse
import sys

from espnet_tse_ser.configuration import read_configuration
from espnet_tse_ser.errors import REQUEUE_HELP, run
from espnet_tse_ser.recognise.pretrained import add_encoder_option, with_encoder
from espnet_tse_ser.values.numbers import SEED


def options():
    """Options of the pretrainings on a pool."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", required=True, help="YAML of the model and the training")
    parser.add_argument("--pool", required=True, help="formatted pretraining pool")
    parser.add_argument("--noise", help="formatted noise that disturbs, instead of other speakers")
    parser.add_argument("--output_dir", required=True, help="experiment directory, to be resumed")
    parser.add_argument("--seed", type=SEED.option, default=0, help="seed of weights and mixtures")
    return parser


def get_parser():
    """Own options; all further ones go to ESPnet's extraction task."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,  # ESPnet has options of its own
        description=__doc__,
        epilog="Every further option is one of ESPnet's extraction task or of ours (tasks/tse.py; "
        "with frontend: ssl tasks/ssl_enhancement.py), e.g. --max_epoch 100. " + REQUEUE_HELP,
        parents=[options()],
    )
    add_encoder_option(parser)
    return parser


def train(task, args, further, complete=None):
    """Run the training of a task with the values of `options` and ``further`` ones.

    Args:
        complete: called with the parsed options before it begins.
    """
    from espnet_tse_ser.tasks.options import parse_task_options

    parsed = parse_task_options(
        task,
        ["--config", args.config, *further],
        pool=args.pool,
        noise=args.noise,
        output_dir=args.output_dir,
        seed=args.seed,
    )
    if complete is not None:
        complete(parsed)
    task.main(args=parsed)


def main(argv=None):
    """Run the training."""
    args, further = get_parser().parse_known_args(argv)
    config = read_configuration(args.config)
    if "frontend" not in config:
        from espnet_tse_ser.tasks.tse import TSETask

        train(TSETask, args, further)
        return
    from espnet_tse_ser.tasks.ssl_enhancement import SSLEnhancementTask

    def complete(options):
        options.frontend_conf = with_encoder(vars(options), args.encoder, args.config)

    train(SSLEnhancementTask, args, further, complete)


if __name__ == "__main__":
    sys.exit(run(main))
