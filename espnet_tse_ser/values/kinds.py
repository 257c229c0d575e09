"""Kinds of values that an option of a configuration can have, and the check of a configuration.

A kind is called with what the user wrote. It returns the value that was meant, or raises
`ValueError` with what is expected and what came. `Number` is one, the general others are here.

An option is declared once, where it is taken: by the annotation of a parameter, as in

    def __init__(self, input_size, num_blocks: Number(1, 100, whole=True) = 2): ...

`check_options` holds a configuration against these. ``bool``, ``int``, ``float`` and ``str`` are
kinds as well. Parameters without annotation are no options.
"""

import argparse
import inspect
from dataclasses import dataclass

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.values.ids import check_id
from espnet_tse_ser.values.numbers import Number, shown

_NONE = ("none", "null", "nil")  # how ESPnet's command lines write it
_TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True)
_TRUTH |= dict.fromkeys(("false", "no", "off", "0"), False)


class Kind:
    """A kind of value; subclasses have ``read``, which raises `ValueError`, and a name."""

    def __call__(self, value):
        """Return ``value`` as one of this kind; raise `ValueError` if it is none."""
        try:
            return self.read(value)
        except (ValueError, UserError):
            raise ValueError(f"expected {self}, got {shown(value)}") from None

    def option(self, text):
        """The same as the ``type`` of an option of `argparse`."""
        try:
            return self(self.of_text(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {self}, got {shown(text)}") from None

    def of_text(self, text):
        """What the text of an option stands for."""
        return text


@dataclass(frozen=True)
class Flag(Kind):
    """True or false, also as a text."""

    def read(self, value):
        return value if isinstance(value, bool) else _known(value, _TRUTH)

    def __str__(self):
        return "true or false"


@dataclass(frozen=True)
class Text(Kind):
    """A text that is not empty and prints on one line."""

    def read(self, value):
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError
        return value

    def __str__(self):
        return "a text"


@dataclass(frozen=True)
class Id(Kind):
    """A text that can be an id, see `check_id`."""

    def read(self, value):
        check_id(Text().read(value), "")
        return value

    def __str__(self):
        return "a name (a text without white space, comma, slash and control characters)"


class Choice(Kind):
    """One of a few texts, in any case."""

    def __init__(self, *texts):
        self.texts = texts

    def read(self, value):
        return _known(value, {text.lower(): text for text in self.texts})

    def __str__(self):
        return f"one of {', '.join(self.texts)}"


@dataclass(frozen=True)
class Only(Kind):
    """The one value of an option that is not supported here: its default.

    Args:
        value: that one. instead: what to do in place of another one.
    """

    value: object
    instead: str = ""

    def read(self, value):
        same = Flag().read(value) if isinstance(self.value, bool) else value
        if same != self.value:
            raise ValueError
        return self.value

    def __str__(self):
        return f"{self.value!r}, all that is supported here{self.instead and f' ({self.instead})'}"


@dataclass(frozen=True)
class Maybe(Kind):
    """A kind, or nothing: None, or a text that says so."""

    kind: object

    def read(self, value):
        if value is None or isinstance(value, str) and value.strip().lower() in _NONE:
            return None
        return self.kind(value)

    def __str__(self):
        return f"{self.kind} or null"


class Either(Kind):
    """One of several kinds; the first that fits is taken."""

    def __init__(self, *kinds):
        self.kinds = kinds

    def read(self, value):
        for kind in self.kinds:
            try:
                return kind(value)
            except ValueError:
                continue
        raise ValueError

    def __str__(self):
        return ", or ".join(map(str, self.kinds))


@dataclass(frozen=True)
class Several(Kind):
    """A list of values of one kind; where one may be enough, it need not be in a list.

    Args:
        least, most: how many.
    """

    kind: object
    least: int = 1
    most: int | None = None

    def read(self, value):
        if not isinstance(value, (list, tuple)) and self.least <= 1:
            value = [value]
        if not isinstance(value, (list, tuple)) or len(value) < self.least:
            raise ValueError
        if self.most is not None and len(value) > self.most:
            raise ValueError
        return [self.kind(item) for item in value]

    def of_text(self, text):
        """Values with spaces or commas between."""
        return text.replace(",", " ").split()

    def __str__(self):
        if self.least == self.most:
            return f"a list of {self.least}, each {self.kind}"
        return f"a list of {self.least} or more, each {self.kind}"


@dataclass(frozen=True)
class Interval(Kind):
    """A range ``[low, high]`` within one: two numbers, the lower one first, may be the same."""

    low: float
    high: float

    def read(self, value):
        low, high = Several(Number(self.low, self.high), 2, 2).read(value)
        if low > high:
            raise ValueError
        return float(low), float(high)

    def __str__(self):
        return f"two numbers [low, high] from {self.low:g} to {self.high:g}, the lower one first"


@dataclass(frozen=True)
class Mapping(Kind):
    """Options with values; what these may be is checked by who takes them."""

    def read(self, value):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError
        return value

    def __str__(self):
        return "a mapping of options"


def options_of(taker):
    """Name -> kind of the options that a class or function takes: its annotated parameters.

    Raises:
        TypeError: one is annotated with something else.
    """
    parameters = inspect.signature(taker, eval_str=True).parameters.values()
    return {p.name: _kind(p) for p in parameters if p.annotation is not p.empty}


def check_options(conf, taker, where):
    """Check a configuration against the options of who takes it.

    Args:
        conf: mapping; None is an empty one.
        taker: a class or function, see `options_of`, or a dict of kinds.
        where: beginning of messages: the file, and within it the key.

    Returns:
        dict, each value as its kind returns it.

    Raises:
        UserError: it is no mapping, a key is unknown or missing, or a value does not fit.

    >>> def take(size, layers: Number(1, whole=True) = 2, bias: Flag() = True): ...
    >>> check_options({"layers": "1e1"}, take, "train.yaml: encoder_conf")
    {'layers': 10}
    """
    try:
        conf = Mapping()({} if conf is None else conf)
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct it") from None
    kinds = taker if isinstance(taker, dict) else options_of(taker)
    checked = {}
    for key, value in conf.items():
        if key not in kinds:
            known = ", ".join(kinds) or "none"
            raise UserError(f"{where}: unknown key {shown(key)}; known: {known}")
        checked[key] = check_option(value, kinds[key], f"{where}: {key}")
    if not isinstance(taker, dict):
        for name, parameter in inspect.signature(taker).parameters.items():
            if name in kinds and name not in conf and parameter.default is parameter.empty:
                raise UserError(f"{where}: has no '{name}'; give {kinds[name]}")
    return checked


def check_option(value, kind, where):
    """``kind(value)``; a value that does not fit is a `UserError` that begins with ``where``."""
    try:
        return kind(value)
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct it") from None


_PLAIN = {bool: Flag(), int: Number(whole=True), float: Number(), str: Text()}


def _kind(parameter):
    kind = parameter.annotation
    if isinstance(kind, type) and kind in _PLAIN:
        return _PLAIN[kind]
    if not isinstance(kind, (Kind, Number)):
        raise TypeError(
            f"{parameter.name} is annotated with {kind!r}, which is no kind of option; use bool, "
            "int, float, str, or one of espnet_tse_ser.values.kinds and numbers"
        )
    return kind


def _known(value, known):
    text = value.strip().lower() if isinstance(value, str) else None
    if text not in known:
        raise ValueError
    return known[text]
