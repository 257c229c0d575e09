"""YAML as configurations are written in it: what PyYAML reads, less what misleads.

Numbers are those of YAML 1.2: 1e-3 is one, 010 is ten and 1:30 a text (in YAML 1.1 they are a text,
eight and ninety). Truth values are those of YAML 1.1, as in ESPnet. There are no tags, which could
make other objects than a configuration has, no dates, and no key twice.
"""

import re

import yaml

from espnet_tse_ser.errors import UserError

MAX_CHARACTERS = 2**16  # ESPnet's own configurations have 10,000
MAX_VALUES = 100_000  # what aliases stand for counted each time
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?[0-9]{1,30}$")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_KEPT = {_TAG + kind for kind in ("null", "bool", "merge")}


def parse(text, where):
    """Parse one YAML document.

    Args:
        text: str. where: beginning of messages, e.g. the file.

    Returns:
        None, bool, int, float, str, or lists and dicts (with keys of type str) of these.

    Raises:
        UserError: it is no YAML, or has what this module leaves out; the message has the line.

    >>> parse("optim_conf: {lr: 1e-3}", "train.yaml")
    {'optim_conf': {'lr': 0.001}}
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where}: is too large for a configuration; give another file")
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        reason = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    except yaml.YAMLError as error:
        line, reason = "", " ".join(str(error).split())
    except RecursionError:
        line, reason = "", "it is nested too deeply"
    raise UserError(f"{where}: {line}not valid YAML ({reason}); repair or copy it again")


def _load(text):
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent, index):
        """As PyYAML does, not too deep, and without tags."""
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _error(event.start_mark, f"the tag {event.tag} is not supported: remove it")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(event.start_mark, "it is nested too deeply")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node, deep=False):
        """As PyYAML does, after a look at the keys."""
        seen = {}
        for key, _ in node.value:
            if key.tag == _TAG + "merge":
                continue
            if key.tag != _TAG + "str":
                raise _error(key.start_mark, "a key that is no text: put it into quotes")
            if key.value in seen:
                raise _error(
                    key.start_mark,
                    f"the key '{key.value}' is there twice, first in line {seen[key.value]}",
                )
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _type, _pattern in ((int, _INT), (float, _FLOAT)):
    _Loader.add_implicit_resolver(_TAG + _type.__name__, _pattern, list("-+.0123456789"))
_Loader.add_constructor(_TAG + "int", lambda loader, node: int(node.value))
_Loader.add_constructor(
    _TAG + "float",
    lambda loader, node: float(re.sub(r"\.(inf|nan)", r"\1", node.value.lower())),
)


def _error(mark, problem):
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _measure(node, known):
    """How many values a node stands for, its aliases counted each time, and how deep they lie."""
    if node not in known:
        known[node] = None
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        sizes, depths = [1], [0]
        for part in parts:
            size, depth = _measure(part, known)
            sizes.append(size)
            depths.append(depth)
        known[node] = sum(sizes), 1 + max(depths)
        if known[node][0] > MAX_VALUES or known[node][1] > MAX_DEPTH:
            raise _error(node.start_mark, "its aliases stand for too much")
    if known[node] is None:
        raise _error(node.start_mark, "an alias that is a part of itself")
    return known[node]
