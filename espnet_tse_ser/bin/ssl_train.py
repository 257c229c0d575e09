"""Stage 6, of encoders: pretrain one by itself, on noisy speech that is drawn from a pool."""

import argparse
import sys

from espnet_tse_ser.bin import tse_train
from espnet_tse_ser.errors import REQUEUE_HELP, run


def get_parser():
    """The options of the pretraining; all further ones go to ESPnet."""
    return argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        epilog="Every further option is one of ESPnet's or of SSLTask, e.g. --max_epoch 100. "
        + REQUEUE_HELP,
        parents=[tse_train.options()],
    )


def main(argv=None):
    """Run the training."""
    args, further = get_parser().parse_known_args(argv)
    from espnet_tse_ser.tasks.ssl import SSLTask

    tse_train.train(SSLTask, args, further)


if __name__ == "__main__":
    sys.exit(run(main))
