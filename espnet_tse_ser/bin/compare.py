"""Compare two systems on the same utterances: measures, differences, intervals and p.

A and B are score_utt.tsv files or the directories that hold them, of any experiments whose mixtures
have the same names: two systems, two configurations, or one system on two test sets.
"""

import argparse
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", metavar="A", help="score_utt.tsv or its directory")
    parser.add_argument("b", metavar="B", help="the same of what A is compared with")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser


def main(argv=None):
    """Print a table of both systems and their differences."""
    import json

    args = get_parser().parse_args(argv)
    compared = compare(args.a, args.b)
    if args.json:
        print(json.dumps(compared, indent=1))
    else:
        print(render(compared), end="")


def compare(a, b):
    """Compare the tables ``a`` and ``b`` (files or directories).

    Returns:
        what `comparison.compare_rows` says, with a and b (the paths of the tables) before it.

    Raises:
        UserError: a table is missing, or classes, utterances, speakers or emotions differ.
    """
    from espnet_tse_ser.metrics.comparison import compare_rows
    from espnet_tse_ser.metrics.tables import read_scores

    paths = [Path(path) / "score_utt.tsv" if Path(path).is_dir() else Path(path) for path in (a, b)]
    (labels, rows), (other_labels, other_rows) = (read_scores(path) for path in paths)
    if sorted(labels) != sorted(other_labels):
        raise UserError(
            f"{paths[1]}: classes are {' '.join(other_labels)}, but {' '.join(labels)} in "
            f"{paths[0]}; compare systems with the same classes"
        )
    names = [str(path) for path in paths]
    return {"a": names[0], "b": names[1], **compare_rows(rows, other_rows, labels, names)}


def render(compared):
    """The comparison as a table of Markdown."""
    from espnet_tse_ser.metrics.report import number, p_value, percent, smallest_p, table

    names = {"wa": "WA, %", "ua": "UA, %", "macro_f1": "macro-F1, %", "si_sdri": "SI-SDRi, dB"}
    rows = []
    for measure, c in compared["measures"].items():
        show = number if measure == "si_sdri" else percent
        cells = [
            show(c[key], interval=c[f"{key}_ci"]) for key in ("value", "reference", "difference")
        ]
        rows.append([names[measure], *cells, p_value(c["p"])])
    seeds = [f"{count} seed{'s' * (count > 1)}" for count in compared["seeds"]]
    return (
        f"A: {compared['a']} ({seeds[0]})\nB: {compared['b']} ({seeds[1]})\n"
        f"{compared['n']} utterances, {compared['speakers']} speakers; 95 % intervals and p over "
        f"speakers{smallest_p(compared['speakers'])}\n\n"
        + table(["", "A", "B", "A - B", "p"], rows)
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(run(main))
