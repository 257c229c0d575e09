"""Stage 16: pack a trained model into one archive, or into one directory."""

import argparse
import sys

from espnet_tse_ser.errors import run


def get_parser():
    """The options of stage 16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="joint or SER experiment")
    parser.add_argument(
        "--output", required=True, help="archive to write (.zip), or a directory for the same files"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="weights of 16 bits, and of the configuration what inference needs",
    )
    return parser


def main(argv=None):
    """Pack."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.inference.packing import pack

    pack(args.model_dir, args.output, args.small)


if __name__ == "__main__":
    sys.exit(run(main))
