"""What joint training mixes beside what the table has: see `EmotionOptions`."""

import numpy as np
import pytest
from tiny_corpora import write_corpora, write_noise

from espnet_tse_ser.errors import UserError
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
