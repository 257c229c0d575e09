"""Declarations of systems: what they say, and what is refused."""

import dataclasses

import pytest
import yaml
from declared import ROWS, SYSTEMS, SYSTEMS_DIR

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.system import (
    Claim,
    System,
    are_alike,
    choose,
    name_rows,
    pairs_of,
    read_systems,
)

CLEAN = dict(row=1, label="SC", train="clean", test="clean")
NOISY = dict(row=2, label="SC", train="noisy", test="noisy")
BASE = dict(row=3, label="SB_SC", train="denoised", test="denoised")
FT = dict(row=4, label="SB+SC", train="joint", test="joint", starts_from="base")
ALL = {"clean_clean": CLEAN, "noisy_noisy": NOISY, "base": BASE, "ft": FT}


@pytest.fixture
def declare(tmp_path):
    """Write ``conf/systems`` with some systems changed, and read it."""

    def declare(**changes):
        for name, conf in (ALL | {n: ALL.get(n, {}) | c for n, c in changes.items()}).items():
            conf = {key: value for key, value in conf.items() if value != "REMOVED"}
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(conf))
        return read_systems(tmp_path)

    return declare


def test_the_papers_systems():
    assert list(SYSTEMS) == ("clean_clean clean_noisy noisy_noisy clean_denoised base ft".split())
    for name, system in SYSTEMS.items():
        if name in ("base", "ft"):
            assert system.is_matched and system.extracts
            continue
        assert (system.train, system.test) == tuple(name.split("_"))
        assert system.is_matched == (name == "noisy_noisy")
        assert system.extracts == (name == "clean_denoised")
    assert SYSTEMS["ft"].starts_from == "base"
    figures = {n: (s.paper.wa, s.paper.ua, s.paper.si_sdri) for n, s in SYSTEMS.items()}
    assert figures["ft"] == (67.02, 68.27, 12.9) and figures["clean_clean"] == (70.2, 71.64, None)


def test_every_recipe_has_them():
    for recipe in SYSTEMS_DIR.parents[3].glob("*/tse_ser1/conf/systems"):
        found = read_systems(recipe)
        own = {p.stem for p in recipe.glob("*.yaml") if not p.is_symlink()} - {*SYSTEMS}
        assert {name: found[name] for name in found if name not in own} == SYSTEMS


def test_order_is_by_row_then_name(declare):
    systems = declare(base={"row": 1}, zz=CLEAN | {"row": 0.5})
    assert list(systems) == ["zz", "base", "clean_clean", "noisy_noisy", "ft"]


@pytest.mark.parametrize(
    "system, parts",
    [
        ("clean_clean", ("ser",)),
        ("clean_noisy", ("ser",)),
        ("noisy_noisy", ("ser",)),
        ("clean_denoised", ("tse", "ser")),
        ("base", ("tse", "ser")),
        ("ft", ("tse", "ser", "joint")),
    ],
)
def test_parts(system, parts):
    assert SYSTEMS[system].parts == parts
    assert ROWS[system].parts == dict.fromkeys(parts, "default")


def test_what_is_extracted():
    extractions = {name: row.extraction for name, row in ROWS.items()}
    assert extractions["clean_denoised"] == extractions["base"] == ("denoised", "default")
    assert extractions["ft"] == ("ft", "default")
    assert not any(extractions[name] for name in ("clean_clean", "clean_noisy", "noisy_noisy"))


WRONG = {
    "key": ({"recognizer": "a.yaml"}, "recognizer"),
    "enhances": ({"enhances": True, "test": "clean"}, "enhances is for test: noisy"),
    "no label": ({"label": "REMOVED"}, "has no 'label'"),
    "no row": ({"row": "REMOVED"}, "has no 'row'"),
    "no train": ({"train": "REMOVED"}, "has no 'train'"),
    "no test": ({"test": "REMOVED"}, "has no 'test'"),
    "empty label": ({"label": ""}, "label: expected a text"),
    "row": ({"row": -1}, "row: expected a number"),
    "text": ({"row": "first"}, "row: expected a number"),
    "train": ({"train": "dirty"}, "train: expected .*clean.*joint.*elsewhere.* got 'dirty'"),
    "test": ({"test": "elsewhere"}, "test: expected .*clean.*joint.* got 'elsewhere'"),
    "front_end": ({"front_end": 5}, "front_end: expected a text"),
    "another name": ({"name": "other"}, "name: is other, but the file names it; leave it out"),
    "train alone": ({"train": "joint"}, "train and test: both are joint, or none; correct one"),
    "test alone": ({"test": "joint"}, "train and test: both are joint, or none; correct one"),
    "no table": ({"train": "elsewhere"}, "train: elsewhere and hypotheses .* go together"),
    "a table": ({"hypotheses": "a.tsv"}, "train: elsewhere and hypotheses .* go together"),
    "start": ({"starts_from": "base"}, "starts_from is for train: joint; leave it out"),
    "joint": ({"joint": "a.yaml"}, "joint is for train: joint; leave it out"),
    "claims": ({"claims": 5}, "claims: .*expected"),
    "claim": ({"claims": ["base"]}, "claims: .*expected"),
    "no than": ({"claims": [{"gap_to": "base"}]}, "claims: has no 'than'"),
    "key of a claim": ({"claims": [{"than": "base", "by": True}]}, "claims: .*'?by'?"),
    "flag": ({"claims": [{"than": "base", "in_sweeps": "maybe"}]}, "claims: in_sweeps: expected"),
    "than": ({"claims": [{"than": "best"}]}, "claims: no system 'best'; known: clean_clean noisy"),
    "gap": ({"claims": [{"than": "base", "gap_to": "x"}]}, "claims: no system 'x'; known: clean"),
    "itself": ({"claims": [{"than": "noisy_noisy"}]}, "a system is not compared with itself"),
    "its gap": (
        {"claims": [{"than": "base", "gap_to": "noisy_noisy"}]},
        "a system is not compared with itself",
    ),
    "paper": ({"paper": "a paper"}, "paper: expected"),
    "no source": ({"paper": {"wa": 50}}, "paper: has no 'source'"),
    "figure": ({"paper": {"source": "x", "ua": 500}}, "paper: ua: expected a number"),
    "key of a paper": ({"paper": {"source": "x", "ua_ci": 5}}, "paper: .*ua_ci"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_declarations(declare, tmp_path, kind):
    change, message = WRONG[kind]
    with pytest.raises(UserError, match=message) as error:
        declare(noisy_noisy=change)
    assert str(error.value).startswith(f"{tmp_path}/noisy_noisy.yaml: ")


WRONG_STARTS = {
    "unknown": ({"starts_from": "best"}, "starts_from: 'best' is no system with a recogniser"),
    "itself": (
        {"starts_from": "ft"},
        "starts_from: 'ft' is no system .*known: clean_clean n.* base",
    ),
    "a table": ({"starts_from": "theirs"}, "starts_from: 'theirs' is no system with a recogniser"),
    "front_end": ({"front_end": "a.yaml"}, "front_end is a.yaml, but that of base, .* is b.yaml"),
    "recogniser": ({"recogniser": "a.yaml"}, "recogniser is a.yaml, but that of base, .* is c.yam"),
}


@pytest.mark.parametrize("kind", WRONG_STARTS)
def test_wrong_starts(declare, tmp_path, kind):
    theirs = dict(row=9, label="x", train="elsewhere", test="noisy", hypotheses="a.tsv")
    base = {"front_end": "b.yaml", "recogniser": "c.yaml"}
    declare(base=base, theirs=theirs, ft={"front_end": "b.yaml", "recogniser": "c.yaml"})
    change, message = WRONG_STARTS[kind]
    with pytest.raises(UserError, match=message) as error:
        declare(base=base, theirs=theirs, ft=change)
    assert str(error.value).startswith(f"{tmp_path}/ft.yaml: ")


@pytest.mark.parametrize("text", ["- 1\n", "a: [\n", "row: 1\nrow: 2\n", ""])
def test_files_that_declare_nothing(declare, tmp_path, text):
    declare()
    (tmp_path / "ft.yaml").write_text(text)
    with pytest.raises(UserError, match=f"^{tmp_path}/ft.yaml: "):
        read_systems(tmp_path)


@pytest.mark.parametrize("name", ["a b", "JOB1", "-a", "ä", "a+b", "a@b", "a|b", "a\n"])
def test_names(declare, tmp_path, name):
    with pytest.raises(UserError, match="the name of a system has only letters, digits and -_.,"):
        declare(**{name: CLEAN})


def test_no_systems(tmp_path):
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=f"{directory}: no <name>.yaml in it; each declares"):
            read_systems(directory)


def test_chosen_systems():
    assert choose(SYSTEMS, []) == list(SYSTEMS.values())
    assert [s.name for s in choose(SYSTEMS, ["ft", "clean_clean"])] == ["clean_clean", "ft"]
    with pytest.raises(UserError, match="--systems: no system 'best'; known: clean_clean clean_no"):
        choose(SYSTEMS, ["ft", "best"])
    with pytest.raises(UserError, match="--systems: 'ft' is there twice; name each system once"):
        choose(SYSTEMS, ["ft", "base", "ft"])


def test_systems_that_only_a_name_asks_for(declare):
    systems = declare(noisy_noisy={"by_default": False})
    assert "noisy_noisy" not in [s.name for s in choose(systems, [])]
    assert [s.name for s in choose(systems, ["noisy_noisy"])] == ["noisy_noisy"]


def test_a_recogniser_that_enhances(declare):
    """Its own estimates are scored, and it needs no front-end."""
    system = declare(noisy_noisy={"enhances": True})["noisy_noisy"]
    assert system.parts == ("ser",) and system.extracts and system.extracts_itself
    (row,) = name_rows([(system, "a")]).values()
    assert row.extraction == ("noisy_noisy", "a")


def test_names_of_rows():
    one, two = SYSTEMS["base"], SYSTEMS["ft"]
    rows = name_rows([(two, "a"), (one, "a+b"), (two, "default"), (one, "a+b")][:3])
    assert list(rows) == ["base", "ft (a)", "ft (default)"]
    assert [str(row.directory) for row in rows.values()] == ["base/a+b", "ft/a", "ft/default"]


def test_claims_are_about_rows_of_the_same_parts():
    tags = {
        "noisy_noisy": ["default", "hubert"],
        "base": ["default", "big+default", "default+hubert"],
        "ft": ["default", "big+default+default", "default+hubert+w1", "default+default+w1"],
    }
    rows = name_rows((SYSTEMS[name], tag) for name in tags for tag in tags[name])
    pairs = [(str(a.directory), str(b.directory)) for a, b, _ in pairs_of(rows)]
    assert sorted(p for p in pairs if p[1].startswith("base")) == [
        ("ft/big+default+default", "base/big+default"),
        ("ft/default", "base/default"),
        ("ft/default+default+w1", "base/default"),
        ("ft/default+hubert+w1", "base/default+hubert"),
    ]
    assert {a for a, b in pairs if b == "noisy_noisy/hubert"} == {
        *("base/default+hubert", "ft/default+hubert+w1")
    }
    assert {a for a, b in pairs if b == "noisy_noisy/default"} == {
        *("base/big+default", "base/default", "ft/big+default+default"),
        *("ft/default", "ft/default+default+w1"),
    }
    big = dataclasses.replace(
        SYSTEMS["ft"], name="big", joint="conf/big.yaml", claims=(Claim("ft"),)
    )
    rows |= name_rows([(big, "default+default+big")])
    pairs = [(str(a.directory), str(b.directory)) for a, b, _ in pairs_of(rows)]
    # it differs from ft in what it declares, and in nothing else
    assert [b for a, b in pairs if a == "big/default+default+big"] == [
        *("ft/default", "ft/default+default+w1")
    ]
    theirs = System("theirs", "x", 9, "elsewhere", "noisy", hypotheses="a.tsv")
    (row,) = name_rows([(theirs, "a")]).values()
    assert row.parts == {"table": "a"} and are_alike(row, rows["noisy_noisy (hubert)"])
