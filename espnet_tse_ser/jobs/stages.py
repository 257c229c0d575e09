"""Which stage of a recipe writes a file, by the table of its script."""

import fnmatch
import re


def stage_that_writes(path, stages):
    """The stage of a recipe that writes a file, as "stage 4 (simulate)"; None if none does.

    Args:
        path: of the file. stages: a line each, the first field its name and the last what it
            writes: patterns of directories and files, with {a,b} for one or the other.

    >>> stages = ["ser_stats|exp/ser_stats_*", "ser|exp/ser_*", "score|exp/scores/*/score.tsv"]
    >>> marks = ["exp/ser_stats_a/.done", "exp/ser_b/fold1/.done", "exp/scores/.done"]
    >>> [stage_that_writes(mark, chr(10).join(stages)) for mark in marks]
    ['stage 1 (ser_stats)', 'stage 2 (ser)', 'stage 3 (score)']
    """
    parts, best, found = path.split("/"), (-1, 0), None
    for number, line in enumerate(stages.splitlines(), 1):
        name, *_, writes = line.split("|")
        for pattern in (p for word in re.split(r"[\s;]+", writes) for p in _alternatives(word)):
            wanted = pattern.split("/")
            same = [fnmatch.fnmatchcase(*both) for both in zip(parts, wanted, strict=False)]
            if len(wanted) > 1 and len(wanted) <= len(parts) and all(same):
                fit = (1, len(pattern))  # below what it writes: by the one that says most
            elif 2 < len(parts) <= len(wanted) and all(same[:-1]):
                fit = (0, number)  # in a directory above it: by the last one
            else:
                continue
            if fit > best:
                best, found = fit, f"stage {number} ({name})"
    return found


def _alternatives(pattern):
    """What ``{a,b}`` in a pattern stands for."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    begin, end = pattern[: match.start()], pattern[match.end() :]
    return [found for one in match[1].split(",") for found in _alternatives(begin + one + end)]
