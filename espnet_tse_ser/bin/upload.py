"""Stage 17: upload a packed model to the Hugging Face hub."""

import argparse
import sys

from espnet_tse_ser.errors import run


def get_parser():
    """The options of stage 17."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True, help="zip archive of stage 16")
    parser.add_argument("--hf_repo", required=True, help="repository, e.g. user/tse_ser")
    return parser


def main(argv=None):
    """Upload."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.inference.packing import upload

    upload(args.archive, args.hf_repo)


if __name__ == "__main__":
    sys.exit(run(main))
