"""What a system is: a row of the tables, declared in one file of a recipe's ``conf/systems``."""

import re
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import find_files, read_yaml
from espnet_tse_ser.systems.tags import split_tag
from espnet_tse_ser.values.kinds import (
    Choice,
    Flag,
    Id,
    Mapping,
    Maybe,
    Several,
    Text,
    check_options,
)
from espnet_tse_ser.values.numbers import Number

CONDITIONS = ("clean", "noisy", "denoised")  # the signals that a recogniser gets
JOINT = "joint"  # the mixture: the model has a front-end of its own
ELSEWHERE = "elsewhere"

_NAME = re.compile(r"(?!.*JOB)[A-Za-z0-9][A-Za-z0-9_.-]*")
_FIGURE = Number(-200, 200)


@dataclass(frozen=True)
class Claim:
    """What a system is said to be better than; tables test it.

    Args:
        than: name of a system.
        by_gender_state: it is tested within each gender state, too. by_level: at each level.
        gap_to: a system: tables show the share of the gap, from ``than`` to it, that is recovered.
        in_sweeps: it is tested in every sweep, too.
    """

    than: Id()
    by_gender_state: Flag() = False
    by_level: Flag() = False
    gap_to: Maybe(Id()) = None
    in_sweeps: Flag() = False


@dataclass(frozen=True)
class Published:
    """Figures of a paper, to stand beside what is measured: WA and UA in %, SI-SDRi in dB."""

    source: Text()
    wa: Maybe(_FIGURE) = None
    ua: Maybe(_FIGURE) = None
    si_sdri: Maybe(_FIGURE) = None


@dataclass(frozen=True)
class System:
    """A front-end or none, a recogniser, and what both are trained and tested on.

    Args:
        name: of the file. label: for tables. row: where it stands in tables.
        train: the condition that the recogniser is trained on; "joint": front-end and recogniser
            are trained together, on mixtures; "elsewhere": there is only a table of hypotheses.
        test: the condition that it is tested on; "joint": mixtures, extracted by the model itself.
        starts_from: of a joint training: the system whose front-end and recogniser it starts with;
            None: a recogniser from scratch.
        teacher: the system towards whose embeddings of clean speech its recogniser is trained.
        front_end: configuration of its training, or a directory or name of a model from elsewhere.
        recogniser, joint: configurations of the trainings.
            All three are the recipe's where they are None.
        hypotheses: a table of another program (id, label), instead of a recogniser.
        enhances: its recogniser enhances what it is tested on, which is scored.
        by_default: it is among those of a recipe that asks for none by name.
        claims: `Claim` objects. paper: `Published`, or None.
    """

    name: Id()
    label: Text()
    row: Number(0, 1e6)
    train: Choice(*CONDITIONS, JOINT, ELSEWHERE)
    test: Choice(*CONDITIONS, JOINT)
    starts_from: Maybe(Id()) = None
    teacher: Maybe(Id()) = None
    front_end: Maybe(Text()) = None
    recogniser: Maybe(Text()) = None
    joint: Maybe(Text()) = None
    hypotheses: Maybe(Text()) = None
    enhances: Flag() = False
    by_default: Flag() = True
    claims: Several(Mapping(), 0) = ()
    paper: Maybe(Mapping()) = None

    @property
    def extracts(self):
        """Whether there is an estimate of the target's speech."""
        return self.test == "denoised" or self.extracts_itself

    @property
    def extracts_itself(self):
        """Whether the model that recognises gives it, and no front-end before."""
        return self.enhances or self.test == JOINT

    @property
    def is_matched(self):
        """Whether it is tested on what it is trained on, and that is not clean speech."""
        return self.train == self.test != "clean"

    @property
    def parts(self):
        """The kinds of its parts in the order of their tags: "tse", "ser", "joint"."""
        parts = ["tse"] if {self.train, self.test} & {"denoised", JOINT} else []
        parts += ["table" if self.hypotheses else "ser"]
        return tuple(parts + ["joint"] * (self.train == JOINT))


@dataclass(frozen=True)
class Row:
    """A system as it was trained: one row of a table.

    Args:
        name: in tables; the system's, with the tag where a table has several of it.
        system: `System`. tag: the tags of its parts, see `tags`.
    """

    name: str
    system: System
    tag: str

    @property
    def directory(self):
        """Where its scores are, relative to the directory of all scores."""
        return Path(self.system.name) / self.tag

    @property
    def parts(self):
        """Kind of each part -> its tag."""
        kinds = self.system.parts
        return dict(zip(kinds, split_tag(self.tag, len(kinds)), strict=True))

    @property
    def extraction(self):
        """What tells its extracted speech from that of others; None where there is none."""
        if not self.system.extracts:
            return None
        if self.system.extracts_itself:
            return self.system.name, self.tag
        return "denoised", self.parts["tse"]


def read_systems(directory):
    """Read ``conf/systems``: name -> `System`, in the order of their rows.

    Raises:
        UserError: no file; one with an unknown or missing key, a value that does not fit, or what
            contradicts another file.
    """
    directory = Path(directory)
    found = [_read(path) for path in find_files(directory, "*.yaml")]
    if not found:
        raise UserError(f"{directory}: no <name>.yaml in it; each declares a system")
    systems = {s.name: s for s in sorted(found, key=lambda s: (s.row, s.name))}
    for system in systems.values():
        _check(system, systems, directory / f"{system.name}.yaml")
    return systems


def choose(systems, names, where="--systems"):
    """The systems with these names (without: those ``by_default``), in the order of their rows.

    Raises:
        UserError: a name is unknown, or there twice.
    """
    for number, name in enumerate(names):
        if name not in systems:
            raise UserError(f"{where}: no system '{name}'; known: {' '.join(systems)}")
        if name in names[:number]:
            raise UserError(f"{where}: '{name}' is there twice; name each system once")
    names = names or [system.name for system in systems.values() if system.by_default]
    return [system for name, system in systems.items() if name in names]


def name_rows(pairs):
    """Rows of (`System`, tag) pairs, in the order of tables: name -> `Row`.

    >>> ft = System("ft", "SB+SC", 1, "joint", "joint")
    >>> [*name_rows([(ft, "b"), (ft, "a")])], [*name_rows([(ft, "b")])]
    (['ft (a)', 'ft (b)'], ['ft'])
    """
    pairs = sorted(pairs, key=lambda pair: (pair[0].row, pair[0].name, pair[1]))
    names = [system.name for system, _ in pairs]
    rows = [
        Row(f"{s.name} ({tag})" if names.count(s.name) > 1 else s.name, s, tag) for s, tag in pairs
    ]
    return {row.name: row for row in rows}


def pairs_of(rows):
    """The rows that a claim is about: (row, other row, `Claim`), where both are of the same parts.

    Args:
        rows: name -> `Row`.
    """
    return [
        (row, other, claim)
        for row in rows.values()
        for claim in row.system.claims
        for other in rows.values()
        if other.system.name == claim.than
        and are_alike(row, other, _declared(row.system, other.system))
    ]


def are_alike(row, other, but=()):
    """Whether the parts that both rows have, ``but`` for these kinds, are the same."""
    mine, others = row.parts, other.parts
    return all(mine[kind] == others[kind] for kind in (mine.keys() & others.keys()).difference(but))


def _declared(*systems):
    """The kinds of parts of which one of the systems names the configuration itself."""
    keys = {"tse": "front_end", "ser": "recogniser", "joint": "joint"}
    return {kind for kind, key in keys.items() if any(getattr(s, key) for s in systems)}


def _read(path):
    if not _NAME.fullmatch(path.stem):
        raise UserError(
            f"{path}: the name of a system has only letters, digits and -_., and not JOB; rename"
        )
    conf = check_options({"name": path.stem} | read_yaml(path), System, path)
    if conf["name"] != path.stem:
        raise UserError(f"{path}: name: is {conf['name']}, but the file names it; leave it out")
    claims = (check_options(c, Claim, f"{path}: claims") for c in conf.pop("claims", ()))
    paper = conf.pop("paper", None)
    if paper is not None:
        paper = Published(**check_options(paper, Published, f"{path}: paper"))
    return System(**conf, claims=tuple(Claim(**c) for c in claims), paper=paper)


def _check(system, systems, path):
    """Raise `UserError` where what a file says contradicts itself or another."""
    if (system.train == JOINT) != (system.test == JOINT):
        raise UserError(f"{path}: train and test: both are joint, or none; correct one")
    if (system.train == ELSEWHERE) != (system.hypotheses is not None):
        raise UserError(
            f"{path}: train: {ELSEWHERE} and hypotheses (a table) go together; give both or none"
        )
    if system.enhances and system.test != "noisy":
        raise UserError(f"{path}: enhances is for test: noisy; leave it out")
    for key in ("starts_from", "joint"):
        if getattr(system, key) is not None and system.train != JOINT:
            raise UserError(f"{path}: {key} is for train: {JOINT}; leave it out")
    for claim in system.claims:
        for name in filter(None, (claim.than, claim.gap_to)):
            if name not in systems:
                raise UserError(f"{path}: claims: no system '{name}'; known: {' '.join(systems)}")
            if name == system.name:
                raise UserError(f"{path}: claims: a system is not compared with itself")
    if system.teacher is not None:
        known = [s.name for s in systems.values() if s.train == "clean" and s.teacher is None]
        if system.teacher not in known or system.train not in CONDITIONS:
            known = " ".join(name for name in known if name != system.name)
            raise UserError(
                f"{path}: teacher: '{system.teacher}' is to be a system with train: clean and no "
                f"teacher, of one with a recogniser of its own; known: {known}"
            )
    if system.starts_from is not None:
        start = systems.get(system.starts_from)
        if start is None or start.train not in CONDITIONS:
            known = " ".join(s.name for s in systems.values() if s.train in CONDITIONS)
            raise UserError(
                f"{path}: starts_from: '{system.starts_from}' is no system with a recogniser of "
                f"its own; known: {known}"
            )
        for key in ("front_end", "recogniser"):
            mine, other = getattr(system, key), getattr(start, key)
            if mine is not None and other is not None and mine != other:
                raise UserError(
                    f"{path}: {key} is {mine}, but that of {start.name}, which it starts from, is "
                    f"{other}; leave it out"
                )
