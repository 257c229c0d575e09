"""Stage 14: results.json, RESULTS.md and plots from the score tables of all systems."""

import argparse
import datetime
import logging
import subprocess
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.metrics.stamp import (
    add_dev_option,
    add_protocol_option,
    check_protocol,
    stamp_of,
)
from espnet_tse_ser.progress import log_to_stderr

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores_dir", required=True, help="holds <system>/score_utt.tsv")
    parser.add_argument("--exp_dir", required=True, help="trainings whose curves are plotted")
    parser.add_argument("--output_dir", required=True, help="for results.json, RESULTS.md, plots")
    add_protocol_option(parser)
    add_dev_option(parser)
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_json, write_text
    from espnet_tse_ser.metrics import breakdown, report, results, tables

    scores_dir, output_dir = Path(args.scores_dir), Path(args.output_dir)
    if not Path(args.exp_dir).is_dir():
        raise UserError(f"--exp_dir {args.exp_dir}: no such directory; it holds the trainings")
    labels, scores = tables.read_systems(scores_dir)
    for name, rows in scores.items():
        check_protocol(args.protocol, scores_dir / name / "score_utt.tsv", rows)
    figures = report.Figures(
        labels,
        results.summarise(scores, labels),
        results.compare(scores, labels),
        results.compare_states(scores, labels),
        breakdown.break_down(scores, labels),
        breakdown.wrong_speakers(scores, labels),
    )
    stamp = stamp_of(args, next(iter(scores.values())))
    versions = results.environment()
    plots = _plot(Path(args.exp_dir), output_dir / "plots", figures.results, labels, stamp)
    today = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    header = {"date": today, **versions, "git commit": _git_commit()}
    plots_shown = [path.relative_to(output_dir).as_posix() for path in plots]
    write_text(output_dir / "RESULTS.md", report.render(figures, header, stamp, plots_shown))
    written = {"environment": versions, "protocol": stamp.as_dict(), **vars(figures)}
    write_json(output_dir / "results.json", written)
    logger.info(
        "wrote results.json, RESULTS.md and %d plots to %s: systems %s",
        len(plots),
        output_dir,
        " ".join(scores),
    )


def _plot(exp_dir, directory, summary, labels, stamp):
    """Draw all plots into ``directory`` and return their paths."""
    from espnet_tse_ser.metrics import plots

    paths = [directory / "ladder_ua.png"]
    plots.plot_ladder(paths[0], summary, stamp.warning)
    for result in summary:
        if result["fold"] == "all":
            name = result["system"]
            paths.append(directory / f"confusion_{name}.png")
            plots.plot_confusion(paths[-1], result["confusion"], labels, name)
    for experiment, files in plots.find_histories(exp_dir).items():
        histories = {run: plots.read_epochs(path) for run, path in files.items()}
        if any(histories.values()):
            paths.append(directory / f"training_{experiment}.png")
            plots.plot_training(paths[-1], histories, experiment)
        else:
            logger.warning("%s: its epochs.tsv holds no curves; not plotted", experiment)
    return paths


def _git_commit():
    """The commit of this source tree ("-dirty" with local changes), or None outside git."""
    source = Path(__file__).resolve()
    try:
        for command in (
            # an installed copy may lie in a checkout of something else
            ["git", "ls-files", "--error-unmatch", source.name],
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        ):
            done = subprocess.run(
                command, cwd=source.parent, capture_output=True, text=True, check=True
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(run(main))
