"""Reports in Markdown, as `markdown` makes them, as HTML."""

import re
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape


def as_html(text, place="."):
    """Markdown as our reports have it, as HTML: each section one to open, the first one open.

    Args:
        place: of its pictures, relative to the page.

    >>> as_html("# A\\n\\n| x |\\n| --- |\\n| **<1>** |")
    Markup('<h3>A</h3>\\n<table><thead><tr><th scope="col">x</th></tr></thead>\
<tbody><tr><th scope="row"><strong>&lt;1&gt;</strong></th></tr></tbody></table>')
    """
    parts, is_open = [], False
    for block in re.split(r"\n{2,}", text.strip()):
        lines = block.split("\n")
        if block.startswith("## "):
            first = not is_open and not any("<details" in part for part in parts)
            parts.append("</details>" * is_open + f"<details{' open' * first}>")
            parts.append(f"<summary><h4>{_inline(block[3:], place)}</h4></summary>")
            is_open = True
        elif block.startswith("# "):
            parts.append(f"<h3>{_inline(block[2:], place)}</h3>")
        elif block.startswith("|"):
            parts.append(_table(lines, place))
        elif block.startswith("* "):
            items = (f"<li>{_inline(line[2:], place)}</li>" for line in lines)
            parts.append(f"<ul>{''.join(items)}</ul>")
        else:
            parts.append(f"<p>{_inline(block, place)}</p>")
    return Markup("\n".join(parts) + "</details>" * is_open)


def _table(lines, place):
    head, _, *body = ([c.strip() for c in line.strip("|").split(" | ")] for line in lines)
    cells = "".join(f'<th scope="col">{_inline(cell, place)}</th>' for cell in head)
    rows = []
    for first, *others in body:
        row = "".join(f"<td>{_inline(cell, place)}</td>" for cell in others)
        rows.append(f'<tr><th scope="row">{_inline(first, place)}</th>{row}</tr>')
    top = f"<thead><tr>{cells}</tr></thead>" if any(head) else ""
    return f"<table>{top}<tbody>{''.join(rows)}</tbody></table>"


def _inline(text, place):
    picture = re.fullmatch(r"!\[(.*)\]\((.*)\)", text)
    if picture:
        source = quote(picture[2] if place == "." else f"{place}/{picture[2]}")
        alt = escape(Path(picture[1]).stem.replace("_", " "))
        return f'<img src="{source}" alt="plot: {alt}" loading="lazy">'
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text).replace("\\*", "*")
