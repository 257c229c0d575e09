"""Stage 12 for another program: its table of hypotheses as a hyp.tsv of the recipe.

The table has a column id, a column label (or hypothesis) and, if the program says so much,
p_<class> for every class. Other columns, and utterances that are not in --ids, are ignored.
"""

import argparse
import sys

from espnet_tse_ser.errors import UserError, run


def get_parser():
    """The options of the import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="TSV with a header: id, label, p_<class>")
    parser.add_argument("--data_dir", required=True, help="mixture directory: its utt2emo")
    parser.add_argument("--ids", required=True, help="list of ids, e.g. test.lst of the fold")
    parser.add_argument("--labels", required=True, help="classes, in the order of other systems")
    parser.add_argument("--output", required=True, help="table to write (hyp.tsv)")
    parser.add_argument(
        "--by_ua_and_wa",
        action="store_true",
        help="with the columns of two epochs, which other systems have under best_test_epoch",
    )
    return parser


def main(argv=None):
    """Write one line an utterance: reference, hypothesis, posteriors if there are."""
    args = get_parser().parse_args(argv)
    from pathlib import Path

    from espnet_tse_ser.audio.id_list import read_ids, select
    from espnet_tse_ser.audio.kaldi_dir import read_table
    from espnet_tse_ser.files import read_tsv, write_tsv
    from espnet_tse_ser.metrics.fields import check_posteriors, index_rows

    labels = args.labels.split()
    posteriors = [f"p_{label}" for label in labels]
    table = read_tsv(args.table, ("id",))
    column = next((c for c in ("label", "hypothesis") if table and c in table[0]), None)
    if column is None:
        raise UserError(f"{args.table}: has no rows with a column label; give id and label")
    given = [name for name in posteriors if name in table[0]]
    if given and given != posteriors:
        missing = next(name for name in posteriors if name not in given)
        raise UserError(f"{args.table}: has {given[0]} but no {missing}; give all, or none")
    ids = read_ids(args.ids)
    found = select(index_rows(args.table, table, "id"), ids, args.table)
    for line, row in enumerate(table, 2):
        if row["id"] not in found:
            continue
        if row[column] not in labels:
            raise UserError(
                f"{args.table}: line {line}: {row['id']}: {column} '{row[column]}' is not one of "
                f"the classes {' '.join(labels)}; correct it, or give other --labels"
            )
        if given:
            row["hypothesis"] = row[column]
            check_posteriors(args.table, line, row, labels, "correct the table")
    path = Path(args.data_dir) / "utt2emo"
    emotions = select(read_table(path), ids, path)
    rows = [
        {"id": utt, "reference": emotions[utt], "hypothesis": found[utt][column], "epoch": "n/a"}
        | {name: found[utt][name] if given else "" for name in posteriors}
        for utt in sorted(ids)
    ]
    columns = ["id", "reference", "hypothesis", *posteriors, "epoch"]
    if args.by_ua_and_wa:
        rows = [r | {"hypothesis_wa": r["hypothesis"], "epoch_wa": r["epoch"]} for r in rows]
        columns += ["hypothesis_wa", "epoch_wa"]
    write_tsv(args.output, rows, columns)


if __name__ == "__main__":
    sys.exit(run(main))
