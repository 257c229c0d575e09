"""Mixtures that were changed by hand."""

from dataclasses import replace


def with_source(mixture, **changes):
    """The mixture with fields of its only source changed."""
    (source,) = mixture.sources
    return replace(mixture, sources=(replace(source, **changes),))


def change(mixture, **changes):
    """The mixture with other fields, or fields of its only source: utt, group, x_of_source."""
    of_source = {
        name.removesuffix("_of_source"): changes.pop(name)
        for name in list(changes)
        if name in ("kind", "utt", "group") or name.endswith("_of_source")
    }
    changed = with_source(mixture, **of_source) if of_source else mixture
    return replace(changed, **changes)


def edit_line(path, line, **changes):
    """Change fields in a line (from 2) of a tab-separated table, whatever these then are."""
    header, *rows = (text.split("\t") for text in path.read_text().split("\n"))
    for column, value in changes.items():
        rows[line - 2][header.index(column)] = str(value)
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]), encoding="utf-8")
