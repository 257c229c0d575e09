"""Stage 13: join the hypotheses of every system with the protocol and the extraction scores."""

import argparse
import itertools
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.metrics.stamp import OPTIMISTIC, add_protocol_option, check_protocol
from espnet_tse_ser.numbers import SEED
from espnet_tse_ser.progress import log_to_stderr

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scores_dir",
        required=True,
        help="holds <system>/fold<k>/hyp.tsv, of a further seed <system>/fold<k>_seed<s>/hyp.tsv",
    )
    parser.add_argument("--protocol_dir", required=True, help="holds protocol.tsv (stage 2)")
    parser.add_argument("--tse_scores", help="score_utt.tsv of stage 8; denoised systems need it")
    parser.add_argument("--folds", help='folds to score, e.g. "1 2"; default: all of the protocol')
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
        "--systems",
        help='systems to score, e.g. "base ft"; tables of others, which may be of other models, '
        "are removed; default: all that were recognised",
    )
    add_protocol_option(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.metrics import tables

    scores_dir = Path(args.scores_dir)
    folds = tables.chosen_folds(args.folds)
    seeds = tables.all_seeds(args.seed, args.seeds)
    tests = tables.read_protocol(Path(args.protocol_dir) / "protocol.tsv", folds)
    tse_scores = tables.read_tse_scores(args.tse_scores, tests) if args.tse_scores else None
    labels, joined = None, {}
    for system in _systems(args, tables):
        hypotheses = {}
        for fold, seed in itertools.product(tests, seeds):
            run = tables.run_name(fold, seed, seeds[0])
            path = scores_dir / system.name / run / "hyp.tsv"
            fold_labels, rows = tables.read_hypotheses(path)
            check_protocol(args.protocol, path, rows.values())
            labels = labels or fold_labels
            if fold_labels != labels:
                raise UserError(
                    f"{path}: classes are {' '.join(fold_labels)}, but {' '.join(labels)} in the "
                    "systems before; train and recognise all systems with the same labels"
                )
            hypotheses[fold, seed] = (path, rows)
        joined[system.name] = tables.join(system, hypotheses, tests, tse_scores)
    # written last, so that an error leaves no mixture of new and old tables
    for name in tables.SYSTEMS.keys() - joined.keys():
        path = scores_dir / name / "score_utt.tsv"
        if path.is_file():
            logger.warning("removed %s, which is not asked for", path)
            path.unlink()
    two_epochs = args.protocol == OPTIMISTIC
    for name, rows in joined.items():
        path = scores_dir / name / "score_utt.tsv"
        write_tsv(path, rows, tables.score_columns(labels, two_epochs))
        logger.info(
            "wrote %s: %d utterances, folds %s, seeds %s; all figures pool them, none is a mean "
            "over folds",
            *(path, len(rows) // len(seeds), " ".join(tests), " ".join(seeds)),
        )


def _systems(args, tables):
    if args.systems is None:
        return tables.find_systems(args.scores_dir, "fold*/hyp.tsv")
    names = args.systems.split()
    unknown = [name for name in names if name not in tables.SYSTEMS]
    if unknown or not names:
        raise UserError(
            f"--systems '{args.systems}': expected names of systems: {' '.join(tables.SYSTEMS)}"
        )
    return [system for name, system in tables.SYSTEMS.items() if name in names]


if __name__ == "__main__":
    sys.exit(run(main))
