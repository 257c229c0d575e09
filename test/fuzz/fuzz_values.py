"""Odd bytes, words and numbers, for all families."""

import os

# Names that a table, an option or a configuration may hold and that are no ids.
BAD_IDS = (
    *("../x", "/x/y", "{root}/../escape", "a/b", "a\\b", ".hidden", "..", ".", "a,b", "a\u200bb"),
    *("a\u202eb", "a\u00a0b", "a\u0007b", "a\u0085b", "a\u2028b", "\ufeffa", "x" * 300, "a\u00adb"),
)
ODD_IDS = ("é", "-x", "--x", "$HOME", "a;b", "JOB", "a|b", "*", "~", "%s", "{}", "a:b", "x.ark:3")
ODD_PATHS = (
    *("", " ", ".", "/", "/dev/null", "/nonexistent/x", "touch {marker} |", "|touch {marker}"),
    *("touch {marker}; cat {root}/a.wav |", "{root}/a.wav |", "gunzip -c {root}/a.wav|"),
    *("{root}/feats", "{root}/x.ark:3", "{root}/pickle.ark:5", "{root}/pickle.ark"),
    *("{root}/a.wav:3", "x" * 5000, "\u200b", "-", "~", "$HOME", "{root}/mix/utt2emo", "-h"),
    "file://{root}/a.wav",
)
BAD_NUMBERS = ("nan", "inf", "-inf", "1e400", "x", "", "1,5", "0x10", "1_000", "None", "²")
ODD_NUMBERS = ("0", "-1", "1e308", "2.5", "1e-300", "-0.0", "+5", " 5", "5.0", "007", "1e9", "٣")
ODD_NUMBERS += ("9" * 40,)


def flip(rng, data):
    """One bit of the bytes is another."""
    if not data:
        return b"\0"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def cut(rng, data):
    """The bytes up to somewhere."""
    return data[: rng.randrange(len(data))] if data else b""


def make_directory(path):
    path.mkdir(parents=True, exist_ok=True)


def make_pipe(path):
    os.mkfifo(path)


def make_loop(path):
    path.symlink_to(path.name)


# what stands in a file's place: a word and what `FileSet.changed` takes
IN_ITS_PLACE = (
    ("is missing", None),
    ("is a directory", make_directory),
    ("is a named pipe", make_pipe),
    ("is a link to itself", make_loop),
    ("is empty", b""),
)


def place(value, files):
    """An odd word with the directories of a set of files put in."""
    return value.replace("{root}", str(files.root)).replace("{marker}", str(files.marker))
