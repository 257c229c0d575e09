"""Format the audio of a clean data directory: one rate, mono, with length and loudness."""

import argparse
import sys

from espnet_tse_ser.errors import run
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.values.numbers import COUNT, RATE, SECONDS


def get_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="Kaldi data directory to read")
    parser.add_argument("--output_dir", required=True, help="formatted data directory to write")
    parser.add_argument("--fs", type=RATE.option, default=16000, help="sampling rate in Hz")
    parser.add_argument(
        "--min_duration",
        type=SECONDS.option,
        default=0.5,
        help="drop utterances shorter than this, seconds",
    )
    parser.add_argument("--job", type=COUNT.option, default=1, help="which job this is, from 1")
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of jobs")
    parser.add_argument(
        "--combine", action="store_true", help="combine the finished jobs instead of formatting"
    )
    return parser


def main(argv=None):
    """Format one part of a data directory, or combine all parts."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.audio.formatting import combine_parts, format_part

    if args.combine:
        combine_parts(args.data_dir, args.output_dir, args.fs, args.min_duration)
    else:
        format_part(
            args.data_dir,
            args.output_dir,
            fs=args.fs,
            min_duration=args.min_duration,
            job=args.job,
            num_jobs=args.nj,
        )


if __name__ == "__main__":
    sys.exit(run(main))
