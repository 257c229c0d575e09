"""Configurations that are not what they should be, of trainings, tests and trained models."""

import copy
import json
import math

import yaml
from fuzz_case import Case
from fuzz_values import IN_ITS_PLACE, cut, flip, place

_WRONG = {  # values that no option of this type takes
    int: (
        "x",
        "",
        "nan",
        math.nan,
        math.inf,
        [1, 2],
        {"a": 1},
        True,
        2.5,
        -3,
        "2.5",
        [],
        -(10**30),
    ),
    float: ("x", "", "nan", math.nan, math.inf, -math.inf, [1.0, 2.0], {"a": 1}, True, [], "1e400"),
    str: (5, "nonsense", "", [], ["a"], {"a": 1}, True, 2.5),
    bool: ("x", 7, [], {"a": 1}, 2.5),
    list: ("x", 5, {"a": 1}, True, [[]], [None], [math.nan], ["x", "x"]),
    dict: ("x", 5, [1], True, ["a"], {"no_such_key": 1}, {5: 5}, "a=b"),
    type(None): (),
}
_ODD = {  # values that some do
    int: (0, 1, 7, None, 10**9, "4", 4.0, "4.0", "1e0"),
    float: (0, 0.0, 0.5, -0.5, -1.0, 1e30, 1e-30, None, "1e-3", "0.5", 1),
    str: (None, "null", "none"),
    bool: (True, False, None, 0, 1, "true", "no"),
    list: (None, []),
    dict: (None, {}),
    type(None): (0, 1, "x", [], {}, -1, 0.5, True, math.nan),
}
_ENDLESS = (  # more of these is only longer
    *("max_epoch", "patience", "steps_per_epoch", "valid_examples", "num_iters_per_epoch"),
    *(
        "keep_nbest_models",
        "log_interval",
        "num_workers",
        "ngpu",
        "max_cache_size",
        "dist_world_size",
    ),
)


def is_configuration(name):
    return name.endswith((".yaml", ".json"))


def draw(rng, files, probes):
    """A probe, one of the configurations that it reads, and what becomes of that."""
    probes = [p for p in probes if any(map(is_configuration, files.known[p.name].reads))]
    probe = rng.choice(probes)
    reads = [n for n in files.known[probe.name].reads if is_configuration(n)]
    name = rng.choice(reads)
    source = name
    if name.startswith("out/"):  # copied there from a directory before
        source, target = next((s, t) for s, t in probe.before if t == "." or t in name)
        source = f"{source}/{name.removeprefix('out/').removeprefix(f'{target}/')}"
    text = (files.root / source).read_text()
    case = Case(probe, "", names=(name.rpartition("/")[2], *name.split("/")[-2:-1]))
    if name == "out/config.yaml" or probe.command == "pack":  # it is written, or copied
        case.may_differ = True
    rng.choice(_KINDS)(rng, files, case, name, text)
    if case.what == "is missing" and name.startswith("conf/sweeps/"):  # what there is is shown
        case.may_differ = True
    case.what = f"{name}: {case.what}"
    return case


def _value(rng, files, case, name, text):
    config = yaml.safe_load(text)
    where, old = rng.choice(list(_leaves(config)))
    kind = type(old)
    wrong = rng.random() < 0.65 and bool(_WRONG[kind])
    new = rng.choice(_WRONG[kind] if wrong else _ODD[kind])
    if where[-1] in _ENDLESS and isinstance(new, (int, float)) and new > 100:
        new = 0
    key = ".".join(map(str, where))
    case.what = f"{key}: {str(old)[:40]!r} -> {str(new)[:40]!r} ({type(new).__name__})"
    case.names += (str(where[0]), str(where[-1]), str(where[-2:][0]), "features of")
    case.names += tuple(map(str, old)) if isinstance(old, dict) else ()
    case.may_differ = case.may_differ or not wrong or _is_free(where, new)
    case.changes[name] = _dump(name, _replaced(config, where, new))


def _is_free(where, new):
    """Whether a text, or the place of a row, may be anything."""
    if where[-1] == "row":
        return isinstance(new, (int, float))
    texts = ("about", "sweep", "value", "enrollment", "label", "source")
    return where[-1] in texts and isinstance(new, str)


def _key(rng, files, case, name, text):
    config = yaml.safe_load(text)
    where, old = rng.choice(list(_leaves(config)))
    config = copy.deepcopy(config)
    parent = config
    for key in where[:-1]:
        parent = parent[key]
    if not isinstance(parent, dict):
        where, parent = where[:1], config
    case.names += (str(where[0]), str(where[-1]))
    if rng.random() < 0.5:
        del parent[where[-1]]
        case.what, case.may_differ = f"no {'.'.join(map(str, where))}", True
    else:
        odd = rng.choice(("no_such_key", 5, "", "Encoder", f"{where[-1]}s", None, "__class__"))
        parent[odd] = copy.deepcopy(parent[where[-1]])
        case.what = f"a key {odd!r} beside {'.'.join(map(str, where))}"
        case.names += (str(odd),)
    case.changes[name] = _dump(name, config)


def _twice(rng, files, case, name, text):
    config = yaml.safe_load(text)
    key = rng.choice(list(config))
    new = rng.choice((None, 5, "x", config[key], {}))
    case.what = f"{key} twice, then {str(new)[:30]!r}"
    case.names += (str(key),)
    again = yaml.safe_dump({key: new}) if name.endswith("yaml") else None
    if again is None:
        case.changes[name] = f'{{"{key}": 5, {text.lstrip()[1:]}'.encode()
    else:
        case.changes[name] = (text.rstrip("\n") + "\n" + again).encode()


def _syntax(rng, files, case, name, text):
    key = next(iter(yaml.safe_load(text)))
    marker = place("{marker}", files)
    what, value = rng.choice(
        (
            ("a tag that runs", f"x: !!python/object/apply:os.system ['touch {marker}']\n{text}"),
            ("a tag that is a tuple", f"{text}\nx: !!python/tuple [1, 2]\n"),
            ("an unknown tag", text.replace(": ", ": !thing ", 1)),
            ("a merge", f"base: &base {{{key}: 5}}\n<<: *base\n{text}"),
            ("an unknown anchor", f"{text}\nx: *nothing\n"),
            ("an anchor that holds itself", f"{text}\nx: &x [*x]\n"),
            ("deep nesting", f"{text}\nx: {'[' * 3000}{']' * 3000}\n"),
            ("many anchors", text + "\n" + _laughs()),
            ("two documents", f"{text}\n---\n{text}"),
            ("tabs", text.replace(": ", ":\t")),
            ("tabs before", "\t" + text.replace("\n", "\n\t")),
            ("a list", yaml.safe_dump([1, 2])),
            ("a word", "word\n"),
            ("a number", "5\n"),
            ("nothing", "# nothing\n"),
            ("null", "null\n"),
            ("JSON of a list", "[]"),
            ("JSON with NaN", '{"a": NaN}'),
            ("no UTF-8", text + "# \udcff\n"),
            ("a NUL", text + "# \0\n"),
            ("a byte order mark", "\ufeff" + text),
            ("CRLF", text.replace("\n", "\r\n")),
            ("a date as key", f"{text}\n2020-01-01: 5\n"),
            ("a list as key", f"{text}\n? [1, 2]\n: 5\n"),
        )
    )
    case.what = what
    case.names += ("x", key, "base")
    case.changes[name] = value.encode(errors="surrogateescape")


def _laughs():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines) + "\n"


def _bytes(rng, files, case, name, text):
    data = text.encode()
    what, change = rng.choice((("a bit is flipped", flip), ("is cut", cut)))
    case.what = what
    case.changes[name] = change(rng, data)
    try:
        meaning = yaml.safe_load(case.changes[name])
    except (yaml.YAMLError, ValueError):
        meaning = None
    case.may_differ = isinstance(meaning, dict)
    if isinstance(meaning, dict):
        case.names += tuple(map(str, meaning)) + tuple(
            str(k) for v in meaning.values() if isinstance(v, dict) for k in v
        )
        if any(_is_endless(k, v) for k, v in _flat(meaning)):
            case.changes[name] = cut(rng, data[:40])


def _flat(value):
    for key, child in value.items():
        if isinstance(child, dict):
            yield from _flat(child)
        else:
            yield key, child


def _is_endless(key, value):
    return key in _ENDLESS and isinstance(value, int) and value > 100


def _in_its_place(rng, files, case, name, text):
    case.what, value = rng.choice(IN_ITS_PLACE)
    case.changes[name] = value


_KINDS = (_value,) * 10 + (_key, _key, _twice, _syntax, _syntax, _bytes, _in_its_place)


def _leaves(value, where=()):
    """(path, value) of everything below the top."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield (*where, key), child
        if isinstance(child, (dict, list)):
            yield from _leaves(child, (*where, key))


def _replaced(value, where, new):
    value = copy.deepcopy(value)
    parent = value
    for key in where[:-1]:
        parent = parent[key]
    parent[where[-1]] = new
    return value


def _dump(name, config):
    if name.endswith(".json"):
        return json.dumps(config, default=str).encode()
    return yaml.safe_dump(config).encode()
