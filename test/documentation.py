"""What is in the fenced blocks of a page of Markdown, and a shell script that does it.

```bash is run, all of a page in one shell; a ```text right below is what it prints, with ... for
anything, and if a line there is an error, it has to fail. A block whose first comment is a path,
such as # local/data.sh, is that file. What ```console has needs more than there is here, as the
paragraph above it says.
"""

import re
from dataclasses import dataclass

FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_ERROR = re.compile(r"^(?:error|\w+\.sh): ", re.MULTILINE)
_FILE = re.compile(r"(?:#!.*\n)?# ([\w./-]+/[\w.-]+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its ``language`` and ``text``, the paragraph ``above``, its number.

    ``path`` is that of the file that it is, or None; ``printed`` the text of the block right below
    that shows what is printed, or None.
    """

    number: int
    language: str
    text: str
    above: str
    path: str | None
    printed: str | None


def read_blocks(text):
    """The `Block` list of a page."""
    found, matches = [], list(FENCE.finditer(text))
    for number, match in enumerate(matches):
        below = matches[number + 1] if number + 1 < len(matches) else None
        is_shown = below and below[1] == "text" and not text[match.end() : below.start()].strip()
        path = _FILE.match(match[2])
        above = text[: match.start()].rstrip().split("\n\n")[-1]
        printed = below[2] if is_shown else None
        found.append(Block(number, match[1], match[2], above, path and path[1], printed))
    return found


def to_script(blocks, outputs):
    """A bash script of what is to be run, which writes what each block prints to ``outputs/N``."""
    lines = ["set -e -u -o pipefail"]
    for block in blocks:
        if block.path is not None:
            lines += [f"cat >{block.path} <<'END_OF_FILE'", f"{block.text}END_OF_FILE"]
        elif block.language == "bash":
            lines += [f"exec >{outputs}/{block.number} 2>&1", block.text]
            if block.printed is not None and _ERROR.search(block.printed):
                lines[-1:] = ["set +e", block.text, '[ "$?" != 0 ] || exit', "set -e"]
    return "\n".join(lines)


def is_printed(expected, printed):
    """Whether this is what a block is expected to print."""
    pattern = ".*".join(map(re.escape, expected.strip().split("...")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def commands(text):
    """The command lines of a block, those of several lines as one, without comments."""
    text = re.sub(r"\\\n\s*", "", text)
    lines = (re.sub(r"(^| )# .*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]
