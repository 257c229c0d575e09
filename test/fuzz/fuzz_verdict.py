"""Judging how a case ended, and what it left."""

import hashlib
import io
import json
import math
import re
import warnings
import zipfile

import numpy as np

SLOW = 10.0  # seconds of CPU that a process may take

REFUSED, SAME, OTHER = "refused", "accepted, the same", "accepted, another that is sane"
FAILURES = (
    *("traceback", "crash", "hang", "status", "message", "names nothing", "stray file"),
    *("code was run", "warning", "accepted", "insane"),
)


def judge(case, ending, known, files):
    """The outcome of a case and the reason.

    Args:
        case: `Case`. ending: `Ending`. known: `Known` of its probe. files: `FileSet`.
    """
    marked = files.marker.exists()
    strays = files.strays()
    if marked:
        return "code was run", "the marker is there"
    if ending.hung:
        return "hang", f"{ending.seconds:.0f} s"
    if ending.status < 0:
        return "crash", f"signal {-ending.status}"
    if strays:
        return "stray file", " ".join(strays)
    if "Traceback (most recent call last)" in ending.err:
        return "traceback", _last_line(ending.err)
    if ending.status == 2:
        err = ending.err
        if case.probe.command == "check_data":  # which lists what is wrong, line by line
            err = err.replace("\n  ", "; ")
        return _judge_refusal(case, err)
    if ending.status != 0:
        return "status", str(ending.status)
    if "RuntimeWarning" in ending.err:
        return "warning", next(li for li in ending.err.splitlines() if "RuntimeWarning" in li)
    return _judge_acceptance(case, ending, known, files)


def _judge_refusal(case, err):
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(error|[\w.]+( \w+)?: error): .*\S", line)]
    if len(errors) != 1 or lines[-1] != errors[0]:
        return "message", _last_line(err)
    if case.names and not any(name in errors[0] for name in case.names if name):
        return "names nothing", errors[0]
    if case.says and not re.search(case.says, errors[0]):
        return "names nothing", f"{errors[0]} (expected /{case.says}/)"
    return REFUSED, errors[0]


def _judge_acceptance(case, ending, known, files):
    problem = case.accepted(files) if case.accepted else None
    if problem:
        return "accepted", problem
    try:
        left = contents(files.out)
    except Exception as error:
        return "insane", f"{type(error).__name__}: {error}"
    names = _different(left, known) - {n.removeprefix("out/") for n in case.changes}
    if not names and known.out in (None, ending.out):
        return SAME, ""
    if not case.may_differ:
        return "accepted", "other output: " + " ".join(sorted(names) or ["stdout"])[:200]
    problems = insanities(files.out) + insanities_of_text("stdout", ending.out, known.out)
    if not left and known.left and "are needed" not in ending.err:  # the log said why
        problems.append("nothing was written")
    return ("insane", "; ".join(problems)) if problems else (OTHER, "")


def _different(left, known):
    """Names of the files that are not as they usually are."""
    return (left.keys() ^ known.names) | {n for n in left if left[n] != known.left.get(n, left[n])}


def is_dated(name):
    """Whether the contents of a file are others each time that it is written."""
    return (
        name.endswith(("RESULTS.md", "RESULTS_SWEEPS.md", ".made_from"))
        or "checkpoint" in name
        or (name.startswith("shards/") and name.endswith(".tsv"))
        or name in ("index.tsv", "source.json")  # the second has checksums of inputs
        or name.startswith("parts/")
    )


def _last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def contents(directory):
    """The contents of all files below a directory, in a form that can be compared."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not path.is_file() or path.suffix in (".log", ".png") or name.startswith("tensorboard"):
            continue
        data = path.read_bytes()
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                parts = [n.partition("/")[2].encode() + archive.read(n) for n in archive.namelist()]
            data = b"".join(parts)
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def insanities(directory):
    """What is wrong with files whatever they are of: a list of sentences."""
    problems = []
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(directory))
        try:
            if path.suffix in (".wav", ".flac"):
                problems += _audio_insanities(name, path)
            elif path.suffix == ".npz":
                with np.load(path) as arrays:
                    if not all(np.isfinite(arrays[key]).all() for key in arrays):
                        problems.append(f"{name}: not finite")
            elif path.name.endswith((".best.pth", "epoch.pth")):
                problems += _weights_insanities(name, path)
            elif path.suffix == ".json":
                _strict_json(path.read_text(encoding="utf-8"))
            elif path.suffix == ".tsv":
                problems += _table_insanities(name, path.read_text(encoding="utf-8"))
        except Exception as error:
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return problems


def insanities_of_text(name, text, usual):
    """What is wrong with printed text; it has to be JSON if ``usual`` is."""
    if usual is None or not usual.startswith("{"):
        return []
    try:
        printed = _strict_json(text)
    except ValueError as error:
        return [f"{name}: {error}"]
    return _probability_insanities(name, printed)


def _strict_json(text):
    def refuse(word):
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _probability_insanities(name, value):
    problems = []
    if isinstance(value, dict):
        probabilities = value.get("probabilities")
        if isinstance(probabilities, dict):
            if abs(sum(probabilities.values()) - 1) > 1e-4 or min(probabilities.values()) < 0:
                problems.append(f"{name}: probabilities {probabilities}")
            if value["label"] != max(probabilities, key=probabilities.get):
                problems.append(f"{name}: label {value['label']} of {probabilities}")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            problems += _probability_insanities(name, item)
    return problems


def _audio_insanities(name, path):
    import soundfile

    samples, _ = soundfile.read(path)
    if len(samples) == 0 or not np.isfinite(samples).all() or not np.any(samples):
        return [f"{name}: empty, silent or not finite"]
    return []


def _weights_insanities(name, path):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.load(path, weights_only=True)
    bad = [k for k, v in state.items() if not torch.isfinite(v.float()).all()]
    return [f"{name}: {bad[0]} is not finite"] if bad else []


def _table_insanities(name, text):
    lines = [line.split("\t") for line in text.splitlines()]
    problems = [] if len(lines) > 1 else [f"{name}: has no line"]
    for line in lines[1:]:
        row = dict(zip(lines[0], line, strict=True))
        values = [float(v) for column, v in row.items() if column.startswith("p_") and v]
        if values and not abs(sum(values) - 1) < 1e-4:
            problems.append(f"{name}: probabilities {values}")
        for column, value in row.items():
            if column in ("loss", "valid_loss", "train_loss", "valid_ua", "si_sdr", "si_sdri"):
                if value and not math.isfinite(float(value)):
                    problems.append(f"{name}: {column} is {value}")
    return problems[:3]
