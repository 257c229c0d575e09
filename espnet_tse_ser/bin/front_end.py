"""Stage 6, instead of a training: take an extraction or enhancement model from elsewhere."""

import argparse
import sys

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.values.numbers import RATE


def get_parser():
    """The options of stage 6 for a model from elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source",
        required=True,
        help="directory of an ESPnet training or of an unpacked model, weights with their "
        "config.yaml beside them, a packed model (zip), user/name of the Hugging Face hub, or "
        "deepfilternet3",
    )
    parser.add_argument("--output_dir", required=True, help="experiment that stands for it")
    parser.add_argument("--fs", type=RATE.option, default=16000, help="of the data, in Hz")
    parser.add_argument(
        "--frontend_fs", type=RATE.option, help="of the model, in Hz (default: as it says)"
    )
    add_options(parser)
    return parser


def main(argv=None):
    """Look at the model, try it and note where it is, with checksums."""
    args = get_parser().parse_args(argv)
    from pathlib import Path

    from espnet_tse_ser.frontends.model_files import local_files
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    if (Path(args.output_dir) / "config.yaml").exists():
        raise UserError(f"{args.output_dir}: a front-end was trained there; give another tag")
    local_files(args.source)
    device = set_up(args)
    from espnet_tse_ser.frontends.loading import take_model

    take_model(args.source, args.output_dir, args.fs, args.frontend_fs, device)


if __name__ == "__main__":
    sys.exit(run(main))
