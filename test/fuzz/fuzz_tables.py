"""Tables that are not what they should be: Kaldi's two columns, lists of ids, tab-separated."""

import math
import re
import unicodedata

from fuzz_case import Case
from fuzz_values import (
    BAD_IDS,
    BAD_NUMBERS,
    IN_ITS_PLACE,
    ODD_IDS,
    ODD_NUMBERS,
    ODD_PATHS,
    cut,
    flip,
    place,
)

_KALDI = re.compile(r"(\w+\.scp|utt2\w+|spk2\w+|segments|reco2\w+)$")


def is_table(name):
    """Whether a file is one of this family, by its name."""
    base = name.rpartition("/")[2]
    return base.endswith((".tsv", ".lst", ".TXT")) or bool(_KALDI.fullmatch(base))


def draw(rng, files, probes):
    """A probe, one of the tables that it reads, and what becomes of that."""
    probe = rng.choice([p for p in probes if any(map(is_table, files.known[p.name].reads))])
    names = [n for n in files.known[probe.name].reads if is_table(n)]
    if probe.name == "extract_combine":  # it copies the others, whatever they are
        names = ["mix/wav.scp"]
    name = rng.choice(names)
    data = _read(files, probe, name)
    kind = rng.choice(_KINDS)
    case = Case(probe, "", names=_names(name, data))
    kind(rng, files, case, name, data)
    case.what = f"{name}: {case.what}"
    return case


def _read(files, probe, name):
    """The contents of a file, which may be one of those that are copied to ``out`` first."""
    if not name.startswith("out/"):
        return (files.root / name).read_bytes()
    for source, target in probe.before:
        prefix = "out/" if target == "." else f"out/{target}/"
        path = files.root / source / name.removeprefix(prefix)
        if name.startswith(prefix) and path.is_file():
            return path.read_bytes()
    raise AssertionError(name)


def _names(name, data):
    """What an error may name: the file, its directory, or an id of it."""
    ids = {line.split()[0] for line in data.decode().splitlines()[:40] if line.split()}
    return (name.rpartition("/")[2], str(name.rpartition("/")[0]) or "/", *ids)


def _set(case, name, data, old):
    case.changes[name] = data
    case.names += tuple(line.split()[0] for line in data.decode(errors="replace").splitlines()[:40]
                        if line.split())  # fmt: skip
    meaning = meaning_of(name, data)
    case.may_differ = meaning is not None and meaning != meaning_of(name, old)


def _bytes(rng, files, case, name, data):
    what, change = rng.choice(
        (
            ("a bit is flipped", lambda: flip(rng, data)),
            ("is cut", lambda: cut(rng, data)),
            ("has a byte order mark", lambda: b"\xef\xbb\xbf" + data),
            ("is UTF-16", lambda: data.decode().encode("utf-16")),
            ("has CRLF", lambda: data.replace(b"\n", b"\r\n")),
            ("has CR", lambda: data.replace(b"\n", b"\r")),
            ("has a NUL", lambda: _insert(rng, data, b"\0")),
            ("has a byte that is not UTF-8", lambda: _insert(rng, data, b"\xff")),
            ("has an odd character", lambda: _insert(rng, data, _odd_character(rng))),
            ("has no last newline", lambda: data.rstrip(b"\n")),
            ("has an empty line more", lambda: data + b"\n"),
            ("has blanks at the ends of lines", lambda: data.replace(b"\n", b" \n")),
            ("is a newline", lambda: b"\n"),
            ("is random", lambda: rng.randbytes(300)),
            ("has a very long line", lambda: data + b"zz " + b"y" * 10**6 + b"\n"),
        )
    )
    case.what = what
    if what.startswith("has a byte order") or what == "is UTF-16":
        case.says = r"UTF-8|BOM|byte order"
    _set(case, name, change(), data)


def _odd_character(rng):
    return rng.choice("\u200b\u00a0\u2028\u0085\u000b\u000c\u001c\u202e\t ,|").encode()


def _insert(rng, data, extra):
    at = rng.randrange(len(data) + 1)
    return data[:at] + extra + data[at:]


def _in_its_place(rng, files, case, name, data):
    case.what, value = rng.choice(IN_ITS_PLACE)
    case.changes[name] = value
    optional = ("segments", "utt2emo", "utt2fold", "utt2lufs", "epochs.tsv", "spk2utt")
    base = name.rpartition("/")[2]
    optional += ("score_utt.tsv", "train.lst")
    case.may_differ = case.what == "is missing" and base.endswith(optional)


def _lines(rng, files, case, name, data):
    lines = data.decode().splitlines(keepends=True)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    case.what, change = rng.choice(
        (
            (f"line {at + 1} is missing", lambda: lines[:at] + lines[at + 1 :]),
            (f"line {at + 1} is there twice", lambda: lines[: at + 1] + lines[at:]),
            (f"lines {at + 1} and {other + 1} are swapped", lambda: _swapped(lines, at, other)),
            (f"an empty line before {at + 1}", lambda: [*lines[:at], "\n", *lines[at:]]),
            (f"a blank before line {at + 1}", lambda: [*lines[:at], " ", *lines[at:]]),
            (f"line {at + 1} goes on", lambda: [*lines[:at], lines[at].strip(), *lines[at + 1 :]]),
            ("only the first line", lambda: lines[:1]),
            ("the lines are reversed", lambda: lines[::-1]),
            (f"line {at + 1} is also that of {other + 1}", lambda: _again(lines, at, other)),
        )
    )
    _set(case, name, "".join(change()).encode(), data)


def _swapped(lines, at, other):
    lines = list(lines)
    lines[at], lines[other] = lines[other], lines[at]
    return lines


def _again(lines, at, other):
    """The value of another line under the id of this one."""
    lines = list(lines)
    separator = "\t" if "\t" in lines[at] else " "
    first, _, _ = lines[at].partition(separator)
    _, _, rest = lines[other].partition(separator)
    lines[at] = f"{first}{separator}{rest}"
    return lines


def _fields(rng, files, case, name, data):
    lines = data.decode().splitlines(keepends=True)
    separator = "\t" if name.endswith(".tsv") else " "
    at = rng.randrange(len(lines))
    fields = lines[at].rstrip("\n").split(separator)
    column = rng.randrange(len(fields))
    odd = rng.choice(
        rng.choice((BAD_IDS, ODD_IDS, ODD_PATHS, BAD_NUMBERS, ODD_NUMBERS, ("xyz", '"', "a b", "")))
    )
    fields[column] = place(odd, files)
    lines[at] = separator.join(fields) + "\n"
    case.what = f"line {at + 1}, field {column + 1}: {odd[:40]!r}"
    odd = place(odd, files)
    case.names += (odd[:40], odd[:40].encode("unicode_escape").decode())
    _set(case, name, "".join(lines).encode(errors="surrogatepass"), data)


def _columns(rng, files, case, name, data):
    if not name.endswith(".tsv"):
        _lines(rng, files, case, name, data)
        return
    rows = [line.split("\t") for line in data.decode().splitlines()]
    column, other = rng.randrange(len(rows[0])), rng.randrange(len(rows[0]))
    case.what, change = rng.choice(
        (
            (f"no column {rows[0][column]}", lambda r: r[:column] + r[column + 1 :]),
            (f"column {rows[0][column]} twice", lambda r: [*r, r[column]]),
            (f"columns {column}, {other} swapped", lambda r: _swapped(r, column, other)),
            ("a column more", lambda r: [*r, "more"]),
        )
    )
    if rng.random() < 0.3:  # not in all lines
        at = rng.randrange(len(rows))
        rows[at], case.what = change(rows[at]), f"line {at + 1}: {case.what}"
    else:
        rows = [change(row) for row in rows]
    case.names += tuple(rows[0])
    _set(case, name, "".join("\t".join(row) + "\n" for row in rows).encode(), data)


def _rename(rng, files, case, name, data):
    """An id is another one in every file that the probe reads."""
    tables = [n for n in files.known[case.probe.name].reads if is_table(n)]
    ids = re.findall(r"^[\w-]+", data.decode(), re.MULTILINE)
    if name.endswith(".scp") or not ids:
        ids = ids or ["t0-0"]
    old, new = rng.choice(ids), rng.choice(BAD_IDS + ODD_IDS)
    if rng.random() < 0.3:
        new = rng.choice(BAD_IDS[:10])
    bad = new in BAD_IDS
    new = place(new, files)
    pattern = re.compile(rf"(?<![\w./-]){re.escape(old)}(?![\w./-])".encode())
    for table in tables:
        before = _read(files, case.probe, table)
        after = pattern.sub(lambda _: new.encode(), before)
        if after != before:
            if not table.endswith(".tsv"):
                after = b"".join(sorted(after.splitlines(keepends=True)))
            case.changes[table] = after
            case.names += (table.rpartition("/")[2],)
    case.names += (new[:40], new[:40].encode("unicode_escape").decode())
    case.what = f"'{old}' is called {new[:40]!r} everywhere"
    case.may_differ = not bad


_KINDS = (_bytes, _bytes, _lines, _lines, _fields, _fields, _fields, _columns, _rename, _rename,
          _in_its_place)  # fmt: skip


def meaning_of(name, data):
    """What a table says, by a reader of its own: None if it says nothing."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = text.removesuffix("\n").split("\n")
    base = name.rpartition("/")[2]
    if base.endswith(".tsv"):
        return _meaning_of_columns(lines)
    if base.endswith(".TXT"):  # of a corpus: what it says is not known here
        return data
    if base.endswith(".lst"):
        ids = [line.strip(" ") for line in lines if line.strip(" ")]
        return tuple(ids) if all(map(_is_id, ids)) and len(set(ids)) == len(ids) else None
    pairs = [line.partition(" ") for line in lines]
    table = {key: value.strip() for key, _, value in pairs}
    if len(table) < len(pairs) or list(table) != sorted(table):
        return None
    if not all(_is_id(key) and _is_value(base, value) for key, value in table.items()):
        return None
    return table


def _is_value(base, value):
    if base.endswith(".scp"):
        return bool(value) and not value.endswith("|") and value.isprintable()
    if base == "utt2num_samples":
        return bool(re.fullmatch("[0-9]+", value)) and int(value) > 0
    if base == "utt2lufs":
        return _is_finite(value)
    if base == "segments":
        parts = value.split(" ")
        return len(parts) == 3 and all(map(_is_finite, parts[1:]))
    if base == "spk2gender":
        return value in ("m", "f")
    return all(map(_is_id, value.split(" ")))


def _is_finite(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_id(text):
    return (
        bool(text)
        and text[0] != "."
        and len(text.encode(errors="replace")) <= 200
        and not any(c in "/\\," or unicodedata.category(c)[0] in "CZ" for c in text)
    )


def _meaning_of_columns(lines):
    rows = [line.split("\t") for line in lines]
    header = rows[0]
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rows):
        return None
    if len(rows) < 2 or any('"' in line for line in lines):
        return None
    rows = [dict(zip(header, row, strict=True)) for row in rows[1:]]
    key = next((c for c in ("id", "mixture", "epoch") if c in header), None)
    if key and len({row[key] for row in rows}) < len(rows) and "seed" not in header:
        return None
    for row in rows:
        for column, value in row.items():
            numeric = column.startswith(
                ("p_", "si_", "stoi", "snr", "offset", "seconds", "samples")
            )
            if numeric and value and not all(map(_is_finite, value.split(","))):
                return None
            if column in (key, "target", "fold", "speaker", "seed") and not _is_id(value):
                return None
    return tuple(tuple(sorted(row.items())) for row in rows)
