"""Results of a batch of recordings, a line each, in a file to which a later run adds what lacks."""

import json
import os
import sys
from pathlib import Path

from espnet_tse_ser.audio.outputs import check_no_input
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import check_line, to_json
from espnet_tse_ser.inference.inputs import SEPARATOR

FORMATS = ("jsonl", "tsv")
_SUFFIXES = (".jsonl", ".json", ".tsv", "")
_SEPARATORS = {"enrollment": SEPARATOR, "warnings": " | "}
_ANOTHER = "give another name, or remove it to compute all again"


class Results:
    """Writes lines of JSON, or a table with tabs, and knows what was written before.

    A line that a killed process has left unfinished is removed.

    Args:
        path: file to add to; None: standard output. form: one of `FORMATS`; None: as the
            suffix of the file says. inputs: files that are read.
        settings: key -> value that all results have, such as the model's checksum.

    Raises:
        UserError: the file is an input, is no such file, has results of other settings, or a name
            that says no form. Asked for an item: the file has another one of the same id.
    """

    def __init__(self, path=None, form=None, inputs=(), settings=None):
        self.path = None if path is None else Path(path)
        suffix = "" if self.path is None else self.path.suffix
        self.form = form or ("tsv" if suffix == ".tsv" else "jsonl")
        self._columns, self._done, self.settings = None, {}, settings or {}
        if self.path is None:
            return
        check_no_input(self.path, inputs, "--output")
        if form is None and suffix not in _SUFFIXES:
            raise UserError(
                f"--output {self.path}: '{suffix}' names no form of results; end it in .jsonl or "
                ".tsv, or give --format"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume()

    def __contains__(self, item):
        known = self._done.get(item.id)
        if known not in (None, (item.mixture, SEPARATOR.join(item.enrollments))):
            raise UserError(
                f"{self.path}: has a result of '{item.id}' from {' '.join(known)}; give another "
                "--output, or another id in a table"
            )
        return known is not None

    def __len__(self):
        return len(self._done)

    def write(self, item, result):
        """Write a result, a dict, with the item and the settings."""
        row = {
            "id": item.id,
            "mixture": item.mixture,
            "enrollment": list(item.enrollments),
            **result,
            **self.settings,
        }
        line = to_json(row, item.mixture) if self.form == "jsonl" else self._fields(row)
        data = f"{line}\n"
        if self.path is None:
            sys.stdout.write(data)
            sys.stdout.flush()
            return
        with open(self.path, "ab") as stream:  # one write: nobody sees the beginning of a line
            stream.write(data.encode("utf-8", "surrogateescape"))

    def _fields(self, row):
        row = _flat(row)
        for column, value in row.items():
            check_line(str(value), f"{row['mixture']}: {column}")
        header = ""
        if self._columns is None:
            self._columns = list(row)
            header = "\t".join(self._columns) + "\n"
        if list(row) != self._columns:
            raise UserError(f"{self.path}: has other columns than this model gives; {_ANOTHER}")
        return header + "\t".join(map(str, row.values()))

    def _resume(self):
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        begin = b'{"id": ' if self.form == "jsonl" else b"id\tmixture\t"
        if data and not data.startswith(begin) and not begin.startswith(data):
            raise UserError(f"{self.path}: holds no results of this kind; give another name")
        lines = whole.decode("utf-8", "surrogateescape").split("\n")[:-1]
        for number, line in enumerate(lines, 1):
            self._take(line, number)
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def _take(self, line, number):
        where = f"{self.path}: line {number}"
        if self.form == "tsv":
            fields = line.split("\t")
            if number == 1:
                self._columns = fields
                return
            row = dict(zip(self._columns, fields, strict=False))
            enrollments = row.get("enrollment", "")
        else:
            try:
                row = json.loads(line)
            except ValueError:
                row = {}
            row = row if isinstance(row, dict) else {}
            enrollments = SEPARATOR.join(row.get("enrollment") or ())
        if not {"id", "mixture", *self.settings} <= row.keys():
            raise UserError(f"{where}: is no result; remove the line, or give another name")
        for key, value in self.settings.items():
            if key in row and _shown(row[key]) != _shown(value):
                raise UserError(f"{where}: has {key} {row[key]}, but now it is {value}; {_ANOTHER}")
        self._done[row["id"]] = row["mixture"], enrollments


def emotion_of(probabilities):
    """Label and probabilities (dict, None where there is no speech) as a result has them."""
    if probabilities is None:
        return {"label": None, "probabilities": None}
    return {
        "label": max(probabilities, key=probabilities.get),
        "probabilities": {label: round(p, 6) for label, p in probabilities.items()},
    }


def rounded(value):
    """A share or a probability, or None, as a result has it."""
    return None if value is None else round(value, 4)


def _flat(row):
    """A row of a table: lists as texts, probabilities as columns, no segments."""
    flat = {}
    for key, value in row.items():
        if key == "probabilities":
            flat |= {f"p_{label}": p for label, p in value.items()}
        elif key in _SEPARATORS:
            flat[key] = _SEPARATORS[key].join(value)
        elif key != "segments":
            flat[key] = _shown(value)
    return flat


def _shown(value):
    return "" if value is None else str(value)
