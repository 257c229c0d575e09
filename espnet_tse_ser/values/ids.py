"""Ids of utterances, mixtures, speakers, emotions and folds: what may be one.

An id becomes the name of a file, a word in a table, in a list and in a command. So it is checked
wherever a table is read or written, and where an option names one.
"""

import re
import unicodedata

from espnet_tse_ser.errors import UserError

LONGEST = 200  # bytes; a name of a file can have 255, and gets suffixes

# Whether a text is an id of the usual kind, for who has many to check.
is_plain_id = re.compile(r"[A-Za-z0-9_+=:@-][A-Za-z0-9_+=:@.-]{0,199}").fullmatch
_FOLD = re.compile(r"0|[1-9][0-9]{0,5}")


def check_id(text, where):
    """Raise `UserError` unless ``text`` can be an id.

    Args:
        text: str. where: beginning of the message: the file and, where there is one, the line.

    Raises:
        UserError: it is empty or too long, begins with a dot, has a separator of paths (``/``, a
            backslash), a comma, white space, or a character that is not printed in it, or looks
            like an id of other characters (it is not in Unicode's composed form, NFC).

    >>> check_id("03-01.take_2", "utt2spk: line 1")
    """
    if is_plain_id(text):
        return
    reason = _reason(text)
    if reason:
        raise UserError(
            f"{where}: '{_escape(text)}' cannot be an id: it {reason}; "
            "rename it there and wherever it occurs"
        )


def check_fold(text, where):
    """Raise `UserError` unless ``text`` can be the name of a fold, a whole number such as ``3``.

    ``03`` is none: it would be another fold than ``3``, and ``--folds`` could not name it.
    """
    if not _FOLD.fullmatch(text):
        raise UserError(
            f"{where}: '{_escape(text)}' cannot be a fold: it has to be a whole number without "
            "leading zeros; rename it there and wherever it occurs"
        )


def _escape(text):
    return text.encode("unicode_escape").decode()


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
    if not unicodedata.is_normalized("NFC", text):
        return "is not in Unicode's composed form (NFC) and looks like the one that is"
    return None


def fold_key(fold):
    """Sort key of the names of folds or seeds: numbers by value, then other names."""
    return (not fold.isdecimal(), int(fold) if fold.isdecimal() else 0, fold)
