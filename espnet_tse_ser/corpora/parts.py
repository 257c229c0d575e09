"""Parts of a corpus that share no speaker or recording: one for pretraining, one for mixtures."""

import hashlib

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.kinds import Several
from espnet_tse_ser.values.numbers import Number

PARTS = Several(Number(0, 10**6, above=True))


def check_parts(parts, part):
    """Refuse proportions and a number of them that do not fit."""
    if not parts or min(parts) <= 0:
        raise UserError(f"parts {parts}: every proportion must be above 0, e.g. 70,30")
    if not 1 <= part <= len(parts):
        raise UserError(f"part {part}: there are parts 1 to {len(parts)} ({parts})")


def choose_part(groups, parts, part, what="recording"):
    """The groups of one part; calls with the same ``parts`` and another ``part`` share none.

    Args:
        groups: dict group -> what is divided evenly (a gender), or a set of groups.
        parts: proportions. part: which of them, from 1. what: a group is called.

    Raises:
        UserError: it has none.
    """
    check_parts(parts, part)
    kind_of = groups if isinstance(groups, dict) else dict.fromkeys(groups, "")
    chosen = set()
    for kind in sorted(set(kind_of.values())):
        # Ordered by a hash: neither the name nor what else is there decides the part.
        members = sorted(
            (group for group in kind_of if kind_of[group] == kind),
            key=lambda group: hashlib.sha256(group.encode()).hexdigest(),
        )
        first, last = (
            round(len(members) * sum(parts[:count]) / sum(parts)) for count in (part - 1, part)
        )
        chosen.update(members[first:last])
    if not chosen:
        raise UserError(
            f"part {part} of {parts} has no {what} ({len(kind_of)} in all); use larger proportions "
            "or more of the corpus"
        )
    return chosen


def part_of(noises, parts, part):
    """The noise of one part, sorted by id."""
    chosen = choose_part({noise.group for noise in noises}, parts, part)
    return sorted((n for n in noises if n.group in chosen), key=lambda noise: noise.utt)
