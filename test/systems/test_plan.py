"""What a set of systems needs, each thing once and in its order."""

import dataclasses

import pytest
import yaml
from declared import SYSTEMS, SYSTEMS_DIR

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.plan import Joint, Part, Plan, Recogniser
from espnet_tse_ser.systems.system import read_systems

DEFAULTS = {
    "tse": Part("conf/train_tse.yaml", "default"),
    "ser": Part("conf/train_ser.yaml", "default"),
    "joint": Part("conf/train_tse_ser.yaml", "default"),
}


def plan(*names, systems=SYSTEMS, suffix="", **defaults):
    return Plan([systems[n] for n in names or systems], systems, DEFAULTS | defaults, suffix)


@pytest.fixture
def add(tmp_path):
    """The paper's systems and one more, declared by one file."""
    for path in SYSTEMS_DIR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def add(name, **conf):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"row": 9, "label": name} | conf))
        return read_systems(tmp_path)

    return add


def names(things):
    return [thing.directory for thing in things]


def test_all_of_the_paper():
    p = plan()
    assert [part.tag for part in p.front_ends] == ["default"]
    assert names(p.recognisers) == [
        *("ser_clean_default", "ser_noisy_default", "ser_denoised_default")
    ]
    assert names(p.statistics) == [
        f"ser_stats_default/{condition}" for condition in ("clean", "noisy", "denoised")
    ]
    assert names(p.joints) == ["tse_ser_ft_default"]
    assert p.joints[0].start == p.recognisers[2]
    rows = {row.row.system.name: row for row in p.rows}
    assert list(rows) == list(SYSTEMS)
    assert {str(row.row.directory) for row in p.rows} == {f"{name}/default" for name in SYSTEMS}
    for name, row in rows.items():
        kind, directory = {
            "ft": (Joint, "tse_ser_ft_default"),
            "base": (Recogniser, "ser_denoised_default"),
        }.get(name, (Recogniser, f"ser_{name.split('_')[0]}_default"))
        assert isinstance(row.model, kind) and row.model.directory == directory
    assert rows["ft"].sources == tuple(part.source for part in DEFAULTS.values())
    assert rows["clean_clean"].sources == ("conf/train_ser.yaml",)


@pytest.mark.parametrize(
    "asked, front_ends, recognisers, joints",
    [
        (["clean_clean"], 0, ["clean"], 0),
        (["clean_noisy", "clean_clean"], 0, ["clean"], 0),
        (["clean_denoised"], 1, ["clean"], 0),
        (["noisy_noisy", "base"], 1, ["noisy", "denoised"], 0),
        (["ft"], 1, ["denoised"], 1),
        (["base", "ft"], 1, ["denoised"], 1),
    ],
)
def test_only_what_is_needed(asked, front_ends, recognisers, joints):
    p = plan(*asked)
    assert (len(p.front_ends), len(p.joints)) == (front_ends, joints)
    assert names(p.recognisers) == [f"ser_{condition}_default" for condition in recognisers]
    assert names(p.statistics) == [f"ser_stats_default/{condition}" for condition in recognisers]
    assert [row.row.system.name for row in p.rows] == asked


def test_another_set_of_mixtures():
    p = plan("ft", "clean_clean", suffix="_three")
    assert names(p.recognisers) == ["ser_clean_default_three", "ser_denoised_default_three"]
    assert names(p.joints) == ["tse_ser_ft_default_three"]
    assert "ser_stats_default_three/clean" in names(p.statistics)
    assert p.front_ends == [DEFAULTS["tse"]]  # which is trained on other speech


def test_a_system_added_with_one_file(add):
    systems = add("light", train="noisy", test="noisy", recogniser="conf/train_ser_light.yaml")
    p = plan(systems=systems)
    assert names(p.recognisers)[-1] == "ser_noisy_light"
    assert p.rows[-1].row.directory.as_posix() == "light/light"
    before = plan()
    assert p.rows[:-1] == before.rows and p.recognisers[:-1] == before.recognisers


def test_a_front_end_of_its_own(add):
    systems = add("large", train="denoised", test="denoised", front_end="conf/train_tse_big.yaml")
    p = plan("base", "large", systems=systems)
    assert [part.tag for part in p.front_ends] == ["default", "big"]
    assert names(p.recognisers) == ["ser_denoised_default", "ser_denoised_big+default"]
    assert names(p.statistics)[1] == "ser_stats_big+default/denoised"
    assert p.rows[1].row.directory.as_posix() == "large/big+default"


def test_a_start_gives_its_parts(add):
    """A joint training has the front-end and the recogniser of the system that it starts from."""
    add("large", train="denoised", test="denoised", front_end="conf/train_tse_big.yaml",
        recogniser="conf/train_ser_light.yaml")  # fmt: skip
    systems = add("large_ft", row=10, train="joint", test="joint", starts_from="large")
    p = plan("large_ft", systems=systems)
    (joint,) = p.joints
    assert joint.directory == "tse_ser_large_ft_big+light+default"
    assert joint.start.directory == "ser_denoised_big+light" and p.recognisers == [joint.start]
    assert (joint.front_end.tag, joint.recogniser.tag, joint.joint.tag) == (
        "big",
        "light",
        "default",
    )


@pytest.mark.parametrize("condition", ["clean", "noisy"])
def test_a_start_of_another_condition(add, condition):
    systems = add("own", train="joint", test="joint", starts_from=f"{condition}_noisy"
                  if condition == "clean" else "noisy_noisy")  # fmt: skip
    (joint,) = plan("own", systems=systems).joints
    assert joint.start.directory == f"ser_{condition}_default"
    assert joint.directory == "tse_ser_own_default"


def test_from_scratch(add):
    """Only the features of extracted speech are needed, and no recogniser of its own."""
    systems = add("scratch", train="joint", test="joint")
    p = plan("scratch", systems=systems)
    (joint,) = p.joints
    assert joint.start is None and p.recognisers == []
    assert p.statistics == [joint.statistics] and p.front_ends == [DEFAULTS["tse"]]
    assert joint.statistics.directory == "ser_stats_default/denoised"
    both = plan("ft", "scratch", systems=systems)
    assert names(both.joints) == ["tse_ser_ft_default", "tse_ser_scratch_default"]
    assert names(both.statistics) == ["ser_stats_default/denoised"]


def test_two_joint_configurations_and_two_front_ends(add):
    """Four rows of one system, side by side: as many calls of a recipe as there are pairs."""
    rows, directories = set(), set()
    for tse in (DEFAULTS["tse"], Part("conf/train_tse_big.yaml", "big")):
        for joint in (DEFAULTS["joint"], Part("conf/train_tse_ser_w1.yaml", "w1")):
            p = plan("ft", tse=tse, joint=joint)
            rows.add(str(p.rows[0].row.directory))
            directories.add(p.joints[0].directory)
    assert rows == {f"ft/{t}" for t in ("default", "default+default+w1", "big+default+default",
                                        "big+default+w1")}  # fmt: skip
    assert len(directories) == 4
    # and of systems of their own, in one call
    add("large", train="denoised", test="denoised", front_end="conf/train_tse_big.yaml")
    for name, start in (("ft2", "base"), ("ft3", "large"), ("ft4", "large")):
        joint = None if name == "ft3" else "conf/train_tse_ser_w1.yaml"
        systems = add(name, train="joint", test="joint", starts_from=start, joint=joint)
    p = plan("ft", "ft2", "ft3", "ft4", systems=systems)
    assert len({str(row.row.directory) for row in p.rows}) == len(set(names(p.joints))) == 4
    assert len(p.front_ends) == len(p.recognisers) == 2


@pytest.mark.parametrize(
    "kind, key, one, other",
    [
        ("ser", "recogniser", "conf/train_ser_light.yaml", "conf/other/train_ser_light.yaml"),
        ("ser", "recogniser", "conf/train_ser_light.yaml", "light.yaml"),
        ("tse", "front_end", "conf/train_tse_big.yaml", "exp/big"),
        ("ser", "recogniser", "conf/tuning/train_ser.yaml", None),
        ("tse", "front_end", "elsewhere/default", None),
    ],
)
def test_two_sources_of_one_tag(add, kind, key, one, other):
    add("one", train="denoised", test="denoised", **{key: one})
    systems = add("two", train="denoised", test="denoised", **({key: other} if other else {}))
    known = other or DEFAULTS[kind].source
    with pytest.raises(UserError, match="; rename one, or give another tag") as error:
        plan("one", "two", systems=systems)
    assert all(f"'{source}'" in str(error.value) for source in (one, known))
    plan("two", systems=systems)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_wrong_tags_of_the_recipe(kind):
    for tag in ("a+b", "JOB", "", "a b"):
        with pytest.raises(UserError, match=f"the recipe: 'conf/train_.*': the tag '{tag}'"[:40]):
            plan(**{kind: dataclasses.replace(DEFAULTS[kind], tag=tag)})


def test_the_recipes_configuration_named_by_a_system(add):
    """With the recipe's tag: it is the same thing."""
    systems = add("same", train="noisy", test="noisy", recogniser="conf/train_ser.yaml")
    p = plan("noisy_noisy", "same", systems=systems, ser=Part("conf/train_ser.yaml", "mine"))
    assert names(p.recognisers) == ["ser_noisy_mine"]
    assert [str(row.row.directory) for row in p.rows] == ["noisy_noisy/mine", "same/mine"]


@pytest.mark.parametrize("condition", ["clean", "noisy", "denoised"])
def test_a_table_of_another_program(add, condition):
    systems = add("theirs", train="elsewhere", test=condition, hypotheses="their/hyp.tsv")
    p = plan("theirs", systems=systems)
    (row,) = p.rows
    assert row.model == "their/hyp.tsv" and row.recogniser is None
    tag = "default+hyp" if condition == "denoised" else "hyp"
    assert row.row.directory.as_posix() == f"theirs/{tag}"
    assert (p.recognisers, p.joints, p.statistics) == ([], [], [])
    assert len(p.front_ends) == (condition == "denoised")  # whose output they recognised


def test_preserved():
    assert plan().preserved() == [
        (
            *("ft_default", "ser_clean_default", "ft/default", "clean_clean/default"),
            *("clean_noisy/default", "clean_denoised/default", "default"),
        )
    ]
    for lacking in ("clean_clean", "clean_noisy", "clean_denoised", "ft"):
        assert plan(*(name for name in SYSTEMS if name != lacking)).preserved() == []
    (found,) = plan("clean_clean", "clean_noisy", "clean_denoised", "ft").preserved()
    assert found[0] == "ft_default"


def test_preserved_by_a_recogniser_of_the_same_parts(add):
    add("large", train="denoised", test="denoised", front_end="conf/train_tse_big.yaml")
    systems = add("ft2", row=10, train="joint", test="joint", starts_from="large")
    assert [found[0] for found in plan(systems=systems).preserved()] == ["ft_default"]
    systems = add(
        "clean_large", train="clean", test="denoised", front_end="conf/train_tse_big.yaml"
    )
    found = {f[0]: f[1:] for f in plan(systems=systems).preserved()}
    assert found["ft_default"][4:] == ("clean_denoised/default", "default")
    assert found["ft2_big+default+default"] == (
        *("ser_clean_default", "ft2/big+default+default", "clean_clean/default"),
        *("clean_noisy/default", "clean_large/big+default", "big"),
    )
