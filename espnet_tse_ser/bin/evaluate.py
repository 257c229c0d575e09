"""Stage 15: every trained system on one variation of the test mixtures (conf/sweeps)."""

import argparse
import functools
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.mixtures.command_line import (
    add_level_options,
    add_noise_split_option,
    levels_of,
)
from espnet_tse_ser.report.stamp import made_with, measure
from espnet_tse_ser.values.numbers import COUNT, RATE, SEED
from espnet_tse_ser.values.schemes import OPTIMISTIC, SCHEMES

logger = logging.getLogger(__name__)

_ORIGIN = ".made_from"


def get_parser():
    """The options of stage 15."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="what the test changes, of conf/sweeps")
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument("--sources", help="formatted pool of talkers or noise, as in stage 2")
    parser.add_argument(
        "--table_dir", required=True, help="holds mixtures.tsv and splits (stage 2)"
    )
    parser.add_argument("--folds", required=True, help="folds to test, e.g. '1 2'")
    parser.add_argument(
        "--row",
        nargs=3,
        action="append",
        required=True,
        metavar=("SYSTEM/TAG", "DIRECTORY", "CONFIGURATIONS"),
        help="a system, its trained models DIRECTORY/fold1, ..., and what they were made with",
    )
    parser.add_argument("--systems_dir", default="conf/systems", help="declares the systems")
    parser.add_argument(
        "--front_ends",
        default="",
        help="'TAG=DIRECTORY ...': the front-ends that systems tested on denoised speech need",
    )
    parser.add_argument(
        "--output_dir",
        required=True,
        help="gets <system>/<tag>/score_utt.tsv; one that the same models made is kept",
    )
    for name, *choices in (
        ("scheme", *SCHEMES),
        ("gender_state", "random", "same", "different"),
    ):
        parser.add_argument(f"--{name}", choices=choices, default=choices[0], help="as in stage 2")
    add_level_options(parser)
    add_noise_split_option(parser)
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="utterances at a time")
    parser.add_argument(
        "--seed", type=SEED.option, default=0, help="of the mixture table and of fold<k>"
    )
    parser.add_argument(
        "--seeds", type=SEED.list_option, default="", help="further seeds, of fold<k>_seed<s>"
    )
    parser.add_argument("--neutral", default="neu", help="label of the enrollment utterances")
    parser.add_argument("--fs", type=RATE.option, default=16000, help="sampling rate in Hz")
    add_options(parser)
    return parser


def main(argv=None):
    """Vary the mixtures, recognise them and write a table for every system."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.files import write_text, write_tsv
    from espnet_tse_ser.inference.evaluation import extract_set, recognize_rows, score_inputs
    from espnet_tse_ser.metrics import tables
    from espnet_tse_ser.metrics.fields import labels_of
    from espnet_tse_ser.metrics.joining import join
    from espnet_tse_ser.metrics.runs import all_seeds, chosen_folds, run_name
    from espnet_tse_ser.mixtures.mixture_set import MixturesInMemory
    from espnet_tse_ser.mixtures.table import write_mixtures
    from espnet_tse_ser.mixtures.variations import read_variation
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.systems.command_line import parse_tagged, rows_of
    from espnet_tse_ser.systems.system import read_systems

    log_to_stderr()
    device = set_up(args)
    seeds = all_seeds(args.seed, args.seeds)
    folds = chosen_folds(args.folds)
    tables.read_tests(Path(args.table_dir) / "mixtures.tsv", folds)  # are the folds there?
    variation = read_variation(args.config)
    rows = rows_of(args.row, read_systems(args.systems_dir))
    for row, *_ in rows:
        if row.system.hypotheses:
            raise UserError(
                f"--row {row.directory}: is a table of hypotheses, and no model to test"
            )
    front_ends = parse_tagged(args.front_ends, "--front_ends")
    output_dir = Path(args.output_dir)
    mixtures, targets, sources = _mixtures(args, folds, variation)
    write_mixtures(output_dir / "mixtures.tsv", mixtures)
    tests = tables.read_tests(output_dir / "mixtures.tsv", folds)
    measured = measure(args.table_dir, tests, args.scheme)
    criterion = "valid.ua" if args.scheme == OPTIMISTIC else None  # that of hypothesis, stage 12
    runs = {(fold, seed): run_name(fold, seed, seeds[0]) for fold in tests for seed in seeds}
    sum_of = functools.cache(_checksum)  # rows share models
    origins = {
        row: _origin(args, row, runs.values(), criterion, measured, sum_of, *how, front_ends)
        for row, *how in rows
    }
    kept = [row for row in origins if _is_kept(output_dir / row.directory, origins[row])]
    rows = [(row, *how) for row, *how in rows if row not in kept]
    logger.info("%d of %d systems were tested before", len(kept), len(origins))
    hypotheses, tse_scores = {row: {} for row, *_ in rows}, {}
    extractors = _load_extractors(args, rows, front_ends, device)
    for fold in tests if rows else ():
        data = MixturesInMemory([m for m in mixtures if m.fold == fold], targets, sources)
        if any(row.system.test == "noisy" for row, *_ in rows):
            tse_scores.setdefault("mixtures", {}).update(score_inputs(data))
        for tag in [None, *extractors]:
            tested = [(row, runs_dir) for row, runs_dir, _ in rows if _front_end(row) == tag]
            if tag is not None:
                scores = extract_set(extractors[tag], data, args.batch_size)
                tse_scores.setdefault(tag, {}).update(scores)
            for seed in seeds:
                how = runs[fold, seed], args.batch_size, criterion, device
                for row, *found in recognize_rows(data, tested, *how):
                    hypotheses[row][fold, seed] = found
    for row, _, configuration in rows:
        how = made_with(configuration, args.scheme, *measured)
        table = join(row, hypotheses[row], tests, tse_scores, how)
        directory = output_dir / row.directory
        (directory / _ORIGIN).unlink(missing_ok=True)
        columns = tables.score_columns(labels_of(table[0]), levels="level" in table[0])
        write_tsv(directory / "score_utt.tsv", table, columns)
        write_text(directory / _ORIGIN, origins[row])


def _front_end(row):
    """The tag of the front-end whose output a row is tested on, or None."""
    return row.parts["tse"] if row.system.test == "denoised" else None


def _origin(args, row, runs, criterion, measured, sum_of, directory, configuration, front_ends):
    """What the table of a row follows from, as text: mixtures, data, weights and how it is made."""
    from espnet_tse_ser.frontends.model_files import files_of
    from espnet_tse_ser.training.checkpoints import weights_of

    files = [Path(args.output_dir) / "mixtures.tsv"]
    files += [Path(pool) / ".done" for pool in filter(None, (args.targets, args.sources))]
    files += [weights_of(Path(directory) / run, criterion) for run in sorted(runs)]
    if tag := _front_end(row):
        if tag not in front_ends:
            raise UserError(f"--front_ends: has no '{tag}', which {row.directory} is tested on")
        front_end = files_of(front_ends[tag])
        files += [front_end.weights, *([front_end.config] if front_end.record else [])]
    how = (configuration, args.scheme, *measured, args.seed, args.seeds)
    lines = [" ".join(map(str, (row.directory, *how)))]
    lines += [f"{path} {sum_of(path)}" for path in files]
    return "\n".join(lines) + "\n"


def _checksum(path):
    """`checksum`; nothing where there is no file."""
    from espnet_tse_ser.files import checksum

    return checksum(path) if path.is_file() else ""


def _is_kept(directory, origin):
    """Whether a table is there that was made in the same way."""
    path = directory / _ORIGIN
    return (directory / "score_utt.tsv").is_file() and path.is_file() and path.read_text() == origin


def _mixtures(args, folds, variation):
    """The varied mixtures of the folds, and the pools they are made of."""
    from espnet_tse_ser.mixtures.pool import Pool
    from espnet_tse_ser.mixtures.sources import group_folds
    from espnet_tse_ser.mixtures.splits import fold_of_speakers
    from espnet_tse_ser.mixtures.table import read_mixtures
    from espnet_tse_ser.mixtures.variations import vary
    from espnet_tse_ser.progress import progress

    # As in stage 2: sources that are no one's but this fold's.
    targets = Pool.read(args.targets, args.fs)
    targets = targets.with_folds(fold_of_speakers(targets.entries.values(), args.scheme))
    directory = args.sources
    if variation.sources is not None:
        directory = Path(args.sources or args.targets).parent / variation.sources
    if variation.sources == "emo":
        directory = args.targets
    sources = Pool.read_sources(directory, args.targets, targets)
    fold_of = {} if sources is None else group_folds(targets, sources, args.seed, args.noise_split)
    table = read_mixtures(Path(args.table_dir) / "mixtures.tsv")
    most = max(len(m.sources) for m in table)
    levels = levels_of(args)
    mixtures = [
        vary(
            mixture,
            variation,
            targets,
            sources,
            fold_of,
            args.seed,
            neutral=args.neutral,
            gender_state=args.gender_state,
            levels=levels,
            num_sources=max(most, 1),
        )
        for mixture in progress([m for m in table if m.fold in folds], "vary")
    ]
    return mixtures, targets, sources


def _load_extractors(args, rows, front_ends, device):
    """Tag -> front-end, of those that rows are tested with."""
    from espnet_tse_ser.frontends.loading import load_front_end

    extractors = {}
    for tag in dict.fromkeys(_front_end(row) for row, *_ in rows):
        if tag is not None:
            extractors[tag] = front_end = load_front_end(front_ends[tag], device=device)
            if front_end.rate != args.fs:
                raise UserError(
                    f"{front_ends[tag]}: is for {front_end.rate} Hz, the data has {args.fs} Hz"
                )
    return extractors


if __name__ == "__main__":
    sys.exit(run(main))
