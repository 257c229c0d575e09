"""Drawing mixtures of talkers."""

from dataclasses import replace

import pytest
from tiny_corpora import FOLDS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.sources import drawn_folds


def test_one_mixture_an_utterance(pools, mixtures):
    targets, interferers = pools
    assert [m.mixture for m in mixtures] == list(targets.entries)
    for m in mixtures:
        (source,) = m.sources
        target, other = targets[m.target], interferers[source.utt]
        assert m.mixture == m.target and m.seed == 0
        assert (m.speaker, m.gender, m.emotion, m.fold) == (
            *(target.speaker, target.gender, target.emotion, target.fold),
        )
        assert source.kind == "talker" and source.group == other.speaker != m.speaker
        assert source.gender == other.gender and source.emotion == "none"
        assert m.gender_state == ("same" if other.gender == m.gender else "different")
        room = target.num_samples - other.num_samples
        assert min(0, room) <= source.offset <= max(0, room)


def test_enrollment_is_another_neutral_utterance_of_the_speaker(pools, mixtures):
    targets, _ = pools
    for m in mixtures:
        (utt,) = m.enrollment
        enrollment = targets[utt]
        assert enrollment.speaker == m.speaker and enrollment.emotion == "neu"
        assert utt != m.target and m.enrollment_samples == m.tail == 0
    assert len({m.enrollment for m in mixtures}) == 12


def test_interferer_speakers_are_split_by_fold(pools, mixtures):
    _, interferers = pools
    speakers = {f: {m.sources[0].group for m in mixtures if m.fold == f} for f in FOLDS}
    for one in FOLDS:
        for other in FOLDS:
            assert one == other or not speakers[one] & speakers[other]
    fold_of = drawn_folds(interferers, list(FOLDS), seed=0)
    assert set(fold_of) == set(interferers.gender)
    for fold in FOLDS:
        genders = sorted(interferers.gender[s] for s in fold_of if fold_of[s] == fold)
        assert genders == ["f", "f", "m", "m"]
        assert speakers[fold] <= {s for s in fold_of if fold_of[s] == fold}
    assert fold_of != drawn_folds(interferers, list(FOLDS), seed=1)


def test_the_seed_decides(pools, mixtures):
    assert draw_mixtures(*pools, Levels(), seed=0) == mixtures
    other = draw_mixtures(*pools, Levels(), seed=1)
    for name in ("utt", "gain_db", "offset"):
        one, two = ([getattr(m.sources[0], name) for m in made] for made in (mixtures, other))
        assert one != two


@pytest.mark.parametrize("state", ["same", "different"])
def test_gender_state(pools, state):
    for m in draw_mixtures(*pools, Levels(), seed=0, gender_state=state, num_sources=2):
        assert m.gender_state == state
        assert all((s.gender == m.gender) == (state == "same") for s in m.sources)


def test_random_gender_state_has_both(mixtures):
    states = [m.gender_state for m in mixtures]
    assert 8 <= states.count("same") <= 22 and set(states) == {"same", "different"}


def test_several_interferers(pools):
    mixtures = draw_mixtures(*pools, Levels("snr", snr=(2, 2)), seed=0, num_sources=3)
    for m in mixtures:
        assert len({s.group for s in m.sources}) == len(m.sources) == 3
        same = {s.gender for s in m.sources} == {m.gender}
        assert m.gender_state == ("same" if same else "different")
        assert m.snr_db == pytest.approx(2.0, abs=0.01)
    # four speakers a fold: all of them can be had, a fifth cannot
    assert draw_mixtures(*pools, Levels(), seed=0, num_sources=4)
    with pytest.raises(UserError, match="no interferer speaker of gender 'm or f' is left in fold"):
        draw_mixtures(*pools, Levels(), seed=0, num_sources=5)
    with pytest.raises(UserError, match="target 't1f-0': no interferer speaker of gender 'f' is"):
        draw_mixtures(*pools, Levels(), seed=0, num_sources=3, gender_state="same")


def renamed(pool, **changes):
    """The pool with fields of all its entries changed by functions."""
    entries = pool.entries.values()
    return Pool([replace(e, **{k: f(e) for k, f in changes.items()}) for e in entries])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gender_state": "mixed"}, "must be one of random, same, different, got 'mixed'"),
        ({"num_sources": -1}, "--num_sources -1 .*at least 0"),
        ({"seed": -1}, "--seed -1: .*at least 0"),
        ({"neutral": "calm"}, "target 't1f-0': speaker 't1f' has no other 'calm' utterance"),
    ],
)
def test_wrong_options(pools, options, message):
    with pytest.raises(UserError, match=message):
        draw_mixtures(*pools, Levels(), **({"seed": 0} | options))


def test_unfit_pools(pools):
    targets, interferers = pools
    with pytest.raises(UserError, match=r"speaker\(s\) t1m are targets and interferers"):
        spoiled = renamed(interferers, group=lambda e: "t1m" if e.speaker == "im0" else e.speaker)
        draw_mixtures(targets, spoiled, Levels(), 0)
    with pytest.raises(UserError, match="target 't2m-1' has no fold: .*/utt2fold; let local/data"):
        spoiled = renamed(targets, fold=lambda e: None if e.utt == "t2m-1" else e.fold)
        draw_mixtures(spoiled, interferers, Levels(), 0)
    with pytest.raises(
        UserError, match="'t1f' has no other 'neu' .* 'neu' in utt2emo, or mix without"
    ):
        spoiled = targets.subset(lambda e: e.utt != "t1f-2")
        draw_mixtures(spoiled, interferers, Levels(), 0)
    with pytest.raises(UserError, match=r"2 interferer speaker\(s\) of gender 'f' cannot be split"):
        few = interferers.subset(lambda e: e.gender == "m" or e.speaker in ("if0", "if1"))
        draw_mixtures(targets, few, Levels(), 0)


def test_targets_interfere_with_each_other(pools):
    targets, _ = pools
    mixtures = draw_mixtures(targets, targets, Levels(), seed=0)
    assert [m.mixture for m in mixtures] == list(targets.entries)
    for m in mixtures:
        (source,) = m.sources
        other = targets[source.utt]
        assert other.speaker != m.speaker and other.fold == m.fold
        assert (source.group, source.emotion) == (other.speaker, other.emotion)
    assert {m.sources[0].emotion for m in mixtures} == {"ang", "hap", "neu", "sad"}
    assert draw_mixtures(targets, targets, Levels(), seed=0) == mixtures
    # a fold has one man and one woman
    states = {m.gender_state for m in mixtures}
    assert states == {"different"}


def test_too_few_targets_to_interfere_with_each_other(pools):
    targets, _ = pools
    message = (
        "target 't1f-0': no interferer speaker of gender 'f' is left in fold '1'; interferers are "
        "other target speakers of that fold, which has only t1f t1m: make larger folds, take "
        "another gender_state or other interferers"
    )
    with pytest.raises(UserError, match=message):
        draw_mixtures(targets, targets, Levels(), 0, gender_state="same")
    with pytest.raises(UserError, match="gender 'm or f' is left in fold '1'; .* only t1f t1m"):
        draw_mixtures(targets, targets, Levels(), 0, num_sources=2)
    alone = targets.subset(lambda e: e.speaker != "t2m")
    with pytest.raises(UserError, match="target 't2f-0': .* in fold '2'; .* has only t2f:"):
        draw_mixtures(alone, alone, Levels(), 0)
    crossing = renamed(targets, fold=lambda e: "2" if e.utt == "t1m-3" else e.fold)
    with pytest.raises(UserError, match="'t1m-3': speaker 't1m' is in fold '2' here and in fold"):
        draw_mixtures(crossing, crossing, Levels(), 0)


def test_a_copy_of_the_targets_is_another_pool(pools):
    targets, _ = pools
    with pytest.raises(UserError, match=r"speaker\(s\) t1f, t1m, .* are targets and interferers"):
        draw_mixtures(targets, Pool(targets.entries.values()), Levels(), 0)


def test_interferers_of_one_gender(pools):
    targets, interferers = pools
    men = interferers.subset(lambda e: e.gender == "m")
    assert {m.sources[0].gender for m in draw_mixtures(targets, men, Levels(), 0)} == {"m"}
    with pytest.raises(UserError, match="target 't1f-0': no interferer speaker of gender 'f'"):
        draw_mixtures(targets, men, Levels(), 0, gender_state="same")
