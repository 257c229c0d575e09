"""Audio that is decoded once, and batches that a thread prepares for ESPnet's iterator."""

import zlib

import children
import numpy as np
import pytest
import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory

from espnet_tse_ser.audio.decoded import DecodedOnce
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.prefetching import PrefetchingIterFactory, PrefetchingLoader
from espnet_tse_ser.training.preprocessor import EmotionPreprocessor

LENGTHS = {"a": 300, "b": 200, "c": 100}


class Source(dict):
    """Signals of 16 bit that count how often they are asked for."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.asked = []
        for utt, length in LENGTHS.items():
            self[utt] = rng.integers(-32768, 32768, length).astype(np.float32) / 32768

    def __getitem__(self, utt):
        self.asked.append(utt)
        return super().__getitem__(utt)


def test_each_is_asked_for_once():
    source = Source()
    once = DecodedOnce(source, LENGTHS | {"another": 5})
    for _ in range(3):
        for utt in once:
            assert once[utt].dtype == np.float32
            np.testing.assert_array_equal(once[utt], dict.__getitem__(source, utt))
    assert source.asked == ["a", "b", "c"] and len(once) == 3 and list(once) == ["a", "b", "c"]
    with pytest.raises(KeyError):
        once["another"]


def _decode(once, utt):
    assert once[utt].shape == (LENGTHS[utt],)


def test_workers_have_it_in_common():
    source = Source()
    once = DecodedOnce(source, LENGTHS)
    assert children.end(children.start(_decode, once, "b")) == 0
    np.testing.assert_array_equal(once["b"], dict.__getitem__(source, "b"))
    assert source.asked == []


@pytest.mark.parametrize("change", ["length", "bits", "channels", "room"])
def test_what_cannot_be_kept_is_asked_for_each_time(change):
    source = Source()
    room = 2 * 499 if change == "room" else 2**20  # for a and c
    once = DecodedOnce(source, LENGTHS, room)
    if change == "length":
        source["b"] = np.zeros(201, np.float32)
    elif change == "bits":
        source["b"] = np.full(200, 0.1, np.float32)
    elif change == "channels":
        source["b"] = np.zeros((200, 2), np.float32)
    for _ in range(2):
        for utt in once:
            np.testing.assert_array_equal(once[utt], dict.__getitem__(source, utt))
    assert source.asked == ["a", "b", "c", "b"]


class Dataset(torch.utils.data.Dataset):
    """What `PrefetchingIterFactory` takes of ESPnet's."""

    def __init__(self):
        self.preprocess = EmotionPreprocessor(["x"], 10, train=True, seed=5)

    def __getitem__(self, number):
        return str(number), self.preprocess(str(number), {"speech": np.arange(100 + number)})


def epoch_of(factory, epoch):
    return [(ids, batch["speech"].tolist()) for ids, batch in factory.build_iter(epoch)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_crops_are_of_the_epoch_and_the_utterance(workers):
    def factory(num_workers, shuffle=True):
        return PrefetchingIterFactory(
            SequenceIterFactory(
                Dataset(),
                batches=[[0, 1, 2], [3, 4, 5], [6, 7]],
                seed=5,
                shuffle=shuffle,
                num_workers=num_workers,
                collate_fn=pad_collate,
            )
        )

    def by_hand(epoch):
        crops = {}
        for number in range(8):
            rng = np.random.default_rng([5, epoch, zlib.crc32(str(number).encode())])
            start = int(rng.integers(100 + number - 9))
            crops[str(number)] = [float(value) for value in range(start, start + 10)]
        return crops

    np.random.seed(0)
    loader = factory(workers)
    assert (type(loader.build_iter(1)) is PrefetchingLoader) == (workers == 0)
    whole = {epoch: epoch_of(loader, epoch) for epoch in (1, 2)}
    for epoch, batches in whole.items():
        assert batches == epoch_of(factory(0), epoch)  # any workers, and one that goes on there
        crops = {uid: row for ids, rows in batches for uid, row in zip(ids, rows, strict=True)}
        assert crops == by_hand(epoch)
    assert by_hand(1) != by_hand(2)
    # Nor does it matter in which order the utterances come.
    plain = epoch_of(factory(workers, shuffle=False), 2)
    assert {u: r for ids, rows in plain for u, r in zip(ids, rows, strict=True)} == by_hand(2)
    assert np.random.get_state()[2] == 624  # nobody has drawn from the global one
