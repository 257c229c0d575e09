"""Tables of cases, the line that says where they were measured, and the file of all sections."""

import datetime
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
from pathlib import Path

from espnet_tse_ser.files import read_text, write_text

ROOT = Path(__file__).parents[1]
HEADING = """# Measured speed

Made by `python -m bench.run`; how to read it: [README.md](README.md).
"""
PACKAGES = ("torch", "espnet", "numpy")


def table(module, cases, rounds):
    """Measure the cases; returns a table in Markdown, and the floors below it.

    Args:
        module: dotted name of the module that the cases are of.
    """
    from bench.floors import rates
    from bench.measure import measure
    from bench.memory import peak_memory

    rows, floors = [], {}
    for case in cases:
        logging.info("%s: %s", module, case.name)
        equality, times = measure(case, rounds)
        ours, theirs = times.medians()
        row = {
            "case": case.name,
            "threads": str(case.threads),
            "ours, s": _seconds(ours),
            "theirs, s": _seconds(theirs),
            "theirs / ours": _ratio(times.ratios("clock")),
            "in CPU time": _ratio(times.ratios("cpu")),
        }
        if case.audio_seconds is not None:
            factors = [f"{side.clock / case.audio_seconds:.3g}" for side in (ours, theirs)]
            row["real-time factor"] = " / ".join(factors)
        if case.flops is not None:
            key = case.threads, case.dtype
            floors[key] = rates(*key)
            share = [case.flops() / 1e9 / floors[key][name] for name in ("torch.mm", "best")]
            row["ours / floor"] = " / ".join(f"{ours.clock / s:.1f}" for s in share)
        if case.memory:
            peaks = [peak_memory(module, case, side) for side in ("ours", "theirs")]
            row["peak, MB"] = " / ".join(f"{peak / 1e6:.0f}" for peak in peaks)
        row["equal"] = equality
        logging.info("  %s", "; ".join(f"{k} {v}" for k, v in list(row.items())[2:]))
        rows.append(row)
    lines = [markdown(rows)]
    for (threads, dtype), rate in floors.items():
        lines.append(
            f"Matrix products, {dtype}, {threads} thread(s): torch.mm {rate['torch.mm']:.0f} "
            f"GFLOP/s, the best call ({rate['best call']}) {rate['best']:.0f} GFLOP/s."
        )
    return "\n".join(lines) + "\n"


def markdown(rows):
    """A table of dicts, a column for every key that any of them has.

    >>> print(markdown([{"a": "1"}, {"a": "2", "b": "3"}]), end="")
    | a | b |
    |---|---|
    | 1 |  |
    | 2 | 3 |
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([row.get(c, "") for c in columns] for row in rows)]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([text[0], "|---" * len(columns) + "|", *text[1:]]) + "\n"


def _seconds(seconds):
    return f"{seconds.clock:.3g} ({seconds.cpu:.3g})"


def _ratio(ratio):
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratio)


def provenance(rounds, packages=PACKAGES):
    """When, at which commit, on which machine and with which versions."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.date.today()}, commit {_commit()}; {_cpu()}, {len(os.sched_getaffinity(0))} "
        f"cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f} before; Python "
        f"{platform.python_version()}, {', '.join(versions)}; medians of {rounds} rounds."
    )


def _cpu():
    for line in read_text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit():
    def git(*command):
        return subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def replace_section(path, name, text, order):
    """Put the section ``name`` into the file, in place of the one that is there; atomically.

    Args:
        path: of RESULTS.md, which need not exist; text: without the heading.
        order: names of all sections, as they shall stand; others go last.
    """
    sections = read_sections(path) | {name: text.strip() + "\n"}
    known = [n for n in order if n in sections]
    names = known + [n for n in sections if n not in order]
    write_text(path, "\n".join([HEADING, *(f"## {n}\n\n{sections[n]}" for n in names)]))


def read_sections(path):
    """Name -> text of each section of RESULTS.md; empty without the file."""
    if not Path(path).exists():
        return {}
    _, *parts = re.split(r"^## (.+)\n", read_text(path), flags=re.MULTILINE)
    return {n: t.strip() + "\n" for n, t in zip(parts[::2], parts[1::2], strict=True)}
