"""What a set of systems needs: front-ends, recognisers and joint trainings, in their order."""

from dataclasses import dataclass, replace
from pathlib import Path

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.system import CONDITIONS, JOINT, Row, are_alike
from espnet_tse_ser.systems.tags import check_tag, join_tags, tag_of

_KEYS = {"tse": "front_end", "ser": "recogniser", "joint": "joint"}
_PREFIXES = {"tse": "tse", "ser": "ser", "joint": "tse_ser"}  # of the names of configurations


@dataclass(frozen=True)
class Part:
    """A configuration (or a model from elsewhere) and the tag that it gives."""

    source: str
    tag: str

    @classmethod
    def of(cls, kind, source):
        """With the tag that a source of a kind ("tse", "ser", "joint") gives by its name."""
        return cls(source, tag_of(source, _PREFIXES[kind]))


@dataclass(frozen=True)
class Statistics:
    """Features of a condition, as a recogniser's configuration has them, and their statistics."""

    directory: str
    condition: str
    front_end: Part | None
    recogniser: Part


@dataclass(frozen=True)
class Recogniser:
    """The trainings of a recogniser on a condition, one a fold and seed.

    teacher: the recogniser towards whose embeddings of clean speech it is trained, or None.
    """

    directory: str
    statistics: Statistics
    teacher: "Recogniser | None" = None


@dataclass(frozen=True)
class Joint:
    """The joint trainings of a system.

    start: the recogniser that it starts with; None: one from scratch, on ``statistics``.
    """

    directory: str
    front_end: Part
    recogniser: Part
    joint: Part
    start: Recogniser | None
    statistics: Statistics


@dataclass(frozen=True)
class Planned:
    """A row and what recognises it: a `Recogniser`, a `Joint`, or the path of a table."""

    row: Row
    model: object
    front_end: Part | None
    recogniser: Part | None
    sources: tuple  # configurations of all parts


class Plan:
    """What chosen systems need, each thing once, in the order of the systems.

    Args:
        chosen: list of `System`. systems: name -> `System`, of all that are declared.
        defaults: "tse", "ser", "joint" -> `Part`, where a system names none of its own.
        suffix: of everything that is made with another set of mixtures.

    Attributes:
        front_ends: list of `Part`. statistics, recognisers, joints: lists of `Statistics`,
        `Recogniser`, teachers first, and `Joint`. rows: list of `Planned`.

    Raises:
        UserError: two configurations give the same tag.
    """

    def __init__(self, chosen, systems, defaults, suffix=""):
        self.systems, self.defaults, self.suffix = systems, defaults, suffix
        self._parts = {}  # kind, tag -> source
        self._recognisers = {}  # directory -> `Recogniser`, system
        for kind, part in defaults.items():
            self._note(kind, part, "the recipe")
        self.rows = [self._plan(system) for system in chosen]
        self.joints = _once(p.model for p in self.rows if isinstance(p.model, Joint))
        started = [joint.start for joint in self.joints if joint.start]
        trained = [p.model for p in self.rows if isinstance(p.model, Recogniser)]
        taught = trained + started
        self.recognisers = _once([r.teacher for r in taught if r.teacher] + taught)
        from_scratch = [joint.statistics for joint in self.joints if not joint.start]
        self.statistics = _once([r.statistics for r in self.recognisers] + from_scratch)
        self.front_ends = _once(p.front_end for p in self.rows if p.front_end)

    def preserved(self):
        """What the extracted speech of each joint row can be compared by: by one recogniser of
        clean speech, on clean, noisy and denoised speech of the same parts.

        Returns:
            list of (tag, directory of the recogniser, directories of the scores of the joint row
            and of those on the three conditions, tag of the front-end).
        """
        found = []
        for joint in (p for p in self.rows if isinstance(p.model, Joint)):
            others = {
                p.row.system.test: p
                for p in self.rows
                if p.row.system.train == "clean" and are_alike(p.row, joint.row)
            }
            if others.keys() >= set(CONDITIONS):
                rows = [joint, *(others[condition] for condition in CONDITIONS)]
                model = others["clean"].model.directory
                directories = [str(p.row.directory) for p in rows]
                tag = f"{joint.row.system.name}_{joint.row.tag}"
                found.append((tag, model, *directories, joint.front_end.tag))
        return found

    def _plan(self, system):
        """The row of a system."""
        parts = {kind: self._part(system, kind) for kind in system.parts}
        front_end, recogniser = parts.get("tse"), parts.get("ser")
        if system.hypotheses:
            model = system.hypotheses
        elif system.train == JOINT:
            model = self._joint(system, parts)
        else:
            model = self._recogniser(system, front_end, recogniser)
        tag = join_tags([part.tag for part in parts.values()])
        sources = tuple(part.source for part in parts.values())
        return Planned(Row(system.name, system, tag), model, front_end, recogniser, sources)

    def _recogniser(self, system, front_end, recogniser):
        statistics = self._statistics(system.train, front_end, recogniser)
        directory = f"ser_{system.train}_{_tag_of(statistics)}{self.suffix}"
        teacher = None
        if system.teacher:
            of = self.systems[system.teacher]
            teacher = self._recogniser(of, None, self._part(of, "ser"))
        found = Recogniser(directory, statistics, teacher)
        known = self._recognisers.setdefault(directory, (found, system.name))
        if known[0] != found:
            raise UserError(
                f"{system.name}: its recogniser has the tags of that of {known[1]}, but another "
                "teacher; give one of them a configuration of its own (recogniser)"
            )
        return found

    def _statistics(self, condition, front_end, recogniser):
        front_end = front_end if condition == "denoised" else None
        statistics = Statistics("", condition, front_end, recogniser)
        directory = f"ser_stats_{_tag_of(statistics)}{self.suffix}/{condition}"
        return replace(statistics, directory=directory)

    def _joint(self, system, parts):
        start = None
        if system.starts_from:
            of = self.systems[system.starts_from]
            start = self._recogniser(of, parts["tse"], parts["ser"])
        # From scratch: the features of what is most like the extracted speech.
        statistics = self._statistics("denoised", parts["tse"], parts["ser"])
        tag = join_tags([part.tag for part in parts.values()])
        directory = f"tse_ser_{system.name}_{tag}{self.suffix}"
        return Joint(directory, *parts.values(), start, statistics)

    def _part(self, system, kind):
        """A part of a system: its own, or that of the system it starts from, or the recipe's."""
        if kind == "table":
            tag = Path(system.hypotheses).stem
            return Part(system.hypotheses, check_tag(tag, f"'{system.hypotheses}'"))
        source = getattr(system, _KEYS[kind])
        if source is None and system.starts_from and kind != "joint":
            source = getattr(self.systems[system.starts_from], _KEYS[kind])
        if source in (None, self.defaults[kind].source):
            return self.defaults[kind]
        part = Part.of(kind, source)
        self._note(kind, part, system.name)
        return part

    def _note(self, kind, part, who):
        check_tag(part.tag, f"{who}: '{part.source}'")
        source = self._parts.setdefault((kind, part.tag), part.source)
        if source != part.source:
            raise UserError(
                f"{who}: '{part.source}' has the tag '{part.tag}', as '{source}' has; rename one, "
                "or give another tag"
            )


def _tag_of(statistics):
    parts = [part for part in (statistics.front_end, statistics.recogniser) if part]
    return join_tags([part.tag for part in parts])


def _once(items):
    return list(dict.fromkeys(items))
