"""What joint training mixes beside what the table has: see `EmotionOptions`."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import fftconvolve
from tiny_corpora import write_corpora, write_noise

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures import emotional
from espnet_tse_ser.mixtures.emotional import EmotionMixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    corpora = write_corpora(root)
    targets, sources = Pool.read(corpora.emo), Pool.read(corpora.interferer)
    noise = Pool.read(write_noise(root / "noise", num_groups=2))
    return targets.subset(lambda e: e.fold != "1"), sources, noise


def mixtures_of(pools, **options):
    return EmotionMixtures(*pools[:2], Levels(), **options)


def drawn(mixtures, count=300):
    """For so many draws the utterance and the groups that disturb it."""
    utts = sorted(mixtures.targets.entries)
    for seed in range(count):
        utt = utts[seed % len(utts)]
        chosen = mixtures._choose(np.random.default_rng(seed), mixtures.targets[utt].speaker)
        yield utt, [mixtures.sources[c].group for c in chosen]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_interferers_of_two_pools(pools, share):
    """As many of the corpus as is said, never the target, and within a pool all alike."""
    mixtures, counts = mixtures_of(pools, emo_share=share), {}
    for utt, (group,) in drawn(mixtures, 600):
        assert group != mixtures.targets[utt].speaker
        counts[group] = counts.get(group, 0) + 1
    assert set(counts) == {*pools[0].by_group, *pools[1].by_group}
    of_corpus = sum(counts[g] for g in pools[0].by_group)
    assert of_corpus / 600 == pytest.approx(share, abs=0.06)
    others = [counts[g] for g in pools[1].by_group]
    assert max(others) < 2.5 * min(others)


def test_two_interferers_of_two_pools_are_two_speakers(pools):
    mixtures = mixtures_of(pools, emo_share=0.5, num_sources=2)
    groups = [groups for _, groups in drawn(mixtures)]
    assert all(len({*two}) == 2 for two in groups)
    own = [sum(g in pools[0].by_group for g in two) for two in groups]
    assert {*own} == {0, 1, 2}


def test_interferers_of_the_corpus_alone(pools):
    mixtures = mixtures_of(pools, emo_share=1.0)
    assert {g for _, (g,) in drawn(mixtures)} == {*pools[0].by_group}
    with pytest.raises(UserError, match=r"4 source\(s\) .* drawn from 3 interferer speaker"):
        mixtures_of(pools, emo_share=1.0, num_sources=4)


def test_no_share_is_what_was_drawn_before(pools):
    plain, other = mixtures_of(pools), mixtures_of(pools, emo_share=0.0)
    for seed, utt in enumerate(plain.targets.entries):
        _, one = plain.example(np.random.default_rng(seed), utt)
        _, two = other.example(np.random.default_rng(seed), utt)
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_a_mixture_with_another_actor_is_the_sum(pools):
    mixtures = mixtures_of(pools, emo_share=0.5)
    _, example = mixtures.example(np.random.default_rng(1), "t2m-0")
    interferer = example["speech_mix"] - example["speech_ref1"]
    assert np.abs(interferer).max() > 0.001


def test_pools_that_cannot_be_joined(pools):
    targets, sources, _ = pools
    with pytest.raises(UserError, match="utterance 't2f-0' is in .*emo and in .*emo, and so are 9"):
        sources.joined(targets).joined(targets.subset(lambda e: e.fold == "2"))
    men = targets.subset(lambda e: e.gender == "m" and e.fold == "2")
    with pytest.raises(UserError, match="emo_share 0.5: the interferers of 't2m' .* one corpus"):
        EmotionMixtures(men, sources, Levels(), emo_share=0.5)


def speaker_of(mixtures, samples):
    """The speaker whose whole utterance these samples are, and that utterance."""
    for pool in (mixtures.targets, mixtures.sources):
        for utt, entry in pool.entries.items():
            if np.array_equal(pool.audio(utt), samples):
                return entry.speaker, utt
    raise AssertionError("no utterance of the pools")


def explains(reference, samples):
    """Whether a reference holds a piece of these samples, at any place and level."""
    piece = np.flatnonzero(reference)
    piece = reference[piece[0] : piece[-1] + 1].astype(np.float64)
    piece = piece[: min(len(piece), len(samples))]
    products = fftconvolve(samples.astype(np.float64), piece[::-1], "valid")
    energies = fftconvolve(samples.astype(np.float64) ** 2, np.ones(len(piece)), "valid")
    return np.max(products / np.sqrt(np.maximum(energies, 1e-9) * (piece @ piece))) > 0.99


def test_the_interferer_is_the_target_in_turn(pools):
    """The mixture is the same; reference, enrollment and emotion are the other talker's."""
    whole = mixtures_of(pools, emo_share=0.5)
    swapped = mixtures_of(pools, emo_share=0.5, swap_share=1.0)
    seen = set()
    for seed, utt in enumerate(sorted(whole.targets.entries)):
        _, plain = whole.example(np.random.default_rng(seed), utt)
        uid, other = swapped.example(np.random.default_rng(seed), utt)
        assert uid == utt and np.array_equal(plain["speech_mix"], other["speech_mix"])
        total = plain["speech_ref1"].astype(np.float64) + other["speech_ref1"]
        np.testing.assert_allclose(total, plain["speech_mix"], atol=1e-6)
        speaker, enrollment = speaker_of(swapped, other["enroll_ref1"])
        assert speaker != swapped.targets[utt].speaker
        (target,) = [
            u
            for u in swapped.sources.by_group[speaker]
            if explains(other["speech_ref1"], swapped.sources.audio(u))
        ]
        assert enrollment != target
        of_corpus = target in swapped.targets.entries
        assert str(other["emotion"]) == (swapped.targets[target].emotion if of_corpus else "")
        assert not of_corpus or swapped.targets[enrollment].emotion == "neu"
        seen.add(of_corpus)
    assert seen == {True, False}


def test_a_share_of_the_mixtures_is_swapped(pools):
    mixtures = mixtures_of(pools, swap_share=0.3)
    emotions = [
        str(mixtures.example(np.random.default_rng(seed), "t2m-0")[1]["emotion"])
        for seed in range(200)
    ]
    assert set(emotions) == {"ang", ""} and emotions.count("") / 200 == pytest.approx(0.3, abs=0.1)


def test_a_talker_with_one_utterance_is_enrolled_with_the_other_half(pools, monkeypatch):
    targets, sources, _ = pools
    monkeypatch.setattr(emotional, "_ENROLLABLE", 0.25)
    once = sources.subset(lambda e: e.utt == sources.by_group[e.group][0])
    mixtures = EmotionMixtures(targets, once, Levels(), swap_share=1.0)
    for seed, utt in enumerate(sorted(targets.entries)):
        _, example = mixtures.example(np.random.default_rng(seed), utt)
        speaker, enrollment = speaker_of(mixtures, example["enroll_ref1"])
        (other,) = set(mixtures.sources.by_group[speaker]) - {enrollment}
        assert explains(example["speech_ref1"], mixtures.sources.audio(other))
        assert len(example["enroll_ref1"]) == sources[enrollment[:-2]].num_samples // 2


def test_sources_that_are_not_used_are_not_halved(pools):
    targets, sources, _ = pools
    (first, *_), (second, *_) = list(sources.by_group.values())[:2]
    taken = Pool([sources[first], replace(sources[second], utt=f"{first}_1")])  # no name for a half
    EmotionMixtures(targets, taken, Levels(), emo_share=1.0, swap_share=0.5)


def test_what_cannot_be_swapped(pools):
    targets, sources, noise = pools
    for others, options in ((noise, {}), (None, {}), (sources, {"neutral": None})):
        with pytest.raises(UserError, match="swap_share: needs interferers and enrollments"):
            EmotionMixtures(targets, others, Levels(), swap_share=0.5, **options)
    once = sources.subset(lambda e: e.utt != "im3-1")
    with pytest.raises(UserError, match="interferer 'im3' has no utterance besides 'im3-0'"):
        EmotionMixtures(targets, once, Levels(), swap_share=0.5)


def test_a_target_alone_is_its_mixture(pools):
    mixtures = mixtures_of(pools, alone_share=0.5, swap_share=1.0)
    alone = 0
    for seed in range(100):
        _, example = mixtures.example(np.random.default_rng(seed), "t3f-1")
        is_alone = np.array_equal(example["speech_mix"], example["speech_ref1"])
        alone += is_alone
        # nobody is there to change roles with
        assert str(example["emotion"]) == ("hap" if is_alone else "")
        speaker, _ = speaker_of(mixtures, example["enroll_ref1"])
        assert (speaker == "t3f") == is_alone
    assert alone / 100 == pytest.approx(0.5, abs=0.15)


def test_who_is_absent_is_enrolled_and_not_in_the_mixture(pools):
    shares = {"emo_share": 0.5, "swap_share": 0.5}
    mixtures = mixtures_of(pools, **shares, absent_share=0.5)
    present, kinds = mixtures_of(pools, **shares), set()  # what both draw is the same
    for seed in range(60):
        utt = sorted(mixtures.targets.entries)[seed % 20]
        _, example = mixtures.example(np.random.default_rng(seed), utt)
        (absent,) = example["absent"]
        assert absent == (not example["speech_ref1"].any())
        if not absent:
            continue
        assert str(example["emotion"]) == ""
        speaker, enrollment = speaker_of(mixtures, example["enroll_ref1"])
        assert speaker != mixtures.targets[utt].speaker
        _, plain = present.example(np.random.default_rng(seed), utt)
        assert np.array_equal(plain["speech_mix"], example["speech_mix"])
        for signal in (plain["speech_ref1"], plain["speech_mix"] - plain["speech_ref1"]):
            signal = np.where(np.abs(signal) < 1e-6, 0, signal)
            own = mixtures.sources.by_group[speaker]
            assert not any(explains(signal, mixtures.sources.audio(u)) for u in own)
        of_corpus = enrollment in mixtures.targets.entries
        assert not of_corpus or mixtures.targets[enrollment].emotion == "neu"
        kinds.add(of_corpus)
    assert kinds == {True, False}  # enrollments of either pool may be of nobody in the mixture


def test_whose_absence_is_drawn_is_never_a_source(pools):
    """Two speakers of the corpus: one is the target, and the other one may disturb, or not."""
    two = pools[0].subset(lambda e: e.fold == "2")
    mixtures = EmotionMixtures(two, pools[1], Levels(), absent_share=1.0)
    _, example = mixtures.example(np.random.default_rng(0), "t2m-0")
    assert speaker_of(mixtures, example["enroll_ref1"])[0] == "t2f"
    with pytest.raises(UserError, match=r"absent_share: all 2 speaker\(s\) of .*emo"):
        EmotionMixtures(two, pools[1], Levels(), emo_share=0.5, absent_share=0.5)
    with pytest.raises(UserError, match="absent_share: needs enrollments"):
        EmotionMixtures(two, pools[1], Levels(), neutral=None, absent_share=0.5)
