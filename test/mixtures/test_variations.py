"""Variations of the test mixtures."""

import numpy as np
import pytest
import yaml

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.simulation import enrollment_audio, render
from espnet_tse_ser.mixtures.sources import group_folds
from espnet_tse_ser.mixtures.variations import Variation, read_variation, vary


@pytest.fixture
def varied(pools, mixtures):
    """``varied(key=value)``: pairs of a mixture and its variation."""
    targets, interferers = pools

    def make(**changes):
        variation = Variation(about="a test", sweep="tests", value=1, **changes)
        pool = targets if variation.sources == "emo" else interferers
        fold_of = group_folds(targets, pool, 0)
        return [(m, vary(m, variation, targets, pool, fold_of, seed=0)) for m in mixtures]

    return make


def signals(mixture, pools):
    return {name: s.astype(np.float64) for name, s in render(mixture, *pools).items()}


def test_what_is_not_named_stays(varied):
    assert all(one == other for one, other in varied())
    for one, other in varied(snr=3.0):
        for name in ("enrollment", "target", "fold", "tail"):
            assert getattr(one, name) == getattr(other, name)
        assert [(s.utt, s.offset) for s in one.sources] == [
            (s.utt, s.offset) for s in other.sources
        ]


@pytest.mark.parametrize("snr", [-10, 0.5, 20])
def test_snr_is_that_of_the_signals(varied, pools, snr):
    for _, mixture in varied(snr=snr):
        sources = signals(mixture, pools)
        ratio = np.sum(sources["spk1"] ** 2) / np.sum(sources["spk2"] ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr, abs=0.01)
        assert mixture.snr_db == pytest.approx(snr, abs=0.01)
        assert np.abs(sources["mix"]).max() <= 0.9


def test_more_talkers_join_the_first_interferer(varied, pools):
    for one, other in varied(talkers=4):
        assert other.sources[0].utt == one.sources[0].utt and len(other.sources) == 3
        assert other.sources[0].gain_db - other.gain_db == pytest.approx(
            one.sources[0].gain_db - one.gain_db, abs=2e-4
        )
        assert len({s.group for s in other.sources}) == 3
        assert sorted(signals(other, pools)) == ["mix", "spk1", "spk2", "spk3", "spk4"]
        folds = group_folds(*pools, 0)
        assert {folds[s.group] for s in other.sources} == {one.fold}
    assert all(len(m.sources) == 1 for _, m in varied(talkers=2))


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_overlap(varied, pools, share):
    for one, mixture in varied(overlap=share):
        length = pools[0][one.target].num_samples
        sources = signals(mixture, pools)
        assert {len(s) for s in sources.values()} == {2 * length - round(share * length)}
        start = length - round(share * length)
        assert not sources["spk2"][:start].any() and not sources["spk1"][length:].any()
        interferer = pools[1].audio(mixture.sources[0].utt)[:length]
        gain = 10 ** (mixture.sources[0].gain_db / 20)
        np.testing.assert_allclose(
            sources["spk2"][start : start + len(interferer)], gain * interferer, atol=1e-6
        )
        end = min(length, start + len(interferer))
        assert mixture.overlap == pytest.approx((end - start) / length, abs=1e-3)


@pytest.mark.parametrize("state", ["same", "different"])
def test_gender_state(varied, state):
    kept = 0
    for one, other in varied(gender_state=state):
        assert other.gender_state == state
        kept += one == other
        assert (one == other) == (one.gender_state == state)
    assert kept > 5


def test_every_interferer_has_the_gender_of_the_state(pools):
    targets, interferers = pools
    folds = group_folds(targets, interferers, 0)
    kept = 0
    for mixture in draw_mixtures(targets, interferers, Levels(), seed=0, num_sources=2):
        for state, talkers in (("different", None), ("different", 2), ("same", 2)):
            changes = {"gender_state": state, "talkers": talkers}
            variation = Variation("a test", "tests", 1, **changes)
            other = vary(mixture, variation, targets, interferers, folds, seed=0)
            same = {s.gender == mixture.gender for s in other.sources}
            assert same == {state == "same"} and other.gender_state == state
            kept += other.sources[0].utt == mixture.sources[0].utt
    assert kept > 5


@pytest.mark.parametrize("loudness", [(-33.0, -25.0), (-60.0, -55.0)])
def test_new_sources_are_as_loud_as_those_of_the_table(pools, loudness):
    targets, interferers = pools
    levels = Levels(loudness=loudness)
    folds, variation = group_folds(targets, interferers, 0), Variation("a", "b", 1, talkers=3)
    for mixture in draw_mixtures(targets, interferers, levels, seed=0):
        other = vary(mixture, variation, targets, interferers, folds, seed=0, levels=levels)
        for source in other.sources:  # the guard against clipping makes all of them softer
            level = source.gain_db + interferers[source.utt].lufs
            assert loudness[0] - 20 < level <= loudness[1]
            if source.utt not in {s.utt for s in mixture.sources} and loudness[1] < -50:
                assert loudness[0] <= level


def test_what_the_table_says_of_all_mixtures_stays(pools):
    targets, interferers = pools
    folds = group_folds(targets, interferers, 0)
    of_all = {"gender_state": "same", "levels": Levels("snr")}
    for mixture in draw_mixtures(
        targets, interferers, Levels("snr", snr=(2.0, 2.0)), seed=0, gender_state="same"
    ):
        for changes in ({"talkers": 3}, {"overlap": 0.5}, {"gender_state": "different"}, {}):
            variation = Variation("a test", "tests", 1, **changes)
            other = vary(mixture, variation, targets, interferers, folds, seed=0, **of_all)
            assert other.gender_state == changes.get("gender_state", "same")
            assert other.snr_db == pytest.approx(2, abs=0.01)


def test_emotional_interferers_are_others_of_the_fold(varied, pools):
    emotions = set()
    for one, mixture in varied(sources="emo"):
        other = pools[0][mixture.sources[0].utt]
        assert other.fold == one.fold and other.speaker != one.speaker
        assert mixture.sources[0].emotion == other.emotion
        emotions.add(other.emotion)
        assert len(signals(mixture, (pools[0], pools[0]))["mix"])
    assert len(emotions) > 2
    states = {m.gender_state for _, m in varied(sources="emo", gender_state="different")}
    assert states == {"different"}


@pytest.mark.parametrize(
    "kind, fits",
    [
        ("emotional", lambda target, e: e.speaker == target.speaker and e.emotion != "neu"),
        ("sad", lambda target, e: e.speaker == target.speaker and e.emotion == "sad"),
        (
            "wrong",
            lambda target, e: (
                (e.speaker != target.speaker, e.fold, e.emotion) == (True, target.fold, "neu")
            ),
        ),
    ],
)
def test_enrollments(pools, mixtures, kind, fits):
    targets, interferers = pools
    variation = Variation("a test", "tests", 1, enrollment=kind)
    folds = group_folds(*pools, 0)
    without = [m for m in mixtures if not (kind == "sad" and m.emotion == "sad")]
    for mixture in without:
        other = vary(mixture, variation, targets, interferers, folds, seed=0)
        assert other.enrollment != mixture.enrollment and mixture.target not in other.enrollment
        assert all(fits(targets[mixture.target], targets[u]) for u in other.enrollment)
        assert (other.gain_db, other.sources) == (mixture.gain_db, mixture.sources)


def test_a_wrong_enrollment_is_of_nobody_in_the_mixture(pools):
    targets = pools[0].with_folds(dict.fromkeys(pools[0].gender, "1"))
    variation = Variation("a test", "tests", 1, enrollment="wrong")
    folds = group_folds(targets, targets, 0)
    for mixture in draw_mixtures(targets, targets, Levels(), seed=0):
        other = vary(mixture, variation, targets, targets, folds, seed=0)
        enrolled = targets[other.enrollment[0]].speaker
        assert enrolled not in (mixture.speaker, *(s.group for s in mixture.sources))


def test_length_of_the_enrollment(varied, pools):
    shortest = min(len(pools[0].audio(m.enrollment[0])) for m, _ in varied())
    for one, other in varied(enrollment_seconds=shortest / 16000):
        assert other.enrollment == one.enrollment
        expected = pools[0].audio(one.enrollment[0])[:shortest]
        np.testing.assert_array_equal(enrollment_audio(other, pools[0]), expected)
    one = varied()[0][0]
    both = [e for e in pools[0].entries.values() if (e.speaker, e.emotion) == (one.speaker, "neu")]
    seconds = (sum(e.num_samples for e in both) - 100) / 16000
    with pytest.raises(UserError, match=r"has only [\d.]+ s of 'neutral' enrollment"):
        varied(enrollment_seconds=seconds)


def test_an_enrollment_of_several_utterances(pools, mixtures):
    targets, interferers = pools
    mixture = next(m for m in mixtures if m.emotion != "neu")
    neutral = [
        e for e in targets.entries.values() if (e.speaker, e.emotion) == (mixture.speaker, "neu")
    ]
    seconds = (sum(e.num_samples for e in neutral) - 100) / 16000
    variation = Variation("a test", "tests", 1, enrollment_seconds=seconds)
    other = vary(mixture, variation, targets, interferers, group_folds(*pools, 0), seed=0)
    assert other.enrollment[0] == mixture.enrollment[0] and len(other.enrollment) == len(neutral)
    assert len(enrollment_audio(other, targets)) == round(seconds * 16000)


def test_the_id_and_the_seed_decide(varied, pools, mixtures):
    assert varied(talkers=3) == varied(talkers=3)
    targets, interferers = pools
    variation, folds = Variation("a test", "tests", 1, talkers=3), group_folds(*pools, 0)
    alone = vary(mixtures[7], variation, targets, interferers, folds, seed=0)
    assert alone == varied(talkers=3)[7][1]
    assert alone != vary(mixtures[7], variation, targets, interferers, folds, seed=1)


def test_no_fitting_speech(pools, mixtures):
    targets, interferers = pools
    folds = group_folds(*pools, 0)
    for changes, message in (
        ({"talkers": 9}, "no interferer speaker of gender 'm or f' is left in fold '1'"),
        ({"enrollment": "fea"}, "mixture 't1f-0': there is no 'fea' enrollment for it"),
    ):
        variation = Variation("a test", "tests", 1, **changes)
        with pytest.raises(UserError, match=message):
            vary(mixtures[0], variation, targets, interferers, folds, seed=0)


nan = float("nan")
GOOD = {"about": "One sentence.", "sweep": "SNR, dB", "value": -5}


def test_file(tmp_path):
    path = tmp_path / "snr_-5.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"snr": -5}))
    assert read_variation(path) == Variation("One sentence.", "SNR, dB", -5, snr=-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"snrs": 1}, "unknown key 'snrs'; known: about, sweep, value, snr"),
        *(({"snr": value}, "snr: expected a number") for value in ("loud", nan, 1e3, True, [1])),
        *(({"talkers": value}, "talkers: expected a whole number") for value in (1, 2.5, 1e9)),
        *(({"overlap": value}, "overlap: expected a number of 0") for value in (1.5, -0.1, True)),
        ({"gender_state": "random"}, "gender_state: expected one of same, different"),
        *(({"enrollment_seconds": v}, "enrollment_seconds: expected") for v in (0, -1, 1e308, nan)),
        *(({"sources": v}, "sources: expected a name") for v in (3, "../emo", "a b", "")),
        *(({"enrollment": value}, "enrollment: expected a name") for value in (3, ["neu"], "a/b")),
        *(({"value": value}, "value: expected a text, or a number") for value in (None, [1], nan)),
        *(({"sweep": value}, "sweep: expected a text") for value in (None, 3, "", "two\nlines")),
    ],
)
def test_file_with_an_error(tmp_path, change, message):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(UserError, match=f"bad.yaml: .*{message}"):
        read_variation(path)


def test_no_sound_file(tmp_path):
    for text, message in (("- a", "expected a mapping"), ("about: a\nvalue: 1", "has no 'sweep'")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            read_variation(tmp_path / "bad.yaml")
    with pytest.raises(UserError, match="the name of a sweep has only letters, digits"):
        read_variation(tmp_path / "a b.yaml")
    with pytest.raises(UserError, match="missing.yaml"):
        read_variation(tmp_path / "missing.yaml")
