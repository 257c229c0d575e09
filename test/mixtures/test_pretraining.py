"""Targets alone and targets absent in pretraining."""

import numpy as np
import pytest
from tiny_corpora import write_corpora, write_noise

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingMixtures, pairs


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    return Pool.read(write_corpora(root).pretrain), Pool.read(write_noise(root / "noise"))


def mixtures_of(pool, noise=None, **shares):
    speakers = sorted(pool.by_group)
    return PretrainingMixtures(pool, Levels("snr"), 4000, 3000, speakers, noise, **shares)


def examples(mixtures, count):
    return [mixtures.example(np.random.default_rng(seed)) for seed in range(count)]


def enrolled(pool, samples):
    """The speaker of whom these samples are a piece."""
    for utt, entry in pool.entries.items():
        whole = pool.audio(utt)
        starts = np.flatnonzero(whole[: len(whole) - len(samples) + 1] == samples[0])
        if any(np.array_equal(whole[s : s + len(samples)], samples) for s in starts):
            return entry.speaker
    raise AssertionError("no utterance of the pool")


@pytest.mark.parametrize("noisy", [False, True])
def test_who_is_absent_is_enrolled_and_not_in_the_mixture(pools, noisy):
    pool, noise = pools[0], pools[1] if noisy else None
    mixtures, counts = mixtures_of(pool, noise, absent_share=0.4), [0, 0]
    for uid, example in examples(mixtures, 80):
        speaker = enrolled(pool, example["enroll_ref1"])
        present = {part for part in uid.split("-") if part[0] == "p"}
        assert len(present) == (1 if noisy else 2)
        (absent,) = example["absent"]
        counts[absent] += 1
        assert (speaker not in present) == absent == (not example["speech_ref1"].any())
        assert example["speaker"] == sorted(pool.by_group).index(speaker)
        assert np.abs(example["speech_mix"]).max() > 0.001
        assert len(example["speech_ref1"]) == 4000 and example["speech_ref1"].dtype == np.float32
    assert counts[1] / 80 == pytest.approx(0.4, abs=0.12)


def test_a_target_alone_is_its_mixture(pools):
    mixtures, alone = mixtures_of(pools[0], alone_share=0.5), 0
    for uid, example in examples(mixtures, 60):
        is_alone = len(uid.split("-")) == 2
        assert is_alone == np.array_equal(example["speech_mix"], example["speech_ref1"])
        assert "absent" not in example
        alone += is_alone
    assert alone / 60 == pytest.approx(0.5, abs=0.15)


def test_who_is_alone_may_be_another_one(pools):
    """Else one voice in a mixture would say that it is the target's."""
    mixtures = mixtures_of(pools[0], alone_share=0.5, absent_share=0.5)
    seen = {(len(uid.split("-")), int(e["absent"][0])) for uid, e in examples(mixtures, 40)}
    assert seen == {(2, 0), (2, 1), (4, 0), (4, 1)}


def test_talkers_speak_faster_and_slower(pools, monkeypatch):
    """Of a tone the pitch says how much; enrollments are as their targets are."""
    tone = np.float32(0.1 * np.sin(2 * np.pi * 400 * np.arange(40000) / 16000))
    mixtures = mixtures_of(pools[0], speed=0.2)
    monkeypatch.setattr(mixtures.pool, "audio", lambda utt, at=0, n=40000: tone[at : at + n])

    def twentieths(samples):
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 2**17))
        return 16000 / 2**17 * np.argmax(spectrum) / 400 * 20

    seen = []
    for _, example in (mixtures.example(None, i) for i in pairs(np.random.default_rng(0), 40)):
        assert len(example["speech_ref1"]) == 4000 and len(example["enroll_ref1"]) == 3000
        assert example["speech_mix"].dtype == np.float32
        seen.append(twentieths(example["speech_ref1"]))
        assert seen[-1] == pytest.approx(twentieths(example["enroll_ref1"]), abs=0.1)
    assert seen == pytest.approx(np.round(seen), abs=0.1)
    assert set(np.round(seen)) == set(range(16, 25))


def test_two_speakers_leave_nobody_absent(pools):
    two = pools[0].subset(lambda e: e.speaker in ("pm0", "pf0"))
    assert len(mixtures_of(two, pools[1], absent_share=0.5).usable) == 2  # noise is nobody
    with pytest.raises(UserError, match=r"2 speaker\(s\) .* three are needed: .* valid_share"):
        mixtures_of(two, absent_share=0.5)


@pytest.mark.parametrize("shares", [{}, {"absent_share": 0.25}, {"alone_share": 0.5}])
def test_both_talkers_are_targets_in_turn(pools, shares):
    pool, mixtures = pools[0], mixtures_of(pools[0], **shares)
    items = pairs(np.random.default_rng(3), 40)
    drawn = [mixtures.example(None, item) for item in items]
    alone = absent = 0
    sides = set()
    for (uid, first), (other_uid, second) in zip(drawn[::2], drawn[1::2], strict=True):
        mixture = first["speech_mix"]
        speakers = [enrolled(pool, each["enroll_ref1"]) for each in (first, second)]
        assert speakers[0] != speakers[1]
        labels = [int(each["speaker"][0]) for each in (first, second)]
        assert labels == [sorted(pool.by_group).index(speaker) for speaker in speakers]
        if len(uid.split("-")) == 2:  # each by itself
            alone += 1
            assert uid != other_uid
            assert np.array_equal(second["speech_mix"], second["speech_ref1"])
            continue
        assert uid == other_uid and np.array_equal(mixture, second["speech_mix"])
        gone = [side for side, each in enumerate((first, second)) if each.get("absent", [0])[0]]
        if gone:
            (side,) = gone
            sides.add(side)
            absent += 1
            here, away = (first, second)[1 - side], (first, second)[side]
            assert here["speech_ref1"].any() and not away["speech_ref1"].any()
            assert speakers[side] not in uid.split("-")
        else:
            both = first["speech_ref1"] + second["speech_ref1"]
            np.testing.assert_allclose(both, mixture, atol=1e-6)
    assert (alone > 0) == ("alone_share" in shares) and (absent > 0) == ("absent_share" in shares)
    assert sides == ({0, 1} if absent else set())
    again = [mixtures.example(None, item) for item in items]
    assert all(
        np.array_equal(a["speech_mix"], b["speech_mix"])
        for (_, a), (_, b) in zip(drawn, again, strict=True)
    )
