"""Stage 3: check corpora, mixture table and splits before any training."""

import argparse
import logging
import sys
from itertools import chain
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.mixtures.command_line import add_noise_split_option
from espnet_tse_ser.values.numbers import RATE


def get_parser():
    """The options of stage 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument("--sources", help="formatted pool of talkers or noise, as in stage 2")
    parser.add_argument(
        "--pretrain", nargs="*", default=[], help="formatted pools of the front-end's pretraining"
    )
    parser.add_argument(
        "--pretrain_noise", help="formatted pool of noise in the front-end's pretraining"
    )
    parser.add_argument(
        "--sweep_sources", nargs="*", default=[], help="formatted pools of sources in sweeps alone"
    )
    parser.add_argument("--table_dir", required=True, help="directory of mixtures.tsv and splits")
    parser.add_argument("--labels", default="ang hap neu sad", help="the known emotions")
    parser.add_argument("--folds", default="", help="folds that are to be there, and tested")
    parser.add_argument("--neutral", default="neu", help="label of the enrollment utterances")
    parser.add_argument("--scheme", default="loso", help="as in stage 2")
    add_noise_split_option(parser)
    parser.add_argument("--fs", type=RATE.option, default=16000, help="sampling rate in Hz")
    return parser


def main(argv=None):
    """Check everything; all violations are reported together."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.kaldi_dir import NOISE
    from espnet_tse_ser.mixtures import checks
    from espnet_tse_ser.mixtures.pool import Pool
    from espnet_tse_ser.mixtures.splits import (
        describe_dev,
        fold_of_speakers,
        read_split,
        shared_noise,
    )
    from espnet_tse_ser.mixtures.table import read_mixtures
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.values.ids import fold_key

    log_to_stderr()
    targets = Pool.read(args.targets, args.fs)
    targets = targets.with_folds(fold_of_speakers(targets.entries.values(), args.scheme))
    sources = Pool.read_sources(args.sources, args.targets, targets)
    pools = {"targets": targets}
    if sources not in (None, targets):
        pools["noise" if sources.kind == NOISE else "interferers"] = sources
    for number, directory in enumerate(args.pretrain, 1):
        pools["pretrain" if number == 1 else f"pretrain {number}"] = Pool.read(directory, args.fs)
    if args.pretrain_noise:
        pools["pretraining noise"] = Pool.read(args.pretrain_noise, args.fs)
        if pools["pretraining noise"].kind != NOISE:
            raise UserError(
                f"--pretrain_noise {args.pretrain_noise}: holds talkers; give them as --pretrain"
            )
    for directory in args.sweep_sources:
        pools[f"sources of sweeps ({Path(directory).name})"] = Pool.read(directory, args.fs)
    table_dir = Path(args.table_dir)
    mixtures = read_mixtures(table_dir / "mixtures.tsv")
    if sources is None and any(m.sources for m in mixtures):
        raise UserError(
            f"{table_dir / 'mixtures.tsv'}: its mixtures have sources, but --sources is not given; "
            "name their pool"
        )
    folds = sorted({m.fold for m in mixtures})
    seen = {}
    splits = {f: read_split(table_dir / "splits" / f"fold{f}") for f in folds}
    checks.report(
        chain(
            checks.check_labels(targets, args.labels.split()),
            checks.check_folds(mixtures, args.folds.split()),
            checks.check_groups(pools),
            checks.check_mixtures(mixtures, targets, sources, args.neutral),
            *(
                checks.check_split(fold, split, mixtures, args.scheme, args.noise_split)
                for fold, split in splits.items()
            ),
            *(checks.check_audio(pool, label, seen) for label, pool in pools.items()),
        )
    )
    asked = args.folds.split() or folds
    speaker_of = {m.mixture: m.speaker for m in mixtures}
    for fold in asked:
        split = splits[fold]
        logging.info(
            "fold %s: train %d, dev %d, test %d; dev: %s",
            *(fold, *(len(split[side]) for side in split)),
            describe_dev([split], speaker_of, args.scheme),
        )
    noise_of = {m.mixture: [s.group for s in m.of_kind(NOISE)] for m in mixtures}
    if shared := shared_noise(splits.values(), noise_of):
        logging.warning(
            "noise is shared between train and test, as asked: %d of %d recordings",
            *(len(shared), len(set(chain(*noise_of.values())))),
        )
    left_out = checks.untested(mixtures, asked)
    if left_out:
        logging.warning(
            "%d utterances of folds %s are never tested: --folds is %s",
            *(left_out.total(), ", ".join(sorted(left_out, key=fold_key)), args.folds),
        )
    sizes = ", ".join(f"{len(pool)} {label}" for label, pool in pools.items())
    logging.info("%d mixtures in %d folds; %s: no violation", len(mixtures), len(folds), sizes)


if __name__ == "__main__":
    sys.exit(run(main))
