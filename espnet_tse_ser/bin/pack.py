"""Stage 16: pack a trained model into one archive."""

import argparse
import sys

from espnet_tse_ser.errors import run


def get_parser():
    """The options of stage 16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="joint or SER experiment")
    parser.add_argument("--output", required=True, help="zip archive to write")
    return parser


def main(argv=None):
    """Pack."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.inference.packing import pack

    pack(args.model_dir, args.output)


if __name__ == "__main__":
    sys.exit(run(main))
