"""Dynamic mixing: what is drawn, and that it depends on (seed, epoch, index) alone."""

import queue
import threading

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpora import write_corpora

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.drawing import enrollment_choices
from espnet_tse_ser.mixtures.emotional import EmotionMixtures, EmotionOptions
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.pool import Entry, Pool
from espnet_tse_ser.mixtures.pretraining import (
    PretrainingMixtures,
    PretrainingOptions,
    pretraining_mixtures,
)
from espnet_tse_ser.mixtures.splits import hold_out_speakers
from espnet_tse_ser.training.dynamic import (
    MixingIterFactory,
    PrefetchingLoader,
    length_batches,
    mixing_options,
)

CONF = {"segment": 4000, "enroll_segment": 3000, "valid_share": 0.3}


def mixtures_of(pool, **changes):
    options = mixing_options(PretrainingOptions, CONF | changes)
    return pretraining_mixtures(pool, options, seed=0)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def pretrain(corpora):
    return Pool.read(corpora.pretrain)


@pytest.fixture(scope="module")
def emotional(corpora):
    return EmotionMixtures(Pool.read(corpora.emo), Pool.read(corpora.interferer), Levels())


def counting_pool(root, lengths):
    """A pool in which every sample's value is its place: 1, 2, 3, ... over all utterances."""
    entries, places, first = [], {}, 1
    for utt, num_samples in sorted(lengths.items()):
        values = np.arange(first, first + num_samples)
        soundfile.write(root / f"{utt}.wav", values.astype(np.int16), 16000)
        places[utt] = range(first, first + num_samples)
        first += num_samples
        # so low a loudness that no piece passes for a pause
        path = str(root / f"{utt}.wav")
        entries.append(Entry(utt, path, utt.split("-")[0], "f", num_samples, -90.0))
    return Pool(entries), places


def places_of(signal):
    """The places of the samples of a piece of a counting pool, whatever its gain."""
    step = (float(signal[-1]) - float(signal[0])) / (len(signal) - 1)
    return np.round(np.asarray(signal, np.float64) / step).astype(int)


@pytest.mark.parametrize(
    "lengths, segment, enroll_segment",
    [
        ({"a-1": 900, "a-2": 1200, "b-1": 1000, "b-2": 1000}, 600, 600),
        ({"a-1": 1300, "b-1": 1200, "c-1": 1201}, 600, 600),  # one utterance a speaker
        ({"a-1": 1300, "a-2": 100, "b-1": 1200, "b-2": 599}, 600, 600),
        ({"a-1": 900, "a-2": 400, "b-1": 600, "b-2": 1600}, 600, 400),
        ({"a-1": 650, "a-2": 400, "b-1": 500, "b-2": 700}, 400, 600),  # longer enrollments
    ],
)
def test_target_and_enrollment_share_no_sample(tmp_path, lengths, segment, enroll_segment):
    pool, places = counting_pool(tmp_path, lengths)
    speakers = sorted(pool.gender)
    mixtures = PretrainingMixtures(pool, Levels("snr"), segment, enroll_segment, speakers)
    targets, orders = set(), set()
    for seed in range(150):
        uid, example = mixtures.example(np.random.default_rng(seed))
        target = places_of(example["speech_ref1"])
        enrollment = places_of(example["enroll_ref1"])
        assert len(target) == segment and len(enrollment) == enroll_segment
        assert not set(target) & set(enrollment)
        (utt,) = [u for u, p in places.items() if target[0] in p and target[-1] in p]
        (enroll_utt,) = [u for u, p in places.items() if {*enrollment} <= {*p}]
        assert utt.split("-")[0] == enroll_utt.split("-")[0]
        other = uid.removeprefix(f"{utt}-")
        assert other.split("-")[0] != utt.split("-")[0]
        assert example["speaker"].tolist() == [speakers.index(utt.split("-")[0])]
        targets.add(utt)
        orders.add(target[0] < enrollment[0])
    assert {u.split("-")[0] for u in targets} == set(speakers) and orders == {True, False}


def test_pretraining_mixture_is_the_sum(pretrain):
    mixtures, _ = mixtures_of(pretrain, snr=[2.0, 2.0])
    for seed in range(10):
        _, example = mixtures.example(np.random.default_rng(seed))
        interferer = example["speech_mix"].astype(np.float64) - example["speech_ref1"]
        energy = np.sum(example["speech_ref1"].astype(np.float64) ** 2)
        assert 10 * np.log10(energy / np.sum(interferer**2)) == pytest.approx(2.0, abs=0.01)
        assert all(example[k].dtype == np.float32 for k in ("speech_mix", "enroll_ref1"))


def test_validation_speakers_are_held_out(pretrain):
    train, valid = mixtures_of(pretrain)
    assert sorted(train.usable + valid.usable) == sorted(pretrain.gender)
    assert len(valid.usable) == 2 and {s[:2] for s in valid.usable} == {"pm", "pf"}
    assert train.labels == valid.labels == {s: i for i, s in enumerate(train.usable)}
    assert mixtures_of(pretrain)[1].usable == valid.usable


def test_a_share_of_the_speakers(pretrain):
    """Half of the training speakers are left; the same speakers are held out."""
    whole, half = (mixtures_of(pretrain, speaker_share=share) for share in (1, 0.5))
    assert half[1].usable == whole[1].usable and len(whole[0].usable) == 4
    assert set(half[0].usable) < set(whole[0].usable)
    assert sorted(s[:2] for s in half[0].usable) == ["pf", "pm"]
    assert half[0].labels == {s: i for i, s in enumerate(half[0].usable)}
    assert set(half[0].pool.by_group) == set(half[0].usable)  # interferers come from them too
    _, valid = half[1].example(np.random.default_rng(7))
    _, same = whole[1].example(np.random.default_rng(7))
    assert all(np.array_equal(valid[k], same[k]) for k in valid if k != "speaker")


def test_all_speakers_are_the_mixtures_without_a_share(pretrain):
    """As before there was such a share: everybody who is not held out."""
    held_out = hold_out_speakers(pretrain.gender, CONF["valid_share"], 0, "x")
    speakers = sorted(set(pretrain.gender) - held_out)
    pool = pretrain.subset(lambda e: e.speaker not in held_out)
    expected = PretrainingMixtures(pool, Levels("snr"), 4000, 3000, speakers)
    train, _ = mixtures_of(pretrain)
    assert train.usable == expected.usable and train.labels == expected.labels
    for seed in range(5):
        uid, example = train.example(np.random.default_rng(seed))
        other, twin = expected.example(np.random.default_rng(seed))
        assert uid == other and all(np.array_equal(example[k], twin[k]) for k in twin)


def test_speakers_without_enough_speech(pretrain, tmp_path):
    lengths = {"a-1": 999, "b-1": 1000, "c-1": 1000, "d-1": 500, "d-2": 500, "e-1": 600}
    pool, _ = counting_pool(tmp_path, lengths)
    mixtures = PretrainingMixtures(pool, Levels("snr"), 500, 500, list("abcde"))
    assert mixtures.usable == ["b", "c", "d"] and mixtures.left_out == ["a", "e"]
    with pytest.raises(UserError, match=r"pretrain: 0 speaker\(s\) have a segment of 90000"):
        mixtures_of(pretrain, segment=90000)


def test_pauses_are_avoided(tmp_path):
    rng = np.random.default_rng(0)
    entries = []
    for speaker in "ab":
        for utt in (f"{speaker}-1", f"{speaker}-2"):
            samples = 0.1 * rng.standard_normal(6000)
            samples[:2000] *= 1e-4
            soundfile.write(tmp_path / f"{utt}.wav", samples, 16000)
            entries.append(Entry(utt, str(tmp_path / f"{utt}.wav"), speaker, "f", 6000, -22.0))
    mixtures = PretrainingMixtures(Pool(entries), Levels("loudness"), 1000, 1000, ["a", "b"])
    for seed in range(50):
        _, example = mixtures.example(np.random.default_rng(seed))
        interferer = example["speech_mix"] - example["speech_ref1"]
        for signal in (example["speech_ref1"], example["enroll_ref1"], interferer):
            assert np.abs(signal).max() > 0.01


def test_emotional_mixtures(corpora, emotional):
    targets, interferers = emotional.targets, emotional.sources
    enrollments, others = set(), set()
    for seed, utt in enumerate(sorted(targets.entries) * 3):
        uid, example = emotional.example(np.random.default_rng(seed), utt)
        assert uid == utt and str(example["emotion"]) == targets[utt].emotion
        source = targets.audio(utt)
        scale = np.dot(example["speech_ref1"], source) / np.dot(source, source)
        np.testing.assert_allclose(example["speech_ref1"], scale * source, atol=1e-6)
        assert -33.01 < targets[utt].lufs + 20 * np.log10(scale) < -24.99
        (enrollment,) = [
            u
            for u in targets.by_group[targets[utt].speaker]
            if np.array_equal(targets.audio(u), example["enroll_ref1"])
        ]
        assert enrollment != utt and targets[enrollment].emotion == "neu"
        enrollments.add((utt, enrollment))
        interferer = example["speech_mix"] - example["speech_ref1"]
        assert np.abs(interferer).max() > 0.001 and len(interferer) == len(source)
        others.add(round(float(np.square(interferer).sum()), 9))
    assert len(enrollments) > 40 and len(others) == 90
    assert not set(targets.gender) & set(interferers.gender)


def test_emotional_mixtures_are_cropped_on_demand(corpora):
    pools = Pool.read(corpora.emo), Pool.read(corpora.interferer)
    mixtures = EmotionMixtures(*pools, Levels(), max_samples=5000, num_sources=2)
    starts = set()
    for seed in range(5):
        _, example = mixtures.example(np.random.default_rng(seed), "t1m-0")
        assert len(example["speech_mix"]) == len(example["speech_ref1"]) == 5000
        starts.add(float(example["speech_ref1"][0]))
        assert len(example["enroll_ref1"]) > 5000
    assert len(starts) == 5


def test_targets_interfere_with_each_other(corpora):
    """Never with themselves: one other speaker is left of two."""
    targets = Pool.read(corpora.emo).subset(lambda e: e.speaker in ("t1m", "t1f"))
    mixtures = EmotionMixtures(targets, targets, Levels("snr", snr=(0, 0)))
    for seed in range(8):
        utt = f"t1{'mf'[seed % 2]}-0"
        _, example = mixtures.example(np.random.default_rng(seed), utt)
        interferer = example["speech_mix"].astype(np.float64) - example["speech_ref1"]
        # A piece that every interferer covers, wherever it is placed
        similar = {
            u: np.abs(np.correlate(targets.audio(u), interferer[8000:9600], "valid")).max()
            for u in targets.entries
        }
        assert targets[max(similar, key=similar.get)].speaker != targets[utt].speaker
    with pytest.raises(UserError, match=r"2 source\(s\) a mixture of 't1f' cannot be drawn"):
        EmotionMixtures(targets, targets, Levels(), num_sources=2)


def test_errors_of_emotional_mixtures(emotional):
    targets, interferers = emotional.targets, emotional.sources
    with pytest.raises(UserError, match="speaker 't1m' has no other 'neu' utterance to enroll"):
        enrollment_choices(targets.subset(lambda e: e.utt != "t1m-3"))
    few = interferers.subset(lambda e: e.speaker == "im0")
    with pytest.raises(UserError, match=r"2 .* mixture of \'t1f\' cannot be drawn from 1"):
        EmotionMixtures(targets, few, Levels(), num_sources=2)


def batches_of(factory, epoch):
    return [(ids, batch) for ids, batch in factory.build_iter(epoch)]


def assert_equal(one, other):
    assert [ids for ids, _ in one] == [ids for ids, _ in other]
    for (_, batch), (_, twin) in zip(one, other, strict=True):
        assert set(batch) == set(twin)
        for name in batch:
            assert torch.equal(batch[name], twin[name]), name


def pretraining_factory(pretrain, **options):
    mixtures, _ = mixtures_of(pretrain)
    return MixingIterFactory(
        draw=mixtures.example,
        batches=lambda _: [[None] * 3, [None] * 3, [None]],
        **({"seed": 5} | options),
    )


def test_examples_depend_on_seed_epoch_and_index_alone(pretrain):
    first = batches_of(pretraining_factory(pretrain), 1)
    assert [len(ids) for ids, _ in first] == [3, 3, 1]
    assert_equal(first, batches_of(pretraining_factory(pretrain, num_workers=1), 1))
    resumed = pretraining_factory(pretrain)
    second = batches_of(resumed, 2)
    assert_equal(second, batches_of(pretraining_factory(pretrain, num_workers=1), 2))
    assert_equal(first, batches_of(resumed, 1))
    for other in (second, batches_of(pretraining_factory(pretrain, seed=6), 1)):
        assert not torch.equal(first[0][1]["speech_mix"], other[0][1]["speech_mix"])
    for name in ("speech_mix", "speech_ref1", "enroll_ref1"):
        rows = torch.cat([batch[name] for _, batch in first])
        assert len(torch.unique(rows, dim=0)) == 7  # no example twice
    # the cut into batches does not matter either
    whole = pretraining_factory(pretrain)
    whole.batches = lambda _: [[None] * 7]
    ((ids, batch),) = batches_of(whole, 1)
    assert ids == [i for part, _ in first for i in part]
    torch.testing.assert_close(
        batch["speech_mix"], torch.cat([b["speech_mix"] for _, b in first]), rtol=0, atol=0
    )


def test_fixed_mixtures_repeat(pretrain):
    factory = pretraining_factory(pretrain, fixed=True)
    assert_equal(batches_of(factory, 1), batches_of(factory, 9))


@pytest.mark.parametrize("cache_gb", [0, 1e-5, 1])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_cache_and_workers_change_nothing(pretrain, cache_gb, num_workers):
    mixtures, _ = mixtures_of(pretrain, cache_gb=cache_gb)
    factory = pretraining_factory(pretrain, num_workers=num_workers)
    factory.draw = mixtures.example
    # one example after the other, without any loader
    plain = mixtures_of(pretrain)[0]
    for epoch in (1, 2):
        ids, arrays = zip(
            *(plain.example(np.random.default_rng([5, epoch, i])) for i in range(7)), strict=True
        )
        batches = batches_of(factory, epoch)
        assert tuple(i for part, _ in batches for i in part) == ids
        rows = torch.cat([batch["speech_mix"] for _, batch in batches]).numpy()
        np.testing.assert_array_equal(rows, np.stack([a["speech_mix"] for a in arrays]))


def test_batches_are_made_ahead_in_a_thread(pretrain):
    factory, drawn = pretraining_factory(pretrain), queue.Queue()
    factory.batches = lambda _: [[number] for number in range(50)]
    draw = factory.draw

    def note(rng, item):
        drawn.put((item, threading.current_thread()))
        return draw(rng)

    factory.draw = note
    batches = factory.build_iter(1)
    assert len(batches) == 50
    iterator = iter(batches)
    assert [drawn.get(timeout=10)[0] for _ in range(3)] == [0, 1, 2]  # nobody has asked for any
    next(iterator)
    item, thread = drawn.get(timeout=10)
    assert item == 3 and thread is not threading.main_thread()
    del iterator  # as a training that is interrupted does
    thread.join(timeout=10)
    assert not thread.is_alive() and drawn.qsize() < 5  # it has not drawn the rest


def test_what_fails_while_mixing_is_raised_by_its_batch(pretrain):
    factory = pretraining_factory(pretrain)
    factory.batches = lambda _: [[0], [1], [2]]
    draw = factory.draw

    def fail(rng, item):
        if item == 2:
            raise UserError("no such file")
        return draw(rng)

    factory.draw = fail
    iterator = iter(factory.build_iter(1))
    next(iterator), next(iterator)
    with pytest.raises(UserError, match="no such file"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_global_generators_are_left_as_by_a_plain_loader(pretrain):
    states = []
    for prefetch in (False, True):
        torch.manual_seed(0)
        np.random.seed(0)
        loader = pretraining_factory(pretrain).build_iter(1)
        assert type(loader) is PrefetchingLoader and isinstance(loader, torch.utils.data.DataLoader)
        if not prefetch:
            loader = torch.utils.data.DataLoader(loader.dataset, None, collate_fn=lambda x: x)
        list(loader)
        states.append((torch.rand(1).item(), np.random.rand()))
    assert states[0] == states[1]


def _drop_emotion(uid, arrays):
    return {k: v for k, v in arrays.items() if k != "emotion"}


def emotional_factory(emotional, **options):
    lengths = {u: emotional.targets[u].num_samples for u in emotional.utts}
    return MixingIterFactory(
        draw=emotional.example,
        batches=lambda rng: length_batches(lengths, 8, rng),
        seed=0,
        preprocess=_drop_emotion,
        **options,
    )


def test_epochs_of_emotional_mixtures(emotional):
    first = batches_of(emotional_factory(emotional), 1)
    assert_equal(first, batches_of(emotional_factory(emotional, num_workers=1), 1))
    second = batches_of(emotional_factory(emotional), 2)
    for epoch in (first, second):
        assert sorted(i for ids, _ in epoch for i in ids) == emotional.utts
    assert [ids for ids, _ in first] != [ids for ids, _ in second]
    for ids, batch in first:
        lengths = [emotional.targets[u].num_samples for u in ids]
        assert batch["speech_mix_lengths"].tolist() == lengths
        assert batch["speech_mix"].shape == (len(ids), max(lengths))


def test_length_batches():
    lengths = {f"u{i:02d}": 100 + (37 * i) % 50 for i in range(20)}
    plain = length_batches(lengths, 6)
    flat = [u for batch in plain for u in batch]
    assert [len(b) for b in plain] == [6, 6, 6, 2]
    assert [lengths[u] for u in flat] == sorted(lengths.values())
    assert length_batches(dict(reversed(lengths.items())), 6) == plain
    drawn = length_batches(lengths, 6, np.random.default_rng(0))
    assert sorted(u for batch in drawn for u in batch) == sorted(lengths)
    assert drawn == length_batches(lengths, 6, np.random.default_rng(0))
    assert drawn != length_batches(lengths, 6, np.random.default_rng(1))


def test_options():
    assert mixing_options(EmotionOptions, {}) == EmotionOptions()
    assert mixing_options(PretrainingOptions, {"segment": "5e3"}).segment == 5000
    with pytest.raises(UserError, match="mixing_conf: unknown key 'segmant'; known: levels, "):
        mixing_options(PretrainingOptions, {"segmant": 5})
    for conf in ("levels", ["levels"], 3):
        with pytest.raises(UserError, match="mixing_conf: expected a mapping of options, got "):
            mixing_options(PretrainingOptions, conf)


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"levels": "rms"}, "levels: expected one of loudness, snr, got 'rms'"),
        ({"snr": 5}, r"snr: expected two numbers \[low, high\] from -100 to 100.*, got 5"),
        ({"snr": [5, -5]}, "snr: expected two numbers .* the lower one first, got"),
        (
            {"segment": -5},
            "segment: expected a whole number of 1600 or more .*, got -5; correct it",
        ),
        ({"valid_share": 0}, "valid_share: expected a number above 0 and below 1, got 0"),
        ({"speaker_share": 1.5}, "speaker_share: expected a number above 0 and of 1 or less"),
        ({"steps_per_epoch": 0}, "steps_per_epoch: expected a whole number of 1 or more"),
        ({"valid_examples": 0}, "valid_examples: expected a whole number of 1 or more"),
        ({"cache_gb": -1}, "cache_gb: expected a number of 0 or more"),
        ({"cache_gb": "all"}, "cache_gb: expected a number of 0 or more .*, got 'all'"),
        ({"seed": 1}, "mixing_conf: unknown key 'seed'"),
    ],
)
def test_wrong_options(pretrain, conf, message):
    with pytest.raises(UserError, match=message):
        mixtures_of(pretrain, **conf)
