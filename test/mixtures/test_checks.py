"""The functions of the data check; planted faults in whole corpora are in test_check_data."""

from dataclasses import replace

import pytest
from changed_mixtures import change, with_source
from tiny_corpora import FOLDS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.checks import (
    check_audio,
    check_folds,
    check_groups,
    check_labels,
    check_mixtures,
    check_split,
    report,
)
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.splits import read_split, split_fold


@pytest.fixture
def split(pools):
    return split_fold(pools[0].entries.values(), "1", "speaker", 0.4, 0)


def test_sound_data_has_no_violation(pools, mixtures, split):
    targets, interferers = pools
    assert list(check_audio(targets, "target")) == []
    assert list(check_labels(targets, ["ang", "hap", "neu", "sad"])) == []
    assert list(check_groups({"targets": targets, "interferers": interferers})) == []
    assert list(check_mixtures(mixtures, targets, interferers)) == []
    assert list(check_split("1", split, mixtures)) == []
    report([])


def test_labels(pools):
    found = list(check_labels(pools[0], ["ang", "hap", "neu"]))
    assert len(found) == 6
    assert found[0].startswith("target 't1f-4': unknown emotion 'sad', known: ang hap neu;")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": "x"}, "unknown target 'x'"),
        ({"speaker": "t2m"}, "speaker, emotion and fold are 't2m', 'ang', '1', but the target has"),
        ({"emotion": "sad"}, "are 't1f', 'sad', '1', but the target has 't1f', 'ang', '1'"),
        ({"fold": "2"}, "are 't1f', 'ang', '2'"),
        ({"utt": "x"}, "unknown interferer 'x'"),
        ({"kind": "noise"}, "unknown noise 'i"),
        ({"group": "x"}, ": speaker is 'x', but it has 'i"),
        ({"gender_of_source": "x"}, ": gender is 'x', but it has '"),
        ({"emotion_of_source": "sad"}, ": emotion is 'sad', but it has 'none'"),
        ({"snr_db": None}, "snr_db is None, but there are 1 source(s)"),
        ({"level": "clean"}, "level is clean, but snr_db is "),
        ({"level": "-50"}, "level is -50, but snr_db is "),
        ({"enrollment": ()}, "has no enrollment, but others have one"),
        ({"gender_state": "both"}, "gender_state is 'both', but the genders are '"),
        ({"enrollment": ("x",)}, "unknown enrollment 'x'"),
        ({"enrollment": ("t1f-0",)}, "the enrollment is the target utterance"),
        ({"enrollment": ("t1f-4",)}, "enrollment 't1f-4' is 'sad', not 'neu'"),
        ({"enrollment": ("t1m-2",)}, "enrollment 't1m-2' is of speaker 't1m', not of the target"),
    ],
)
def test_mixtures(pools, mixtures, changes, message):
    spoiled = [change(mixtures[0], **changes), *mixtures[1:]]
    found = list(check_mixtures(spoiled, *pools))
    assert found and all(f.startswith("mixture 't1f-0': ") for f in found)
    assert any(message in f for f in found)


def test_split(mixtures, split):
    moved, lost = split["train"][0], split["train"][1]
    spoiled = {
        "train": [*split["train"][2:], split["test"][0], "x"],
        "dev": [*split["dev"], split["dev"][0]],
        "test": [*split["test"], moved],
    }
    found = "\n".join(check_split("1", spoiled, mixtures))
    for message in (
        f"fold 1: '{split['dev'][0]}' is listed 2 times in train, dev and test",
        f"fold 1: '{split['test'][0]}' is listed 2 times",
        "fold 1: 'x' is not in the mixture table",
        f"fold 1: mixture '{lost}' is in none of train, dev and test",
        f"fold 1: '{split['test'][0]}' of fold 1 is in train",
        f"fold 1: '{moved}' of fold 2 is in test",
        f"fold 1: target speaker '{moved.split('-')[0]}' of train mixture",
        "is also tested",
    ):
        assert message in found
    empty = list(check_split("1", split | {"dev": []}, mixtures))
    assert "fold 1: dev is empty" in empty


def test_targets_that_interfere_with_each_other(pools):
    """The one case in which speakers are targets and interferers; nothing looser passes."""
    targets, _ = pools
    mixtures = draw_mixtures(targets, targets, Levels(), seed=0)
    assert list(check_mixtures(mixtures, targets, targets)) == []
    for fold in FOLDS:
        split = split_fold(targets.entries.values(), fold, "speaker", 0.4, 0)
        assert list(check_split(fold, split, mixtures)) == []
    copy = Pool(targets.entries.values())
    found = list(check_groups({"targets": targets, "interferers": copy}))
    assert len(found) == 6
    assert found[0] == "speaker 't1f' is in targets and in interferers; keep one of them"


def test_an_interferer_that_is_the_target(pools):
    targets, _ = pools
    first, *others = draw_mixtures(targets, targets, Levels(), seed=0)
    spoiled = with_source(first, utt="t1f-1", group="t1f", gender="f", emotion="hap")
    spoiled = replace(spoiled, gender_state="same")
    (message,) = check_mixtures([spoiled, *others], targets, targets)
    assert message == (
        "mixture 't1f-0': interferer 't1f-1' is of the target's own speaker 't1f'; "
        "run stage 2 again"
    )


def test_a_speaker_tested_in_one_role_and_trained_on_in_the_other(pools):
    targets, _ = pools
    mixtures = draw_mixtures(targets, targets, Levels(), seed=0)
    split = split_fold(targets.entries.values(), "1", "speaker", 0.4, 0)
    trained = split["train"][0]
    spoiled = [
        with_source(m, utt="t1m-0", group="t1m") if m.mixture == trained else m for m in mixtures
    ]
    (message,) = check_split("1", split, spoiled)
    assert message == (
        f"fold 1: interferer speaker 't1m' of train mixture '{trained}' is also tested"
    )
    speaker = trained.split("-")[0]
    spoiled = [
        with_source(m, utt=trained, group=speaker) if m.mixture == "t1m-0" else m for m in mixtures
    ]
    found = list(check_split("1", split, spoiled))
    assert f"fold 1: target speaker '{speaker}' of train mixture '{trained}' is also tested" in (
        found
    )


def test_read_split(tmp_path, split):
    for side in ("train", "dev"):
        (tmp_path / f"{side}.lst").write_text("".join(f"{u}\n" for u in split[side]))
    with pytest.raises(UserError, match="test.lst: no such list of ids; run stage 2"):
        read_split(tmp_path)
    (tmp_path / "test.lst").write_text("a\nb\n")
    assert read_split(tmp_path) == split | {"test": ["a", "b"]}


def test_a_label_without_speech_and_a_fold_without_mixtures(pools, mixtures):
    (message,) = check_labels(pools[0], ["ang", "cal", "hap", "neu", "sad"])
    assert "no target has the emotion 'cal'" in message
    folds = sorted({m.fold for m in mixtures})
    assert list(check_folds(mixtures, folds)) == []
    (message,) = check_folds(mixtures, [*folds, "9"])
    assert f"there is no fold 9, only {' '.join(folds)}" in message


def test_report_shows_the_first():
    with pytest.raises(UserError) as caught:
        report((f"fault {i}" for i in range(7)), limit=3)
    assert str(caught.value) == (
        "7 violation(s) in the data:\n  fault 0\n  fault 1\n  fault 2\n  ... and 4 more"
    )
