"""Stage 14: results.json, RESULTS.md and plots from the score tables of all systems."""

import argparse
import datetime
import logging
import subprocess
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr

logger = logging.getLogger(__name__)


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores_dir", required=True, help="holds <system>/score_utt.tsv")
    parser.add_argument("--exp_dir", required=True, help="trainings whose curves are plotted")
    parser.add_argument("--output_dir", required=True, help="for results.json, RESULTS.md, plots")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_json, write_text
    from espnet_tse_ser.metrics import report, results, tables

    scores_dir, output_dir = Path(args.scores_dir), Path(args.output_dir)
    labels, scores = None, {}
    for system in tables.find_systems(scores_dir, "score_utt.tsv"):
        path = scores_dir / system.name / "score_utt.tsv"
        own_labels, scores[system.name] = tables.read_scores(path)
        labels = labels or own_labels
        if own_labels != labels:
            raise UserError(
                f"{path}: classes are {' '.join(own_labels)}, but {' '.join(labels)} in the "
                "systems before; run stage 13 again"
            )
    summary = results.summarise(scores, labels)
    versions = results.environment()
    plots = _plot(Path(args.exp_dir), output_dir / "plots", summary, labels)
    today = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    header = {"date": today, **versions, "git commit": _git_commit()}
    text = report.render(
        labels,
        summary,
        results.compare(scores, labels),
        header,
        [path.relative_to(output_dir).as_posix() for path in plots],
    )
    write_text(output_dir / "RESULTS.md", text)
    figures = {"environment": versions, "labels": labels, "results": summary}
    write_json(output_dir / "results.json", figures)
    logger.info(
        "wrote results.json, RESULTS.md and %d plots to %s: systems %s",
        len(plots),
        output_dir,
        " ".join(scores),
    )


def _plot(exp_dir, directory, summary, labels):
    """Draw all plots into ``directory`` and return their paths."""
    from espnet_tse_ser.metrics import plots

    paths = [directory / "ladder_ua.png"]
    plots.plot_ladder(paths[0], summary)
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
