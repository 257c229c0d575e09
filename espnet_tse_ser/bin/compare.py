"""Compare two systems on the same utterances: measures, differences, intervals and p.

A and B are score_utt.tsv files or the directories that hold them, of any experiments whose mixtures
have the same names, folds and evaluation scheme: two systems, two configurations, or one system on
two test sets. All figures are of all utterances together, no means over folds.
"""

import argparse
import sys
from pathlib import Path

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import to_json


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", metavar="A", help="score_utt.tsv or its directory")
    parser.add_argument("b", metavar="B", help="the same of what A is compared with")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    return parser


def main(argv=None):
    """Print a table of both systems and their differences."""
    args = get_parser().parse_args(argv)
    compared = compare(args.a, args.b)
    if args.json:
        print(to_json(compared, f"{args.a} against {args.b}", indent=1))
    else:
        print(render(compared), end="")


def compare(a, b):
    """Compare the tables ``a`` and ``b`` (files or directories).

    Returns:
        what `comparison.compare_rows` says, with a and b (the paths of the tables), optimistic
        (whether they are of best_test_epoch) and pooling (what figures are of, in words) before it.

    Raises:
        UserError: a table is missing or broken, or they cannot be compared: see
            `comparable.check_comparable`.
    """
    from espnet_tse_ser.metrics.comparison import compare_rows
    from espnet_tse_ser.metrics.tables import read_scores
    from espnet_tse_ser.report.stamp import POOLING

    paths = [Path(path) / "score_utt.tsv" if Path(path).is_dir() else Path(path) for path in (a, b)]
    (labels, rows), (other_labels, other_rows) = (read_scores(path) for path in paths)
    if sorted(labels) != sorted(other_labels):
        raise UserError(
            f"{paths[1]}: classes are {' '.join(other_labels)}, but {' '.join(labels)} in "
            f"{paths[0]}; compare systems with the same classes"
        )
    names = [str(path) for path in paths]
    compared = compare_rows(rows, other_rows, labels, names)
    described = {"a": names[0], "b": names[1], "optimistic": "hypothesis_wa" in rows[0]}
    return {**described, "pooling": POOLING, **compared}


def render(compared):
    """The comparison as a table of Markdown."""
    from espnet_tse_ser.report import markdown
    from espnet_tse_ser.values.schemes import OPTIMISTIC, SCHEMES

    names = {"wa": "WA, %", "ua": "UA, %", "macro_f1": "macro-F1, %", "si_sdri": "SI-SDRi, dB"}
    rows = []
    for measure, c in compared["measures"].items():
        show = markdown.number if measure == "si_sdri" else markdown.percent
        cells = [
            show(c[key], interval=c[f"{key}_ci"]) for key in ("value", "reference", "difference")
        ]
        rows.append([names[measure], *cells, markdown.p_value(c["p"])])
    seeds = [f"{count} seed{'s' * (count > 1)}" for count in compared["seeds"]]
    speakers = compared["speakers"]
    lines = [
        f"A: {compared['a']} ({seeds[0]})",
        f"B: {compared['b']} ({seeds[1]})",
        f"{compared['n']} utterances, {markdown.over_speakers(speakers, '95 % intervals and p')}"
        f"{markdown.smallest_p(speakers)}",
        compared["pooling"],
    ]
    if compared["optimistic"]:
        lines.append(f"{OPTIMISTIC}, {SCHEMES[OPTIMISTIC]}")
    lines += [
        f"left out: {names[measure]}, which {path} has not"
        for measure, path in compared["left_out"].items()
    ]
    if compared["classes_missing"]:
        lines.append(
            f"UA and macro-F1 without {', '.join(compared['classes_missing'])}, of which there is "
            "no utterance"
        )
    return "\n".join(lines) + f"\n\n{markdown.table(['', 'A', 'B', 'A - B', 'p'], rows)}\n"


if __name__ == "__main__":
    sys.exit(run(main))
