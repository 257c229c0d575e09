"""Tables of Markdown and what stands in their cells: figures, intervals, how many they are of."""


def stamped(section, stamp):
    """A section of Markdown with the stamp's text below its heading."""
    heading, _, body = section.partition("\n\n")
    return f"{heading}\n\n{stamp}.\n\n{body}"


def table(columns, rows):
    """A table of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def head(facts):
    """The table at the head of a report: what there is to say about the run, name -> value."""
    return table(["", ""], [[name, value or "n/a"] for name, value in facts.items()])


def marked(measures, name, with_interval=True):
    """A measure in % with its interval, marked where it is a mean without some class."""
    mark = "*" if name in ("ua", "macro_f1") and measures["classes_missing"] else ""
    return percent(measures[name], measures[f"{name}_ci"] if with_interval else None) + mark


def note_on_classes(rows):
    """What the mark of `marked` means, where there is one in the rows of a table."""
    marked = any(str(cell).endswith("*") for row in rows for cell in row)
    return "\n\n\\* without the classes of which there is no utterance." if marked else ""


def percent(value, interval=None):
    """A share in %, with its interval."""
    if value is None:
        return "n/a"
    text = f"{100 * value:.2f}"
    if interval:
        text += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return text


def number(value, digits=2, interval=None):
    """A value with its interval."""
    if value is None:
        return "n/a"
    text = f"{value:.{digits}f}"
    if interval:
        text += f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return text


def of_known(text, measures, name):
    """A mean and, unless it is of all utterances, of how many it is."""
    known = measures[f"{name}_n"]
    return text if known in (0, measures["n"]) else f"{text} ({known})"


def p_value(p):
    """A p-value of three decimals."""
    if p is None:
        return "p n/a"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def over_speakers(count, what="95 % intervals"):
    """What to say of the intervals over so many speakers."""
    if count < 2:
        return f"without {what}: one speaker says nothing about others"
    return f"with {what} over {count} speakers"


def smallest_p(speakers):
    """What to say of p with few speakers, else nothing."""
    if not 1 < speakers < 9:
        return ""
    return f"; with {speakers} speakers no p is below {2 / 2**speakers:.3f}"
