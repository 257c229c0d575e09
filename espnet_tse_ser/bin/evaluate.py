"""Stage 15: every trained system on one variation of the test mixtures (conf/tests)."""

import argparse
import os
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.metrics.stamp import PROTOCOLS
from espnet_tse_ser.numbers import COUNT, RATE, SEED


def get_parser():
    """The options of stage 15."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="what the test changes, of conf/tests")
    parser.add_argument("--targets", required=True, help="formatted emotional corpus")
    parser.add_argument(
        "--interferers", required=True, help="formatted interferer pool, or --targets"
    )
    parser.add_argument("--protocol_dir", required=True, help="directory of protocol.tsv")
    parser.add_argument("--folds", required=True, help="folds to test, e.g. '1 2'")
    parser.add_argument(
        "--models",
        required=True,
        help="'CONDITION=DIRECTORY ...': for clean, noisy, denoised or joint the trained models, "
        "DIRECTORY/fold1, ...",
    )
    parser.add_argument("--tse_dir", help="TSE experiment; without it nothing is denoised")
    parser.add_argument("--output_dir", required=True, help="gets <system>/score_utt.tsv")
    for name, *choices in (
        ("protocol", *PROTOCOLS),
        ("gender_state", "random", "same", "different"),
        ("levels", "loudness", "snr"),
    ):
        parser.add_argument(f"--{name}", choices=choices, default=choices[0], help="as in stage 2")
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="utterances at a time")
    parser.add_argument(
        "--seed", type=SEED.option, default=0, help="of the protocol and of fold<k>"
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
    from espnet_tse_ser.data.protocol import write_protocol
    from espnet_tse_ser.data.variations import read_variation
    from espnet_tse_ser.files import write_tsv
    from espnet_tse_ser.metrics import tables
    from espnet_tse_ser.progress import log_to_stderr

    log_to_stderr()
    device = set_up(args)
    seeds = tables.all_seeds(args.seed, args.seeds)
    folds = tables.chosen_folds(args.folds)
    tables.read_protocol(Path(args.protocol_dir) / "protocol.tsv", folds)  # are the folds there?
    variation = read_variation(args.config)
    models = _models(args.models)
    output_dir = Path(args.output_dir)
    mixtures, targets, interferers = _mixtures(args, folds, variation)
    write_protocol(output_dir / "protocol.tsv", mixtures)
    tests = tables.read_protocol(output_dir / "protocol.tsv", folds)
    hypotheses, tse_scores, extractor = {}, {}, _load_extractor(args, device)
    for fold in tests:
        chosen = [m for m in mixtures if m.fold == fold]
        found, scores = _recognize(
            args, seeds, fold, chosen, (targets, interferers), extractor, models, device
        )
        tse_scores |= scores
        for (system, seed), rows in found.items():
            hypotheses.setdefault(system, {})[fold, seed] = rows
    for other in tables.SYSTEMS.keys() - hypotheses.keys():  # of models that were there before
        (output_dir / other / "score_utt.tsv").unlink(missing_ok=True)
    for name, found in hypotheses.items():
        rows = tables.join(tables.SYSTEMS[name], found, tests, tse_scores or None)
        labels = [c.removeprefix("p_") for c in rows[0] if c.startswith("p_")]
        write_tsv(output_dir / name / "score_utt.tsv", rows, tables.score_columns(labels))


def _models(text):
    """Parse --models into a dict."""
    models = {}
    for item in text.split():
        condition, _, directory = item.partition("=")
        if condition not in ("clean", "noisy", "denoised", "joint") or not directory:
            raise UserError(
                f"--models: '{item}': expected clean, noisy, denoised or joint, '=' and a directory"
            )
        if condition in models:
            raise UserError(f"--models: '{condition}' is there twice; give one directory for it")
        models[condition] = directory
    if not models:
        raise UserError("--models is empty; name the directory of at least one condition")
    return models


def _mixtures(args, folds, variation):
    """The varied mixtures of the folds, and the pools they are made of."""
    from espnet_tse_ser.data.pool import Pool
    from espnet_tse_ser.data.protocol import read_protocol, speaker_folds
    from espnet_tse_ser.data.splits import fold_of_speakers
    from espnet_tse_ser.data.variations import vary
    from espnet_tse_ser.progress import progress

    # As in stage 2: interferers that are no one's but this fold's.
    targets = Pool.read(args.targets, args.fs)
    targets = targets.with_folds(fold_of_speakers(targets.entries.values(), args.protocol))
    directory = Path(args.interferers)
    if variation.interferers is not None:
        directory = directory.parent / variation.interferers
    same = os.path.realpath(directory) == os.path.realpath(args.targets)
    same = same or variation.interferers == "emo"
    interferers = targets if same else Pool.read(directory, args.fs)
    fold_of = speaker_folds(targets, interferers, args.seed)
    protocol = read_protocol(Path(args.protocol_dir) / "protocol.tsv")
    mixtures = [
        vary(
            *(m, variation, targets, interferers, fold_of, args.seed, args.neutral),
            *(args.gender_state, args.levels),
        )
        for m in progress([m for m in protocol if m.fold in folds], "vary")
    ]
    return mixtures, targets, interferers


def _load_extractor(args, device):
    """The pretrained extraction model, or None without --tse_dir."""
    from espnet_tse_ser.tse.extraction import load_extraction_model

    if args.tse_dir is None:
        return None
    model, rate = load_extraction_model(args.tse_dir)
    if rate != args.fs:
        raise UserError(f"{args.tse_dir}: is for {rate} Hz, the data has {args.fs} Hz")
    return model.to(device)


def _recognize(args, seeds, fold, mixtures, pools, extractor, models, device):
    """(system, seed) -> (model, rows) of a fold, and the scores of the extracted speech."""
    from espnet_tse_ser.evaluation import RenderedMixtures, extract_set, recognize_systems
    from espnet_tse_ser.metrics.stamp import OPTIMISTIC
    from espnet_tse_ser.metrics.tables import run_name

    criterion = "valid.ua" if args.protocol == OPTIMISTIC else None  # that of hypothesis, stage 12
    data = RenderedMixtures(mixtures, *pools)
    scores = {} if extractor is None else extract_set(extractor, data, args.batch_size)
    found = {}
    for seed in seeds:
        name = run_name(fold, seed, seeds[0])
        systems = recognize_systems(data, models, name, args.batch_size, criterion, device)
        for system, rows in systems.items():
            found[system, seed] = rows
    return found, scores


if __name__ == "__main__":
    sys.exit(run(main))
