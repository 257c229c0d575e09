"""One input of the fuzz, and what must come of it."""

from dataclasses import dataclass, field


@dataclass
class Case:
    """A probe with something about it changed.

    A case has to be refused by one line that has one of ``names`` in it (and matches ``says``, if
    that is given), or to leave what the probe leaves on the files as they are; something else that
    is sane only if it ``may_differ``.
    """

    probe: object
    what: str  # for the report
    changes: dict = field(default_factory=dict)  # see `FileSet.changed`
    argv: list | None = None
    stdin: str | None = None
    environment: dict = field(default_factory=dict)
    names: tuple = ()
    may_differ: bool = False
    says: str | None = None
    accepted: object = None  # further check of what was left: called with the set, gives a problem
