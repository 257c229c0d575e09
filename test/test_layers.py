"""Imports point downwards: a part of the package uses only parts below it."""

import ast
import re
from pathlib import Path

import pytest

import espnet_tse_ser

ROOT = Path(espnet_tse_ser.__file__).parent
LAYERS = (
    "bin",
    "jobs",
    "report",
    "inference",
    "tasks",
    "frontends",
    "models",
    "recognise",
    "frontends/td_speakerbeam",
    "frontends/spectral",
    "espnet",
    "training",
    "metrics",
    "corpora",
    "mixtures",
    "systems",
    "audio",
    "",  # errors, files, values, ...: what all stand on
)


def layer(path):
    """The deepest part that a file or directory, relative to the package, is in."""
    place = path.as_posix()
    return max((name for name in LAYERS if name and f"{place}/".startswith(f"{name}/")), default="")


def imported(path):
    """The modules and packages of ours that a module imports, at its top or in a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "espnet_tse_ser":
                place = Path(rest.replace(".", "/"))
                yield place if (ROOT / place).with_suffix(".py").exists() else place.parent


def test_the_readme_has_them_in_this_order():
    text = (ROOT.parent / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `espnet_tse_ser/([\w/]+)` \|", text, re.MULTILINE)
    assert named == list(LAYERS[:-1])


def test_every_part_has_its_place():
    parts = {p.parent.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py")}
    assert parts - {".", "values"} == set(LAYERS) - {""}


@pytest.mark.parametrize("name", LAYERS)
def test_imports_point_downwards(name):
    modules = [p for p in ROOT.rglob("*.py") if layer(p.relative_to(ROOT)) == name]
    assert modules
    for module in modules:
        for place in imported(module):
            below = LAYERS.index(layer(place)) >= LAYERS.index(name)
            assert below, f"{module.relative_to(ROOT)} imports {place}, which is above it"
