"""Dynamic mixing with noise, at levels of a set, without enrollments and without sources."""

import numpy as np
import pytest
import scipy.signal
from tiny_corpora import write_corpora, write_noise

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.emotional import EmotionMixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.pretraining import PretrainingOptions, pretraining_mixtures
from espnet_tse_ser.training.dynamic import MixingIterFactory, mixing_options

SET = Levels("snr", snr_set=("clean", 10, 0))


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    corpora = write_corpora(root)
    noise = Pool.read(write_noise(root / "noise"))
    return {"emo": Pool.read(corpora.emo), "pretrain": Pool.read(corpora.pretrain), "noise": noise}


def disturbance(example):
    """What was added to the target, and the SNR in dB (infinite without any)."""
    added = example["speech_mix"].astype(np.float64) - example["speech_ref1"]
    with np.errstate(divide="ignore"):
        energy = np.sum(np.square(example["speech_ref1"], dtype=np.float64))
        return added, 10 * np.log10(energy / np.sum(added**2))


def is_piece_of(added, audio):
    """Whether what was added is a piece of noise, repeated as often as needed, at some gain."""
    tiled = np.tile(audio, -(-2 * len(added) // len(audio)) + 1)[: 2 * len(added) + len(audio)]
    products = scipy.signal.correlate(tiled, added, "valid", method="fft")
    sums = np.cumsum(np.square(np.append(0.0, tiled), dtype=np.float64))
    energies = np.maximum(sums[len(added) :] - sums[: -len(added)], 1e-9)
    return np.max(np.abs(products) / np.sqrt(energies * np.sum(added**2))) > 0.999


@pytest.mark.parametrize("num_sources", [1, 2])
def test_emotional_mixtures_with_noise(pools, num_sources):
    mixtures = EmotionMixtures(pools["emo"], pools["noise"], SET, num_sources=num_sources)
    levels = set()
    for seed, utt in enumerate(list(mixtures.utts) * 2):
        uid, example = mixtures.example(np.random.default_rng(seed), utt)
        assert uid == utt and len(example["enroll_ref1"])
        added, snr = disturbance(example)
        levels.add(round(snr, 1))
        if snr == np.inf or num_sources > 1 or seed % 4:
            continue
        assert any(is_piece_of(added, pools["noise"].audio(u)) for u in pools["noise"].entries)
    assert levels == {np.inf, 10.0, 0.0}


def test_without_sources_and_enrollments(pools):
    for sources, how in ((None, {}), (pools["noise"], {"num_sources": 0})):
        mixtures = EmotionMixtures(pools["emo"], sources, Levels(), neutral=None, **how)
        _, example = mixtures.example(np.random.default_rng(0), "t1m-0")
        assert example.keys() == {"speech_mix", "speech_ref1", "emotion"}
        np.testing.assert_array_equal(example["speech_mix"], example["speech_ref1"])


def test_too_few_recordings(pools):
    few = pools["noise"].subset(lambda e: e.group == "n1")
    with pytest.raises(UserError, match=r"2 source\(s\) a mixture of 't1f' .* 1 recording\(s\)"):
        EmotionMixtures(pools["emo"], few, Levels(), num_sources=2)


CONF = {"segment": 4000, "enroll_segment": None, "valid_share": 0.3, "levels": "snr"}


def test_pretraining_with_noise(pools):
    options = mixing_options(PretrainingOptions, CONF | {"snr_set": ["clean", 5]})
    train, valid = pretraining_mixtures(pools["pretrain"], options, 0, pools["noise"])
    sides = [set(side.sources.by_group) for side in (train, valid)]
    assert not sides[0] & sides[1] and set.union(*sides) == set(pools["noise"].by_group)
    assert len(sides[1]) == 3 and not set(train.usable) & set(valid.usable)
    for mixtures in (train, valid):
        levels = set()
        for seed in range(20):
            uid, example = mixtures.example(np.random.default_rng(seed))
            assert example.keys() == {"speech_mix", "speech_ref1", "speaker"}
            assert len(example["speech_mix"]) == 4000
            added, snr = disturbance(example)
            levels.add(round(snr, 1))
            assert ("-n" in uid) == (snr != np.inf)
            if snr != np.inf:
                noise = pools["noise"].audio(f"n{uid.rpartition('-n')[2]}")
                assert is_piece_of(added, noise)
        assert levels == {np.inf, 5.0}
    with pytest.raises(UserError, match="noise of one recording cannot be divided"):
        few = pools["noise"].subset(lambda e: e.group == "n1")
        pretraining_mixtures(pools["pretrain"], options, 0, few)


def test_speakers_disturb_one_another_without_enrollments(pools):
    options = mixing_options(PretrainingOptions, CONF)
    train, _ = pretraining_mixtures(pools["pretrain"], options, 0)
    uid, example = train.example(np.random.default_rng(0))
    assert "enroll_ref1" not in example and disturbance(example)[1] < 5.01
    one, other = (part.split("-")[0] for part in (uid[:5], uid[6:]))
    assert one != other


def test_workers_change_nothing(pools):
    mixtures = EmotionMixtures(pools["emo"], pools["noise"], SET)

    def epoch(**options):
        factory = MixingIterFactory(
            draw=mixtures.example,
            batches=lambda _: [mixtures.utts[:4], mixtures.utts[4:9]],
            seed=3,
            preprocess=_without_emotion,
            **options,
        )
        return list(factory.build_iter(1))

    for (ids, batch), (twins, twin) in zip(epoch(), epoch(num_workers=1), strict=True):
        assert ids == twins
        assert all(np.array_equal(batch[name], twin[name]) for name in batch)


def _without_emotion(_, arrays):
    return {name: array for name, array in arrays.items() if name != "emotion"}


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"snr_set": []}, "snr_set: expected a list of 1 or more, .*or null, got"),
        ({"snr_set": [3, "loud"]}, "snr_set: expected a list of 1 or more"),
        ({"snr_set": [3], "levels": "loudness"}, "snr_set needs levels snr, got levels loudness"),
        ({"enroll_segment": 0}, "enroll_segment: expected a whole number of 1600 .* or null"),
    ],
)
def test_wrong_options(pools, conf, message):
    with pytest.raises(UserError, match=message):
        pretraining_mixtures(pools["pretrain"], mixing_options(PretrainingOptions, CONF | conf), 0)
