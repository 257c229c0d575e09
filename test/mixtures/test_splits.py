"""Folds and development sets."""

import itertools
from types import SimpleNamespace

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.splits import (
    SCHEMES,
    describe_dev,
    fold_of_speakers,
    hold_out_speakers,
    share_of_speakers,
    split_fold,
)

ENTRIES = [
    SimpleNamespace(
        utt=f"{g}{s}-{emotion}{n}", speaker=f"{g}{s}", gender=g, emotion=emotion, fold=str(s % 3)
    )
    for g in "mf"
    for s in range(6)
    for emotion in ("ang", "neu")
    for n in range(4)
]
BY_ID = {e.utt: e for e in ENTRIES}


def test_held_out_speakers_are_balanced():
    gender = {f"m{i}": "m" for i in range(20)} | {f"f{i}": "f" for i in range(10)}
    held_out = hold_out_speakers(gender, 0.2, seed=3, name="x")
    assert [sum(gender[s] == g for s in held_out) for g in "mf"] == [4, 2]
    assert held_out == hold_out_speakers(dict(reversed(gender.items())), 0.2, seed=3, name="x")
    assert held_out != hold_out_speakers(gender, 0.2, seed=4, name="x")
    assert len(hold_out_speakers(gender, 0.001, 0, "x")) == 2  # at least one of each


SPEAKERS = {e.utt: e.speaker for e in ENTRIES}


@pytest.mark.parametrize(
    ("dev_split", "share", "described"),
    [  # of 64 training utterances, eight of each of eight speakers
        ("speaker", 0.1, "by speaker, 25.0 % of the training side"),  # one of each gender
        ("utterance", 0.25, "by utterance, 25.0 % of the training side"),
        ("utterance", 0.1, "by utterance, 25.0 % of the training side"),  # one of each four
    ],
)
def test_the_share_of_dev_is_measured(dev_split, share, described):
    splits = [split_fold(ENTRIES, fold, dev_split, share, seed=0) for fold in "012"]
    assert describe_dev(splits, SPEAKERS) == described


def test_shares_of_dev_that_differ_between_folds():
    few = {"train": ["m0-ang0", "m1-ang0"], "dev": ["m2-ang0"], "test": ["f0-ang0"]}
    more = few | {"train": ["m0-ang0", "m0-ang1", "m1-ang0"], "dev": ["m0-ang2"]}
    assert describe_dev([few, few], SPEAKERS) == "by speaker, 33.3 % of the training side"
    both = "by speaker and by utterance, 25.0 to 33.3 % of the training side"
    assert describe_dev([few, more], SPEAKERS) == both
    rest = "the rest of the test speaker's group, 25.0 to 33.3 % of the training side"
    assert describe_dev([few, more], SPEAKERS, "loso_speaker") == rest
    assert describe_dev([few, more], SPEAKERS, "loso") == both
    same = {"train": ["m0-ang0"], "dev": ["m1-ang0"], "test": ["m1-ang0"]}
    assert describe_dev([same], SPEAKERS) == "the test fold"


@pytest.mark.parametrize("share", [0, 1, -0.1, 2, float("nan")])
def test_bad_shares(share):
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        hold_out_speakers({"a": "m", "b": "m"}, share, 0, "x")
    for dev_split in ("speaker", "utterance"):
        with pytest.raises(UserError, match="must lie between 0 and 1"):
            split_fold(ENTRIES, "0", dev_split, share, 0, "x")


def test_too_few_speakers():
    with pytest.raises(UserError, match=r"1 of 1 speaker\(s\) of gender 'm' leaves none"):
        hold_out_speakers({"a": "m", "b": "f", "c": "f"}, 0.1, 0, "x")


def test_shares_of_speakers_are_nested_and_balanced():
    gender = {f"m{i}": "m" for i in range(40)} | {f"f{i}": "f" for i in range(20)}
    shares = [share_of_speakers(gender, share, seed=3) for share in (0.001, 0.1, 0.5, 1.0, 1)]
    assert [[sum(s[0] == g for s in chosen) for g in "mf"] for chosen in shares] == (
        [[1, 1], [4, 2], [20, 10], [40, 20], [40, 20]]
    )
    assert all(one <= other for one, other in itertools.pairwise(shares))
    assert shares[1] == share_of_speakers(dict(reversed(gender.items())), 0.1, seed=3)
    assert shares[1] != share_of_speakers(gender, 0.1, seed=4)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, 10, float("nan"), "10%", None, True])
def test_bad_shares_of_speakers(share):
    with pytest.raises(UserError, match="speaker_share must lie above 0 and not above 1, got"):
        share_of_speakers({"a": "m", "b": "f"}, share, 0)


@pytest.mark.parametrize("dev_split", ["speaker", "utterance"])
@pytest.mark.parametrize("fold", ["0", "1", "2"])
def test_sides(dev_split, fold):
    split = split_fold(ENTRIES, fold, dev_split, 0.25, seed=0)
    sides = {side: {BY_ID[u].speaker for u in utts} for side, utts in split.items()}
    assert sorted(u for utts in split.values() for u in utts) == sorted(BY_ID)  # each once
    assert all(utts == sorted(utts) for utts in split.values())
    assert {BY_ID[u].fold for u in split["test"]} == {fold}
    assert not sides["test"] & (sides["train"] | sides["dev"])
    if dev_split == "speaker":
        assert not sides["train"] & sides["dev"]
        assert sorted(s[0] for s in sides["dev"]) == ["f", "m"]
    else:
        assert sides["train"] == sides["dev"]
        dev = [(BY_ID[u].speaker, BY_ID[u].emotion) for u in split["dev"]]
        assert len(dev) == len(set(dev)) == 16  # one of four of each speaker and emotion
    assert split == split_fold(reversed(ENTRIES), fold, dev_split, 0.25, seed=0)
    assert split["dev"] != split_fold(ENTRIES, fold, dev_split, 0.25, seed=5)["dev"]


def test_a_speaker_has_one_fold():
    assert fold_of_speakers(ENTRIES, "loso") == {e.speaker: e.fold for e in ENTRIES}
    crossing = [*ENTRIES, SimpleNamespace(utt="m0-x", speaker="m0", fold="2")]
    for scheme in SCHEMES:
        with pytest.raises(UserError, match="'m0-x': speaker 'm0' is in fold '2' here and in fold"):
            fold_of_speakers(crossing, scheme)
        with pytest.raises(UserError, match="target 'm0-x' has no fold; see utt2fold"):
            fold_of_speakers([SimpleNamespace(utt="m0-x", speaker="m0", fold=None)], scheme)


def test_errors():
    with pytest.raises(UserError, match="fold '9': 0 test and 96 training utterances"):
        split_fold(ENTRIES, "9", "speaker", 0.1, 0)
    with pytest.raises(UserError, match="must be 'speaker' or 'utterance', got 'both'"):
        split_fold(ENTRIES, "0", "both", 0.1, 0)
    single = [e for e in ENTRIES if e.utt.endswith("0")]  # no group to cut dev from
    with pytest.raises(UserError, match="fold '0': 16 train and 0 dev are left"):
        split_fold(single, "0", "utterance", 0.1, 0)
