"""Stage 13: join every system's hypotheses with the mixture table and the extraction scores."""

import argparse
import itertools
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.report.stamp import (
    OPTIMISTIC,
    add_scheme_option,
    check_scheme,
    made_with,
    measure,
)
from espnet_tse_ser.values.numbers import SEED

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scores_dir",
        required=True,
        help="holds <system>/<tag>/fold<k>/hyp.tsv, of a further seed fold<k>_seed<s>/hyp.tsv",
    )
    parser.add_argument(
        "--table_dir", required=True, help="holds mixtures.tsv and splits (stage 2)"
    )
    parser.add_argument(
        "--tse_scores",
        default="",
        help="TAG=TABLE ...: score_utt.tsv of stage 8 of each front-end; denoised systems need it",
    )
    parser.add_argument(
        "--folds", help='folds to score, e.g. "1 2"; default: all of the mixture table'
    )
    parser.add_argument(
        "--seed", type=SEED.option, default=0, help="the seed of fold<k>; default: 0"
    )
    parser.add_argument(
        "--seeds",
        type=SEED.list_option,
        default="",
        help='further seeds, e.g. "1 2"; default: none',
    )
    parser.add_argument(
        "--row",
        nargs=2,
        action="append",
        metavar=("SYSTEM/TAG", "CONFIGURATIONS"),
        help="a system to score and what it was made with, for its table; default: all that were "
        "recognised",
    )
    parser.add_argument("--systems_dir", default="conf/systems", help="declares the systems")
    add_scheme_option(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.metrics import tables
    from espnet_tse_ser.metrics.joining import join
    from espnet_tse_ser.metrics.runs import all_seeds, chosen_folds, run_name
    from espnet_tse_ser.systems.command_line import parse_tagged

    scores_dir = Path(args.scores_dir)
    folds = chosen_folds(args.folds)
    seeds = all_seeds(args.seed, args.seeds)
    tests = tables.read_tests(Path(args.table_dir) / "mixtures.tsv", folds)
    tse_tables = parse_tagged(args.tse_scores, "--tse_scores")
    tse_scores = {tag: tables.read_tse_scores(path, tests) for tag, path in tse_tables.items()}
    measured = measure(args.table_dir, tests, args.scheme)
    labels, joined = None, {}
    for row, configuration in _rows(args, tables):
        hypotheses = {}
        for fold, seed in itertools.product(tests, seeds):
            run = run_name(fold, seed, seeds[0])
            path = scores_dir / row.directory / run / "hyp.tsv"
            fold_labels, rows = tables.read_hypotheses(path)
            check_scheme(args.scheme, path, rows.values())
            labels = labels or fold_labels
            if fold_labels != labels:
                raise UserError(
                    f"{path}: classes are {' '.join(fold_labels)}, but {' '.join(labels)} in the "
                    "systems before; train and recognise all systems with the same labels"
                )
            hypotheses[fold, seed] = (path, rows)
        how = made_with(configuration, args.scheme, *measured)
        joined[row.directory] = join(row, hypotheses, tests, tse_scores, how)
    # written last, so that an error leaves no mixture of new and old tables
    two_epochs = args.scheme == OPTIMISTIC
    for directory, rows in joined.items():
        path = scores_dir / directory / "score_utt.tsv"
        write_tsv(path, rows, tables.score_columns(labels, two_epochs, "level" in rows[0]))
        logger.info(
            "wrote %s: %d utterances, folds %s, seeds %s; all figures pool them, none is a mean "
            "over folds",
            *(path, len(rows) // len(seeds), " ".join(tests), " ".join(seeds)),
        )


def _rows(args, tables):
    """The rows to score, each with its configurations."""
    from espnet_tse_ser.systems.command_line import rows_of
    from espnet_tse_ser.systems.system import read_systems

    systems = read_systems(args.systems_dir)
    if args.row is not None:
        return rows_of(args.row, systems)
    rows = tables.find_rows(args.scores_dir, systems, "fold*/hyp.tsv").values()
    return [(row, "n/a") for row in rows]


if __name__ == "__main__":
    sys.exit(run(main))
