"""Stage 4: render the mixtures of a table; restartable, the same bytes for any --nj."""

import argparse
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.values.numbers import COUNT, RATE


def get_parser():
    """The options of stage 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table_dir", required=True, help="directory of mixtures.tsv")
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument("--sources", help="formatted pool of talkers or noise, as in stage 2")
    parser.add_argument("--output_dir", required=True, help="mixture directory to write")
    parser.add_argument(
        "--reuse", help="another mixture directory: what is the same in its table is copied from it"
    )
    parser.add_argument(
        "--job", type=COUNT.option, default=1, help="which of the --nj jobs this is, from 1"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of jobs")
    parser.add_argument("--combine", action="store_true", help="write the data directory instead")
    parser.add_argument("--fs", type=RATE.option, default=16000, help="sampling rate in Hz")
    return parser


def main(argv=None):
    """Render one job's mixtures, or combine."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.files import clear_remains
    from espnet_tse_ser.mixtures.pool import Pool
    from espnet_tse_ser.mixtures.simulation import simulate, write_mixture_dir
    from espnet_tse_ser.mixtures.table import read_mixtures, write_mixtures
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    if not 1 <= args.job <= args.nj:
        raise UserError(f"--job {args.job} --nj {args.nj}: the job must lie in 1 to nj")
    mixtures = read_mixtures(Path(args.table_dir) / "mixtures.tsv")
    rendered_from = Path(args.output_dir) / "mixtures.tsv"
    if not rendered_from.is_file():
        write_mixtures(rendered_from, mixtures)
    elif read_mixtures(rendered_from) != mixtures:
        raise UserError(
            f"{args.output_dir} was rendered from another mixture table; remove it to render it "
            "again"
        )
    targets = Pool.read(args.targets, args.fs)
    if args.combine:
        clear_remains(rendered_from)  # which any job writes
        write_mixture_dir(args.output_dir, mixtures, targets)
        return
    rendered, copied = simulate(
        mixtures[args.job - 1 :: args.nj],
        targets,
        Pool.read_sources(args.sources, args.targets, targets),
        args.output_dir,
        f"simulate {args.job}/{args.nj}",
        args.reuse,
    )
    logging.info("%d mixtures rendered, %d copied, the others were there", rendered, copied)


if __name__ == "__main__":
    sys.exit(run(main))
