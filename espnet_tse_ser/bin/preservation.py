"""Stage 13: what of the target's voice and emotion the mixture and the extracted speech keep."""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.progress import log_to_stderr, map_progress, progress
from espnet_tse_ser.report.stamp import Stamp, add_scheme_option, check_name, commit_of, measure
from espnet_tse_ser.values.ids import check_id
from espnet_tse_ser.values.numbers import COUNT, RATE

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="In an SCP or HYP, {fold} stands for the test fold."
    )
    parser.add_argument("--data_dir", required=True, help="mixture directory (stage 4)")
    parser.add_argument(
        "--condition",
        required=True,
        nargs="+",
        action="append",
        metavar=("NAME", "SCP"),
        help="audio to compare with the target, e.g. NAME = noisy, denoised, ft; a third value "
        "HYP is what the clean-trained recogniser made of it (hyp.tsv of stage 12)",
    )
    parser.add_argument("--clean_hyp", help="HYP of clean speech; then all conditions need one")
    parser.add_argument(
        "--clean_model",
        help="SER experiment of stage 10 on clean speech, with {fold} in its name: how similar its "
        "embeddings are to those of clean speech",
    )
    parser.add_argument("--folds", help='test folds, e.g. "1 2"; default: all of the mixture table')
    parser.add_argument(
        "--output_dir",
        required=True,
        help="for preservation_utt.tsv, preservation.json, PRESERVATION.md",
    )
    parser.add_argument(
        "--fs", type=RATE.option, default=16000, help="sampling rate of all audio in Hz"
    )
    parser.add_argument("--nj", type=COUNT.option, default=1, help="number of processes")
    add_options(parser)
    add_scheme_option(parser)
    parser.add_argument(
        "--table_dir", help="holds mixtures.tsv and splits (stage 2), for the head of each table"
    )
    return parser


def main(argv=None):
    """Compare all utterances of the folds and write the table and its figures."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_json, write_text
    from espnet_tse_ser.metrics.tables import read_tests
    from espnet_tse_ser.report import preservation_table
    from espnet_tse_ser.report.preservation_report import render
    from espnet_tse_ser.report.results import environment
    from espnet_tse_ser.values.ids import fold_key

    check_name(args.scheme)
    conditions = _conditions(args)
    entries, labels = _entries(args, conditions)
    if args.clean_model and "{fold}" not in args.clean_model:
        raise UserError(
            f"--clean_model {args.clean_model}: is to have {{fold}} in its name, which stands for "
            "the test fold, so that no recogniser has seen what it embeds"
        )
    device = set_up(args)
    logger.info("comparing %d utterances with %s", len(entries), " ".join(conditions))
    compare = partial(_compare, fs=args.fs)
    rows = map_progress(compare, entries, "compare", args.nj)
    if args.clean_model:
        _embed(args, entries, rows, device)
    output_dir = Path(args.output_dir)
    path = output_dir / "preservation_utt.tsv"
    preservation_table.write_preservation(path, [row for parts in rows for row in parts])
    rows = preservation_table.read_preservation(path)
    folds = tuple(sorted({row["fold"] for row in rows}, key=fold_key))
    measured = None, None
    if args.table_dir is not None:
        tests = read_tests(Path(args.table_dir) / "mixtures.tsv", folds)
        measured = measure(args.table_dir, tests, args.scheme)
    stamp = Stamp(args.scheme, measured[0], folds, (), len(entries), measured[1])
    figures = {
        "scheme": stamp.as_dict(),
        "summary": preservation_table.summarise(rows),
        "changes": preservation_table.changes(rows),
        "recognition": preservation_table.recognition(rows, labels) if labels else [],
        "prediction": preservation_table.predict(rows) if labels else [],
    }
    header = {**environment(), "git commit": commit_of()}
    write_json(output_dir / "preservation.json", figures)
    write_text(output_dir / "PRESERVATION.md", render(figures, stamp, header))
    logger.info("wrote %s, preservation.json and PRESERVATION.md", path)


def _conditions(args):
    """NAME -> (SCP, HYP or None)."""
    wanted = ["SCP", "HYP"] if args.clean_hyp else ["SCP"]
    conditions = {}
    for name, *files in args.condition:
        check_id(name, "--condition")
        if len(files) != len(wanted):
            raise UserError(
                f"--condition {name}: expected NAME {' '.join(wanted)} "
                f"{'with' if args.clean_hyp else 'without'} --clean_hyp, got "
                f"{' '.join([name, *files])}"
            )
        if name in conditions or name == "clean":
            raise UserError(f"--condition {name}: the name is taken; give another one")
        conditions[name] = (files[0], files[1] if args.clean_hyp else None)
    return conditions


def _entries(args, conditions):
    """What to compare: a list of dicts, one an utterance; and the labels (None without HYP)."""
    from espnet_tse_ser.audio.id_list import select
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.metrics.runs import chosen_folds
    from espnet_tse_ser.metrics.tables import read_tests

    data_dir, labels, entries = Path(args.data_dir), None, []
    folds = chosen_folds(args.folds)
    for fold, test in read_tests(data_dir / "mixtures.tsv", folds).items():
        ids = sorted(test)
        scps = {name: scp.replace("{fold}", fold) for name, (scp, _) in conditions.items()}
        scps["clean"] = data_dir / "spk1.scp"
        audio = {name: select(read_table(path), ids, path) for name, path in scps.items()}
        hypotheses = {}
        if args.clean_hyp:
            hyps = {"clean": args.clean_hyp} | {name: hyp for name, (_, hyp) in conditions.items()}
            for name, hyp in hyps.items():
                path = hyp.replace("{fold}", fold)
                labels, hypotheses[name] = _hypotheses(path, test, labels)
        for uid in ids:
            row = {c: test[uid][c] for c in ("speaker", "gender", "fold", "emotion")}
            row |= {"id": uid, "gender_state": test[uid]["gender_state"]}
            entries.append(
                {
                    "row": row,
                    "audio": {name: paths[uid] for name, paths in audio.items()},
                    "hypotheses": {name: table[uid] for name, table in hypotheses.items()},
                    "labels": labels,
                }
            )
    return entries, labels


def _hypotheses(path, test, labels):
    """The labels and the rows of one hyp.tsv, checked against that of mixtures and others."""
    from espnet_tse_ser.audio.id_list import select
    from espnet_tse_ser.metrics.tables import read_hypotheses

    own_labels, rows = read_hypotheses(path)
    if labels and own_labels != labels:
        raise UserError(
            f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the tables "
            "before; recognise all conditions with the same recogniser"
        )
    rows = select(rows, sorted(test), path)
    for uid, row in rows.items():
        if row["reference"] != test[uid]["emotion"]:
            raise UserError(
                f"{path}: {uid}: reference is {row['reference']} but the mixture table says "
                f"{test[uid]['emotion']}; delete the file and run stage 12 again"
            )
    return own_labels, rows


def _embed(args, entries, rows, device):
    """Add to the rows how similar the embeddings of each condition are to those of clean speech."""
    from espnet_tse_ser.audio.reading import read_mono
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.metrics.preservation import cosine
    from espnet_tse_ser.training.checkpoints import find_weights

    of_fold, model = None, None
    for entry, own in zip(progress(entries, "embed"), rows, strict=True):
        if entry["row"]["fold"] != of_fold:
            of_fold = entry["row"]["fold"]
            directory = args.clean_model.replace("{fold}", of_fold)
            weights = None  # those of the hypotheses, see `recognize --by_ua_and_wa`
            if args.scheme == "best_test_epoch":
                weights = find_weights(directory, "valid.ua")
            model = TSESER.from_pretrained(directory, weights, device, calibrated=False)
            if model.inputs != ("speech",):
                logger.warning(
                    "%s: recognises from %s; the emotion similarity is of recognisers of speech "
                    "alone, and left out",
                    directory,
                    ", ".join(model.inputs),
                )
                return
        clean = read_mono(entry["audio"]["clean"], model.rate)
        others = [_read_other(entry["audio"][r["condition"]], model.rate, len(clean)) for r in own]
        reference, *found = model.embed([clean, *others])
        for row, embedding in zip(own, found, strict=True):
            row["emotion_similarity"] = cosine(reference, embedding)


def _compare(entry, fs):
    """The rows of one utterance (module level, so that it can be sent to a process)."""
    try:
        return _measure(entry, fs)
    except UserError as error:
        raise UserError(f"'{entry['row']['id']}': {error}") from None


def _measure(entry, fs):
    from espnet_tse_ser.audio.reading import read_mono
    from espnet_tse_ser.metrics.preservation import acoustic_measures, track

    paths = dict(entry["audio"])
    target_path = paths.pop("clean")
    samples = read_mono(target_path, fs, round(0.1 * fs))
    target = track(samples, fs)
    rows = []
    for name, path in paths.items():
        measures = acoustic_measures(target, track(_read_other(path, fs, len(samples)), fs))
        measures |= {"emotion_similarity": float("nan")}  # `_embed` knows
        rows.append({**entry["row"], "condition": name, **measures, **_emotion(entry, name)})
    return rows


def _read_other(path, fs, num_samples):
    from espnet_tse_ser.audio.reading import read_audio

    samples, rate = read_audio(path)  # it may be silent: that is a result, not an error
    if rate != fs or samples.shape != (num_samples, 1):
        raise UserError(
            f"{path}: {samples.shape[0]} samples, {samples.shape[1]} channel(s), {rate} Hz, but "
            f"its target has {num_samples} samples, 1 channel, {fs} Hz; delete it and run the "
            "stage that writes it again"
        )
    return samples[:, 0]


def _emotion(entry, condition):
    """The part of a row that is about the recogniser's decisions and posteriors."""
    from espnet_tse_ser.metrics.preservation import kl_divergence

    if not entry["labels"]:
        empty = {"clean_hypothesis": "", "hypothesis": ""}
        return empty | {"agreement": float("nan"), "kl": float("nan")}
    clean, other = (entry["hypotheses"][name] for name in ("clean", condition))
    posteriors = ([float(row[f"p_{label}"]) for label in entry["labels"]] for row in (clean, other))
    return {
        "clean_hypothesis": clean["hypothesis"],
        "hypothesis": other["hypothesis"],
        "agreement": float(clean["hypothesis"] == other["hypothesis"]),
        "kl": float(kl_divergence(*posteriors)),
    }


if __name__ == "__main__":
    sys.exit(run(main))
