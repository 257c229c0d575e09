"""Stage 2: draw the mixture table and the train, dev and test lists of every fold."""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from espnet_tse_ser.errors import run
from espnet_tse_ser.mixtures.command_line import (
    add_level_options,
    add_noise_split_option,
    levels_of,
)
from espnet_tse_ser.values.numbers import COUNT, RATE, SEED, Number


def get_parser():
    """The options of stage 2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument(
        "--sources", help="formatted pool of talkers or noise, or --targets; none: all is clean"
    )
    parser.add_argument("--output_dir", required=True, help="receives mixtures.tsv and splits/")
    parser.add_argument(
        "--num_sources", type=COUNT.option, default=1, help="sources beside the target"
    )
    add_level_options(parser)
    parser.add_argument(
        "--every_level", action="store_true", help="each utterance at each level of --snr_set"
    )
    add_noise_split_option(parser)
    parser.add_argument("--gender_state", default="random", help="random, same or different")
    parser.add_argument("--neutral", default="neu", help="label of the enrollment utterances")
    parser.add_argument(
        "--without_enrollment", action="store_true", help="mixtures without enrollments"
    )
    parser.add_argument(
        "--scheme", default="loso", help="loso, loso_speaker or best_test_epoch (see splits.py)"
    )
    parser.add_argument("--dev_split", default="speaker", help="speaker or utterance")
    parser.add_argument(
        "--dev_share",
        type=Number(0, 1, above=True, below=True).option,
        default=0.1,
        help="share of the training side that becomes dev; by speaker at least one of each gender",
    )
    parser.add_argument("--seed", type=SEED.option, default=0, help="seed of every draw")
    parser.add_argument("--fs", type=RATE.option, default=16000, help="sampling rate in Hz")
    return parser


def main(argv=None):
    """Write the mixture table and the splits."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.id_list import write_ids
    from espnet_tse_ser.mixtures.drawing import draw_mixtures
    from espnet_tse_ser.mixtures.pool import Pool
    from espnet_tse_ser.mixtures.splits import fold_of_speakers, split_fold
    from espnet_tse_ser.mixtures.table import write_mixtures
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    levels = levels_of(args)
    corpus = Pool.read(args.targets, args.fs)
    groups = {e.speaker: e.fold for e in corpus.entries.values()}
    targets = corpus.with_folds(fold_of_speakers(corpus.entries.values(), args.scheme))
    sources = Pool.read_sources(args.sources, args.targets, targets)
    mixtures = draw_mixtures(
        targets,
        sources,
        levels,
        args.seed,
        num_sources=0 if sources is None else args.num_sources,
        gender_state=args.gender_state,
        neutral=None if args.without_enrollment else args.neutral,
        every_level=args.every_level,
        noise_split=args.noise_split,
    )
    mixtures_of = defaultdict(list)
    for mixture in mixtures:
        mixtures_of[mixture.target].append(mixture.mixture)
    output_dir = Path(args.output_dir)
    for fold in sorted({m.fold for m in mixtures}):
        split = split_fold(
            targets.entries.values(),
            fold,
            dev_split=args.dev_split,
            dev_share=args.dev_share,
            seed=args.seed,
            scheme=args.scheme,
            groups=groups,
        )
        for name, utts in split.items():
            path = output_dir / "splits" / f"fold{fold}" / f"{name}.lst"
            write_ids(path, (uid for utt in utts for uid in mixtures_of[utt]))
    write_mixtures(output_dir / "mixtures.tsv", mixtures)


if __name__ == "__main__":
    sys.exit(run(main))
