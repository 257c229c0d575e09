"""Tags: the names that configurations give to what is made with them.

A model of several parts (front-end, recogniser, joint training) has the tags of all, in this order,
with a plus between; where all are the same, that one: ``default``, ``big+default``.
"""

import re
from pathlib import Path

from espnet_tse_ser.errors import UserError

_TAG = re.compile(r"(?!.*JOB)[A-Za-z0-9_][-A-Za-z0-9_.,:@]*")


def tag_of(source, kind):
    """The tag that a configuration, or a directory, file or name of a model, gives.

    >>> tag_of("conf/tuning/train_ser_hubert.yaml", "ser"), tag_of("conf/train_ser.yaml", "ser")
    ('hubert', 'default')
    >>> tag_of("conf/train_se_small.yaml", "tse")
    'small'
    >>> tag_of("some/where/td_speakerbeam/", "tse")
    'td_speakerbeam'
    >>> tag_of("some/where/tcn/valid.loss.ave.pth", "tse"), tag_of("tcn.zip", "tse")
    ('tcn', 'tcn')
    """
    path = Path(source)
    if path.suffix == ".pth":  # weights in the directory of their training
        path = path.absolute().parent
    elif path.suffix == ".zip":
        path = path.with_suffix("")
    if path.suffix not in (".yaml", ".yml"):
        return check_tag(path.name, f"'{source}'")
    name = "(tse|se(?=_|$))" if kind == "tse" else kind  # front-ends: train_tse and train_se
    tag = re.sub(f"^train_{name}", "", path.stem).removeprefix("_")
    return check_tag(tag or "default", f"'{source}'")


def check_tag(tag, where):
    """Return ``tag``, or raise `UserError`: a part of paths and of commands, without a plus."""
    if not _TAG.fullmatch(tag):
        raise UserError(
            f"{where}: the tag '{tag}': only letters, digits and -_.,:@ can be in it, no dash or "
            "dot first, and not JOB, which stands for a job's number; rename the file or give a tag"
        )
    return tag


def join_tags(tags):
    """One tag for a model of parts with these tags.

    >>> join_tags(["default", "default"]), join_tags(["big", "default"])
    ('default', 'big+default')
    """
    return tags[0] if len(set(tags)) == 1 else "+".join(tags)


def split_tag(tag, count):
    """The tags of ``count`` parts from which `join_tags` made ``tag``.

    Raises:
        ValueError: it is of another number of parts.

    >>> split_tag("default", 2), split_tag("big+default", 2)
    (['default', 'default'], ['big', 'default'])
    """
    tags = tag.split("+")
    if len(tags) == 1:
        return tags * count
    if len(tags) != count:
        raise ValueError(f"expected the tags of {count} parts, got '{tag}'")
    return tags
