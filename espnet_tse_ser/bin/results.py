"""Stage 14: results.json, RESULTS.md and plots from the score tables of all systems."""

import argparse
import datetime
import logging
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr
from espnet_tse_ser.report.stamp import check_table, commit_of, stamp_of

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores_dir", required=True, help="holds <system>/<tag>/score_utt.tsv")
    parser.add_argument("--exp_dir", required=True, help="trainings whose curves are plotted")
    parser.add_argument("--output_dir", required=True, help="for results.json, RESULTS.md, plots")
    parser.add_argument(
        "--rows",
        help='<system>/<tag> that have to be there, e.g. "base/default ft/default"; others are '
        "shown with them where they can be compared; default: all that were scored",
    )
    parser.add_argument("--systems_dir", default="conf/systems", help="declares the systems")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_json, write_text
    from espnet_tse_ser.metrics import breakdown, tables
    from espnet_tse_ser.report import results
    from espnet_tse_ser.report import results_report as report
    from espnet_tse_ser.systems.command_line import chosen_rows
    from espnet_tse_ser.systems.system import read_systems

    scores_dir, output_dir = Path(args.scores_dir), Path(args.output_dir)
    if not Path(args.exp_dir).is_dir():
        raise UserError(f"--exp_dir {args.exp_dir}: no such directory; it holds the trainings")
    systems = read_systems(args.systems_dir)
    own = chosen_rows(args.rows)
    labels, scores, rows, left_out = tables.read_rows(scores_dir, systems, own)
    for name, table in scores.items():
        path = scores_dir / rows[name].directory / "score_utt.tsv"
        check_table(path, table)
    for name, reason in left_out.items():
        logger.warning("%s is not shown: %s", name, reason)
    figures = report.Figures(
        labels,
        results.summarise(scores, labels, rows),
        rows,
        results.describe(scores, rows),
        left_out,
        results.compare(scores, labels, rows),
        results.compare_states(scores, labels),
        breakdown.break_down(scores, labels),
        breakdown.wrong_speakers(scores, labels),
    )
    stamp = stamp_of(next(iter(scores.values())))
    versions = results.environment()
    levels = any("level" in row for row in next(iter(scores.values())))
    plots = _plot(Path(args.exp_dir), output_dir / "plots", figures, stamp, levels)
    today = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    header = {"date": today, **versions, "git commit": commit_of()}
    plots_shown = [path.relative_to(output_dir).as_posix() for path in plots]
    text = report.render(figures, header, stamp, plots_shown, systems.values())
    write_text(output_dir / "RESULTS.md", text)
    shown = {key: value for key, value in vars(figures).items() if key != "systems"}
    written = {"environment": versions, "scheme": stamp.as_dict(), **shown}
    write_json(output_dir / "results.json", written)
    logger.info(
        "wrote results.json, RESULTS.md and %d plots to %s: systems %s",
        len(plots),
        output_dir,
        " ".join(scores),
    )


def _plot(exp_dir, directory, figures, stamp, levels):
    """Draw all plots into ``directory`` and return their paths."""
    from espnet_tse_ser.report import plots

    paths = [directory / "ladder_ua.png"]
    plots.plot_ladder(paths[0], figures.results, figures.systems, stamp.warning)
    if levels:
        paths.append(directory / "levels_ua.png")
        plots.plot_levels(paths[-1], figures.breakdown, figures.systems, stamp.warning)
    for result in figures.results:
        if result["fold"] == "all":
            name = result["system"]
            file_name = name.replace(" (", "@").rstrip(")")  # of "base (big)"
            paths.append(directory / f"confusion_{file_name}.png")
            plots.plot_confusion(paths[-1], result["confusion"], figures.labels, name)
    for experiment, files in plots.find_histories(exp_dir).items():
        histories = {run: plots.read_epochs(path) for run, path in files.items()}
        if any(histories.values()):
            paths.append(directory / f"training_{experiment}.png")
            plots.plot_training(paths[-1], histories, experiment)
        else:
            logger.warning("%s: its epochs.tsv holds no curves; not plotted", experiment)
    return paths


if __name__ == "__main__":
    sys.exit(run(main))
