"""Ids of utterances, mixtures, speakers and folds: what may be one.

An id becomes the name of a file, a word in a table, in a list and in a command. So it is checked
wherever a table is read or written, and nowhere else.
"""

import unicodedata

from espnet_tse_ser.errors import UserError

LONGEST = 200  # bytes; a name of a file can have 255, and gets suffixes


def check_id(text, where):
    """Raise `UserError` unless ``text`` can be an id.

    Args:
        text: str. where: beginning of the message: the file and, where there is one, the line.

    Raises:
        UserError: it is empty or too long, begins with a dot, or has a separator of paths (``/``, a
            backslash), a comma, white space, or a character that is not printed in it.

    >>> check_id("03-01.take_2", "utt2spk: line 1")
    """
    reason = _reason(text)
    if reason:
        raise UserError(
            f"{where}: '{text.encode('unicode_escape').decode()}' cannot be an id: it {reason}; "
            "rename it there and wherever it occurs"
        )


def _reason(text):
    if not text:
        return "is empty"
    if len(text.encode(errors="surrogatepass")) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if text[0] == ".":
        return "begins with a dot"
    for char in text:
        if char in "/\\":
            return f"has a '{char}' in it, which separates directories"
        if char == ",":
            return "has a comma in it, which separates the items of a list"
        if char.isspace() or unicodedata.category(char)[0] in "ZC":
            return f"has white space or an unprintable character (U+{ord(char):04X}) in it"
    return None
