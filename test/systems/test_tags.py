"""Tags of configurations and models, and those of several parts."""

import re
from pathlib import Path

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.tags import check_tag, join_tags, split_tag, tag_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "source, kind, tag",
    [
        ("conf/train_tse.yaml", "tse", "default"),
        ("conf/tuning/train_ser_hubert.yaml", "ser", "hubert"),
        ("train_tse_ser_w1.yaml", "tse_ser", "w1"),
        ("train_tse_ser.yaml", "tse_ser", "default"),
        ("conf/mine.yml", "tse", "mine"),
        ("conf/train_tse_1.5.yaml", "tse", "1.5"),
        ("exp/other/td_speakerbeam", "tse", "td_speakerbeam"),
        ("exp/other/td_speakerbeam/", "tse", "td_speakerbeam"),
        ("user/model-name", "tse", "model-name"),
    ],
)
def test_what_gives_a_tag(source, kind, tag):
    assert tag_of(source, kind) == tag


def test_the_documentation_has_the_tags_of_front_ends():
    text = (ROOT / "docs/add_a_system.md").read_text(encoding="utf-8")
    sources = re.findall("--frontend ([^ ]+/[^ ]+)", text)
    assert len(sources) == 2
    assert all(f"`{tag_of(source, 'tse')}`" in text for source in sources)


@pytest.mark.parametrize("name", ["a+b", "a b", "JOB", "aJOBb", "-a", "ä", "a|b", "$a", "a'b"])
def test_what_is_no_tag(name):
    message = "only letters, digits and -_.,:@ can be in it, .*; rename the file or give a tag"
    for source in (f"conf/train_ser_{name}.yaml", f"exp/{name}"):
        if (name, source) == ("-a", "conf/train_ser_-a.yaml"):
            continue
        with pytest.raises(UserError, match=message) as error:
            tag_of(source, "ser")
        assert source in str(error.value) and f"'{name}'" in str(error.value)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a\n", "a\nb"])
def test_tags_that_are_given(tag):
    with pytest.raises(UserError, match="--ser_tag: the tag '"):
        check_tag(tag, "--ser_tag")


@pytest.mark.parametrize(
    "tags, joined",
    [
        (["a"], "a"),
        (["a", "a"], "a"),
        (["a", "a", "a"], "a"),
        (["a", "b"], "a+b"),
        (["a", "b", "a"], "a+b+a"),
        (["a", "a", "b"], "a+a+b"),
    ],
)
def test_tags_of_several_parts(tags, joined):
    assert join_tags(tags) == joined
    assert split_tag(joined, len(tags)) == tags


@pytest.mark.parametrize("tag, count", [("a+b", 1), ("a+b", 3), ("a+b+c", 2), ("a+b+c+d", 3)])
def test_tags_of_other_parts(tag, count):
    with pytest.raises(ValueError, match=f"the tags of {count} parts"):
        split_tag(tag, count)
