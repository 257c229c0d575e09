"""The logs of jobs: what they end in, and the report of those that failed."""

import os
import signal
import sys

TAIL_LINES = 20


def tail(path, count):
    """Return the last ``count`` lines of a log that the job itself wrote (none: no such log)."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.path.getsize(path) - 500 * max(count, 4)))
            lines = stream.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return []
    own = ("# Accounting: ", "# Ended (", "# Finished at ")
    return [line for line in lines if line.strip() and not line.startswith(own)][-count:]


def report_failures(name, array, reasons, show_log=True):
    """Say on stderr which jobs failed and why, with the end of the first one's log.

    Args:
        array: a `JobArray`. reasons: {index: why it failed}.
    """
    first = min(reasons)
    kinds = {}
    for index, reason in sorted(reasons.items()):
        kinds.setdefault(reason, []).append(index)
    listed = "; ".join(f"{reason}: {shorten(indices)}" for reason, indices in kinds.items())
    print(
        f"{name}: {len(reasons)} / {len(array.indices)} failed, log is in {array.logs_pattern()}"
        + (f" ({listed})" if array.name else f" ({reasons[first]})"),
        file=sys.stderr,
    )
    if show_log:
        log = os.path.realpath(array.log_of(first))
        lines = tail(log, TAIL_LINES)
        print(f"--- end of {os.path.relpath(log)}", file=sys.stderr)
        print("\n".join(lines) if lines else "(nothing)", file=sys.stderr)


def name_of_signal(number):
    """SIGKILL for 9; real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def shorten(indices):
    """Write sorted numbers as ranges.

    >>> shorten([1, 2, 3, 7, 9, 10])
    '1-3,7,9-10'
    """
    ranges = []
    for index in indices:
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
