"""RESULTS_SWEEPS.md, sweeps.json and plots: trained systems on variations of test mixtures."""

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
    parser.add_argument(
        "--sweeps_dir",
        required=True,
        help="holds <name>/<system>/<tag>/score_utt.tsv of every point",
    )
    parser.add_argument(
        "--conf_dir", required=True, help="holds <name>.yaml of every point: sweep, value, about"
    )
    parser.add_argument(
        "--scores_dir",
        required=True,
        help="<system>/<tag>/score_utt.tsv of the main condition",
    )
    parser.add_argument(
        "--output_dir", required=True, help="for RESULTS_SWEEPS.md, sweeps.json and plots"
    )
    parser.add_argument(
        "--sweeps", help='names of files in conf_dir, e.g. "snr_-5 snr_5"; default: all'
    )
    parser.add_argument("--rows", help="as of the results of the main condition")
    parser.add_argument("--systems_dir", default="conf/systems", help="declares the systems")
    return parser


def main(argv=None):
    args = get_parser().parse_args(argv)
    log_to_stderr()
    from espnet_tse_ser.files import write_json, write_text
    from espnet_tse_ser.metrics import tables
    from espnet_tse_ser.report import plots, results, sweeps, sweeps_report
    from espnet_tse_ser.systems.command_line import chosen_rows
    from espnet_tse_ser.systems.system import read_systems

    output_dir = Path(args.output_dir)
    own = chosen_rows(args.rows)
    labels, scores, systems, left_out = tables.read_rows(
        args.scores_dir, read_systems(args.systems_dir), own
    )
    for name, reason in left_out.items():
        logger.warning("%s is not shown: %s", name, reason)
    for name, rows in scores.items():
        path = Path(args.scores_dir) / systems[name].directory / "score_utt.tsv"
        check_table(path, rows)
        for row in rows:
            row.pop("hypothesis_wa", None)  # points have one epoch of a system, the best in UA
    names = None if args.sweeps is None else args.sweeps.split()
    if names == []:
        raise UserError("--sweeps is empty; name files of --conf_dir, or leave it out for all")
    points, unknown = sweeps.read_points(
        args.sweeps_dir, args.conf_dir, labels, systems, names, own
    )
    if not any(point.scores for point in points):
        raise UserError(
            f"{args.sweeps_dir}: no <name>/<system>/<tag>/score_utt.tsv of what is in "
            f"{args.conf_dir}; run them first"
        )
    summary = sweeps.summarise(points, scores, labels, systems)
    stamp = stamp_of(next(iter(scores.values())))
    shown = {}
    for sweep in summary:
        if len(sweep["rows"]) > 1:
            path = output_dir / "plots" / sweeps.plot_name(sweep["sweep"])
            plots.plot_sweep(path, sweep, systems, stamp.warning)
            shown[sweep["sweep"]] = path.relative_to(output_dir).as_posix()
        for point, lacking in sweep["missing"].items():
            logger.warning("%s: not run yet: %s", point, " ".join(lacking))
    for name in unknown:
        logger.warning("%s/%s: no %s.yaml in %s", args.sweeps_dir, name, name, args.conf_dir)
    today = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    versions = results.environment()
    header = {"date": today, **versions, "git commit": commit_of()}
    text = sweeps_report.render(summary, unknown, header, stamp, systems, shown)
    write_text(output_dir / "RESULTS_SWEEPS.md", text)
    figures = {"environment": versions, "labels": labels, "scheme": stamp.as_dict()}
    write_json(output_dir / "sweeps.json", {**figures, "sweeps": summary, "unknown": unknown})
    logger.info(
        "wrote RESULTS_SWEEPS.md and sweeps.json to %s: %d variations", output_dir, len(points)
    )


if __name__ == "__main__":
    sys.exit(run(main))
