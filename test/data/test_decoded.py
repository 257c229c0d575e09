"""Audio that is decoded once, and batches that a thread prepares for ESPnet's iterator."""

import multiprocessing

import numpy as np
import pytest
import torch
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory

from espnet_tse_ser.data.collate import pad_collate
from espnet_tse_ser.data.decoded import DecodedOnce
from espnet_tse_ser.data.prefetching import PrefetchingIterFactory, PrefetchingLoader
from espnet_tse_ser.data.preprocessor import EmotionPreprocessor

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


def test_workers_have_it_in_common():
    source = Source()
    once = DecodedOnce(source, LENGTHS)
    child = multiprocessing.get_context("fork").Process(target=once.__getitem__, args=["b"])
    child.start()
    child.join()
    assert child.exitcode == 0
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
    """What `PrefetchingIterFactory` knows of ESPnet's."""

    def __init__(self):
        self.preprocess = EmotionPreprocessor(["x"], 10, train=True)

    def __getitem__(self, number):
        return str(number), self.preprocess(str(number), {"speech": np.arange(100 + number)})


def epoch_of(factory, epoch):
    return [(ids, batch["speech"].tolist()) for ids, batch in factory.build_iter(epoch)]


def test_a_thread_crops_where_the_process_would():
    def factory(workers):
        return SequenceIterFactory(
            Dataset(),
            batches=[[0, 1, 2], [3, 4, 5], [6, 7]],
            seed=5,
            shuffle=True,
            num_workers=workers,
            collate_fn=pad_collate,
        )

    expected = {}
    for epoch in (1, 2):
        np.random.seed(5 + epoch)  # as ESPnet's trainer does
        expected[epoch] = epoch_of(factory(0), epoch)
    np.random.seed(0)
    threaded, workers = (PrefetchingIterFactory(factory(n), 5) for n in (0, 1))
    for epoch in (2, 1):
        assert type(threaded.build_iter(epoch)) is PrefetchingLoader
        assert epoch_of(threaded, epoch) == expected[epoch]
        assert epoch_of(workers, epoch) == expected[epoch]
    assert expected[1] != expected[2]
    assert np.random.get_state()[2] == 624  # nobody has drawn from the global one
