"""Print how far the steps of a recipe are, as a table; the files they leave tell it.

Standard input names the steps, one a line: row of the table, column, directory that the step
writes, its name ("" for none) and its command (ser_train), with tabs between. The figures of a
training are its epochs and what it has reached on dev: UA in %, or SI-SNR in dB.
"""

import argparse
import sys
from collections import Counter

from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.jobs.status import STATES, status_of


def get_parser():
    return argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def main(argv=None):
    get_parser().parse_args(argv)
    statuses = {cell: status_of(*step) for cell, step in read_steps(sys.stdin or ()).items()}
    print("\n".join(render(statuses)))


def read_steps(lines):
    """Read the steps as (row, column) -> (directory, name, command).

    Raises:
        UserError: there is none, a line has other fields or an empty one, or a cell two steps.
    """
    steps = {}
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\n")
        fields = line.split("\t")
        if len(fields) != 5 or not all(fields[:3] + fields[4:]):
            raise UserError(
                f"standard input: line {number}: expected row, column, directory, name and command "
                f"with tabs between, only the name empty, but got {line!r}"
            )
        cell = tuple(fields[:2])
        if cell in steps:
            raise UserError(
                f"standard input: line {number}: row '{cell[0]}' has column '{cell[1]}' already; "
                "give each step a cell of its own"
            )
        steps[cell] = fields[2:]
    if not steps:
        raise UserError("standard input: names no step; give one line for each")
    return steps


def render(statuses):
    """The lines to print: the table, the number of cells in each state, the failures.

    Args:
        statuses: (row, column) -> `Status`; rows and columns stand in order of appearance.
    """
    rows, columns = (list(dict.fromkeys(names)) for names in zip(*statuses, strict=True))
    table = [["", *columns]]
    table += [[row, *(str(statuses.get((row, column), "")) for column in columns)] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    counts = Counter(status.state for status in statuses.values())
    return [
        *("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table),
        ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]),
        *(f"{s.state}: {s.failure}" for s in statuses.values() if s.failure),
    ]


if __name__ == "__main__":
    sys.exit(run(main))
