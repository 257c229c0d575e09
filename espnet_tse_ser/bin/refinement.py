"""Stage 14: what TRNet's refinement does: its score by level, embeddings before and after."""

import argparse
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.machine import add_options, set_up
from espnet_tse_ser.report.stamp import add_scheme_option
from espnet_tse_ser.values.numbers import COUNT

logger = logging.getLogger(__name__)

SHOWN = 300  # utterances in a panel of embeddings, at most


def get_parser():
    """The options of the refinement's report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", required=True, help="holds trainings fold<k> of a TRNet")
    parser.add_argument("--data_dir", required=True, help="mixture directory")
    parser.add_argument("--scp", required=True, help="denoised audio")
    parser.add_argument("--table_dir", required=True, help="holds splits (stage 2)")
    parser.add_argument("--folds", required=True, help="folds, e.g. '1 2'")
    add_scheme_option(parser)
    parser.add_argument(
        "--output_dir", required=True, help="gets REFINEMENT.md, refinement.tsv and two plots"
    )
    parser.add_argument("--batch_size", type=COUNT.option, default=8, help="utterances at a time")
    add_options(parser)
    return parser


def main(argv=None):
    """Refine the test mixtures of all folds, and write tables and plots."""
    args = get_parser().parse_args(argv)
    from espnet_tse_ser.audio.id_list import read_ids
    from espnet_tse_ser.files import write_text, write_tsv
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.inference.recognition import refine_set
    from espnet_tse_ser.metrics.runs import chosen_folds
    from espnet_tse_ser.metrics.tables import read_tests
    from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
    from espnet_tse_ser.mixtures.table import read_mixtures
    from espnet_tse_ser.progress import log_to_stderr
    from espnet_tse_ser.report import refinement as report
    from espnet_tse_ser.report.results_report import level_name
    from espnet_tse_ser.report.stamp import commit_of, measure

    log_to_stderr()
    device = set_up(args)
    table = Path(args.data_dir) / "mixtures.tsv"
    mixtures = {m.mixture: m for m in read_mixtures(table)}
    rows, embeddings = [], {}
    folds = chosen_folds(args.folds)
    dev, _ = measure(args.table_dir, read_tests(table, folds), args.scheme)
    for number, fold in enumerate(folds):
        model_dir = Path(args.model_dir) / f"fold{fold}"
        model = TSESER.from_pretrained(model_dir, device=device)
        if not hasattr(model.recogniser, "refine"):
            raise UserError(
                f"{model_dir}: is no TRNet, it refines nothing; give one (model: trnet)"
            )
        if model.recogniser.compensation is None:
            text = f"{args.model_dir} has no compensation, and so no score and no bridge.\n"
            write_text(Path(args.output_dir) / "REFINEMENT.md", text)
            return
        ids = read_ids(Path(args.table_dir) / "splits" / f"fold{fold}" / "test.lst")
        data = MixtureDir(args.data_dir, ids, model.rate, scp=args.scp)
        for utt, (before, after, score) in refine_set(model, data, args.batch_size).items():
            m = mixtures[utt]
            level = m.level or ("clean" if m.snr_db is None else str(round(m.snr_db)))
            row = {"id": utt, "target": m.target, "speaker": m.speaker, "fold": fold}
            rows.append(row | {"emotion": m.emotion, "level": level, "score": f"{score:.6f}"})
            if number == 0:  # embeddings of several models have no map in common
                embeddings[m.target, level] = before, after
    rows.sort(key=lambda row: row["id"])
    output_dir = Path(args.output_dir)
    write_tsv(output_dir / "refinement.tsv", rows, list(rows[0]))
    levels = report.scores_by_level(rows)
    facts = {"trainings": args.model_dir, "folds": ", ".join(folds), "scheme": args.scheme}
    facts |= {"dev": dev, "git commit": commit_of()}
    write_text(output_dir / "REFINEMENT.md", report.render(levels, facts))
    report.plot_scores(output_dir / "scores.png", levels)
    ends = list(dict.fromkeys([levels[-1]["level"], levels[0]["level"]]))  # clean, the noisiest
    targets = sorted({t for t, level in embeddings if all((t, e) in embeddings for e in ends)})
    emotions = {row["target"]: row["emotion"] for row in rows}
    targets = targets[:: -(-len(targets) // SHOWN) or 1]
    if len(targets) < 2:
        logger.info("no picture of embeddings: no target has a clean mixture and a noisy one")
        return
    panels = {
        f"{level_name(end)}, {name} the bridge": [embeddings[t, end][at] for t in targets]
        for at, name in enumerate(("before", "after"))
        for end in ends
    }
    report.plot_embeddings(
        output_dir / "embeddings.png", panels, [emotions[target] for target in targets]
    )


if __name__ == "__main__":
    sys.exit(run(main))
