"""Command lines that are not what they should be, of every command."""

import argparse
import importlib
import pkgutil
from pathlib import Path

from fuzz_case import Case
from fuzz_values import BAD_NUMBERS, ODD_NUMBERS, ODD_PATHS, place
from fuzz_world import Probe

import espnet_tse_ser.bin

_ODD_WORDS = (
    *(
        "",
        " ",
        "nan",
        "-1",
        "../x",
        "a b",
        "é",
        "\u200b",
        "[1]",
        "None",
        "null",
        "$(id)",
        "x" * 300,
    ),
    *("true", "\n", "a\nb", "{}", "{fold}", "%s", "all", "1 1", "0", "9"),
)


def commands():
    """The names of all commands."""
    return [module.name for module in pkgutil.iter_modules(espnet_tse_ser.bin.__path__)]


def draw(rng, files, probes):
    """A command line that succeeds, with something about it changed."""
    command = rng.choice(commands())
    probes = [p for p in probes if p.command == command]
    if not probes:
        probe = Probe(command, command, {})
        return _bare(rng, files, probe)
    probe = rng.choice(probes)
    kind = rng.choice(_KINDS)
    case = Case(probe, "", names=("--", "argument", "rgument", "standard input"))
    kind(rng, files, case)
    return case


def _bare(rng, files, probe):
    """Of a command that needs what is not here (a network)."""
    files.known.setdefault(probe.name, files.known[next(iter(files.known))])
    argv = rng.choice(
        (
            [],
            ["--archive"],
            ["--archive", "none.zip"],
            ["--archive", "none.zip", "--hf_repo", rng.choice(_ODD_WORDS)],
            ["--archive", str(files.root), "--hf_repo", "user/name"],
            ["--hf_repo", "a/b", f"--archive={place(rng.choice(ODD_PATHS), files)}"],
            ["--no_such", "5"],
            ["word"],
        )
    )
    return Case(
        probe,
        f"{probe.command} {argv}",
        argv=argv,
        names=("archive", "--", "argument", "huggingface_hub"),
    )


def _actions(probe):
    """name -> the options of a command that take a value."""
    module = importlib.import_module(f"espnet_tse_ser.bin.{probe.command}")
    parser = module.get_parser()
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and probe.words:
            actions += action.choices[probe.words[0]]._actions
    return {a.option_strings[0][2:]: a for a in actions if a.option_strings and a.nargs != 0}


def _value(rng, files, case):
    """An option has another value."""
    probe, actions = case.probe, _actions(case.probe)
    names = [n for n in actions if n != "help"] or ["help"]
    name = rng.choice(names)
    action = actions.get(name)
    case.may_differ = True
    if action is not None and _is_numeric(action):
        bad = rng.random() < 0.6
        value = rng.choice(BAD_NUMBERS if bad else ODD_NUMBERS)
        case.may_differ = not bad or value == action.default
    elif _is_path(probe, name):
        value = place(rng.choice(ODD_PATHS), files)
        if "output" in name:
            value = f"{files.out}/{value.strip('/').replace('.wav', '')[:300]}"
    else:
        value = rng.choice(_ODD_WORDS)
    case.names = (f"--{name}", f"-{name}", name, value.strip()[:60] or "''", "'--")
    case.names += (
        value.encode("unicode_escape").decode()[:60],
        str(files.out),
        "no such audio file",
    )
    if name in ("seeds", "folds"):
        case.names += (f"fold{value}", "fold1_seed")
    if name == "fs":
        case.names += (" Hz",)
    if _is_path(probe, name):  # a file that should lie there
        case.names += (Path(value).name,)
        case.names += tuple(Path(read).name for read in files.known[probe.name].reads)
    case.what = f"--{name}={value[:60]!r}"
    options = {k: v for k, v in probe.options.items() if k != name}
    if action is not None and action.nargs == "+":
        argv = [*_argv(files, probe, options), f"--{name}", value]
    else:
        argv = [*_argv(files, probe, options), f"--{name}={value}"]
    case.argv = argv


def _is_numeric(action):
    kind = action.type
    return kind in (int, float) or type(getattr(kind, "__self__", None)).__name__ == "Number"


def _is_path(probe, name):
    value = probe.options.get(name, "")
    return isinstance(value, str) and value.startswith(("{root}", "{out}"))


def _argv(files, probe, options):
    changed = Probe(probe.name, probe.command, options, words=probe.words)
    return changed.argv(files.root, files.out)


def _exchanged(rng, files, case):
    """An option names a file or a directory of another kind."""
    probe = case.probe
    names = [n for n in probe.options if _is_path(probe, n) and "output" not in n]
    if not names:
        return _words(rng, files, case)
    name = rng.choice(names)
    others = [v for p in (probe, *_all(files)) for n, v in p.options.items()
              if _is_path(p, n) and v.startswith("{root}") and "{fold}" not in v]  # fmt: skip
    value = rng.choice(others)
    if rng.random() < 0.2:
        value = str(Path(value).parent)
    case.argv = _argv(files, probe, probe.options | {name: value})
    case.what, case.may_differ = f"--{name} {value}", True
    path = value.replace("{root}", str(files.root))
    case.names = (f"--{name}", path, Path(path).name, *_names_in(path))


def _names_in(path):
    """What an error may say of a path: something that lies there."""
    path = Path(path)
    if path.is_dir():
        ids = [w.split()[0] for p in path.glob("wav.scp") for w in p.read_text().splitlines()]
        return (*map(str, path.iterdir()), *ids)
    if not path.is_file():
        return ()
    values = (line.split() for line in path.read_text(errors="replace").splitlines()[:40])
    return tuple(words[-1] for words in values if words)


def _all(files):
    from fuzz_world import PROBES

    return PROBES


def _missing(rng, files, case):
    """An option is missing."""
    probe = case.probe
    if not probe.options:
        return _words(rng, files, case)
    name = rng.choice([n for n in probe.options if n != "json"] or ["no_such"])
    options = {k: v for k, v in probe.options.items() if k != name}
    case.argv, case.what = _argv(files, probe, options), f"without --{name}"
    action = _actions(probe).get(name)
    case.names += (
        name,
        str(action and action.default),
        *(Path(read).name for read in files.known[probe.name].reads),
    )
    case.may_differ = True


def _twice(rng, files, case):
    probe = case.probe
    if not probe.options:
        return _words(rng, files, case)
    name = rng.choice(list(probe.options))
    argv = probe.argv(files.root, files.out)
    case.argv = [*argv, *_argv(files, Probe("", probe.command, {}), {name: probe.options[name]})]
    case.what, case.may_differ = f"--{name} twice", name == "condition"
    case.names += ("is there twice",)  # a recording


def _abbreviated(rng, files, case):
    """Options by the beginnings of their names."""
    probe = case.probe
    if not probe.options:
        return _words(rng, files, case)
    name = rng.choice(list(probe.options))
    short = name[: rng.randrange(1, len(name) + 1)]
    argv = probe.argv(files.root, files.out)
    case.argv = [f"--{short}" if word == f"--{name}" else word for word in argv]
    case.what, case.may_differ = f"--{name} as --{short}", True
    case.names = ("--",)


def _words(rng, files, case):
    """Words too many, options that there are not, options without their value."""
    probe = case.probe
    extra = rng.choice(
        (["word"], ["--no_such", "5"], ["--no_such=5"], ["-x"], ["--"], [""], ["--seed"],
         ["--config"], ["--output_dir"], ["-1"], ["--", "word"], ["--fs", "16000", "--fs", "nan"],
         ["\u200b"], ["--max_epoch", "-1"], ["--max_epoch", "nan"], ["--model_conf", "x"],
         ["--ngpu", "-1"], ["--batch_size", "x"], ["--optim_conf", "lr=nan"],
         ["--num_workers", "-1"],
         ["--optim", "none"], ["--resume", "perhaps"])
    )  # fmt: skip
    argv = probe.argv(files.root, files.out)
    case.argv = [*argv, *extra] if rng.random() < 0.7 else [*extra, *argv]
    case.what, case.may_differ = f"with {extra}", extra in (["--"], ["--", "word"])
    case.names = ("argument", "--", extra[0])


def _environment(rng, files, case):
    """A variable that says how many threads there are."""
    name = rng.choice(("OMP_NUM_THREADS", "OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))
    value = rng.choice(("0", "-1", "x", "", "2.5", "1e9", "99999999", " ", "1,x", "nan", "2"))
    case.environment, case.what, case.names = {name: value}, f"{name}={value!r}", (name,)


def _stdin(rng, files, case):
    """Other lines on standard input, where they are read."""
    probe = case.probe
    if not probe.stdin:
        return _value(rng, files, case)
    lines = probe.stdin.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    fields = lines[at].split("\t")
    fields[rng.randrange(len(fields))] = rng.choice(_ODD_WORDS)
    case.stdin = rng.choice(
        ("", "\n", lines[0] * 2, lines[0].strip(), "".join(lines)[:30], "\0", "\t" * 4 + "\n",
         "".join([*lines[:at], "\t".join(fields), *lines[at + 1 :]]))
    )  # fmt: skip
    case.what, case.may_differ = f"standard input {case.stdin[:60]!r}", True


_KINDS = (
    (_environment, _stdin)
    + (_value,) * 8
    + (_exchanged,) * 3
    + (_missing, _twice, _abbreviated, _words, _words)
)
