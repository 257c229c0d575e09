"""Pools of utterances."""

import shutil
from dataclasses import replace

import children
import numpy as np
import pytest
import soundfile
from tiny_corpora import FS, edit_table, write_corpora

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.audio.reading import read_mono
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.pool import Entry, Pool


@pytest.fixture(scope="module")
def emo(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora")).emo


@pytest.fixture
def copy(emo, tmp_path):
    return shutil.copytree(emo, tmp_path / "emo")


def test_read(emo):
    pool = Pool.read(emo)
    assert len(pool) == 30 and list(pool.entries) == sorted(pool.entries)
    entry = pool["t2f-3"]
    assert (entry.speaker, entry.gender, entry.emotion, entry.fold) == ("t2f", "f", "neu", "2")
    assert entry.num_samples == soundfile.info(entry.wav).frames
    assert pool.by_group["t2f"] == [f"t2f-{i}" for i in range(5)]
    assert pool.gender["t2f"] == "f" and len(pool.gender) == 6


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_audio(emo, cache_bytes):
    entries = Pool.read(emo).entries.values()
    pool = Pool(entries, FS, cache_bytes)
    entry = pool["t1m-0"]
    expected, _ = soundfile.read(entry.wav, dtype="float32")
    for _ in range(2):  # the second time from the cache
        whole, piece = pool.audio("t1m-0"), pool.audio("t1m-0", 100, 50)
        assert whole.dtype == piece.dtype == np.float32
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(piece, expected[100:150])
        whole[:] = 0  # the caller's own


def test_the_cache_is_bounded(emo):
    entries = list(Pool.read(emo).entries.values())
    pool = Pool(entries, FS, cache_bytes=2 * entries[0].num_samples + 10)
    for entry in entries:
        pool.audio(entry.utt)
    assert pool._cache.samples.nbytes <= pool.cache_bytes
    kept = [e.utt for e in entries if pool._cache.get(e.utt) is not None]
    assert kept == [entries[0].utt]
    assert pool.subset(lambda e: True).cache_bytes == pool.cache_bytes
    assert pool.subset(lambda e: True, 7).cache_bytes == Pool.read(emo, FS, 7).cache_bytes == 7


def test_no_file_is_decoded_twice(emo, monkeypatch):
    decoded = []

    def read(path, fs):
        decoded.append(path)
        return read_mono(path, fs)

    monkeypatch.setattr("espnet_tse_ser.mixtures.pool.read_mono", read)
    pool = Pool.read(emo)
    for _ in range(3):
        for utt in pool.entries:
            pool.audio(utt, 10, 20)
    assert decoded == [e.wav for e in pool.entries.values()]


def _decode(pool, utts):
    for utt in utts:
        pool.audio(utt)


def test_processes_share_the_cache(emo, monkeypatch):
    pool, expected = Pool.read(emo), Pool.read(emo, cache_bytes=0)
    pool.share()
    parts = ["t1m-0", "t1m-1", "t2f-3"], ["t2f-3", "t2f-4"]  # t2f-3 by both
    processes = [children.start(_decode, pool, part) for part in parts]
    assert [children.end(process) for process in processes] == [0, 0]
    wanted = {utt: expected.audio(utt) for utt in ("t1m-0", "t1m-1", "t2f-3", "t2f-4")}
    # nothing is decoded any more
    monkeypatch.setattr("espnet_tse_ser.mixtures.pool.read_mono", None)
    for utt, samples in wanted.items():
        np.testing.assert_array_equal(pool.audio(utt), samples)


def test_full_scale_is_not_rounded(tmp_path):
    samples = np.array([1.0, -1.0, 0.5] * 100, np.float32)  # 1.0 is one step above 16 bit
    soundfile.write(tmp_path / "a.wav", samples, FS, subtype="FLOAT")
    pool = Pool([Entry("a", str(tmp_path / "a.wav"), "s", "f", 300, -20.0)])
    for _ in range(2):
        np.testing.assert_array_equal(pool.audio("a"), samples)


def test_audio_of_more_than_16_bit_is_not_rounded(tmp_path):
    samples = np.float32(0.1) * np.random.default_rng(0).standard_normal(FS).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, FS, subtype="FLOAT")
    pool = Pool([Entry("a", str(tmp_path / "a.wav"), "s", "f", FS, -20.0)])
    for _ in range(2):
        np.testing.assert_array_equal(pool.audio("a"), samples)


def test_subset(emo):
    pool = Pool.read(emo).subset(lambda e: e.fold == "1" and e.emotion != "neu")
    assert sorted(pool.gender) == ["t1f", "t1m"] and len(pool) == 6


@pytest.mark.parametrize("cache_bytes", [10**9, 0])
def test_the_only_utterance_of_a_speaker_becomes_its_halves(emo, cache_bytes):
    whole = Pool.read(emo, cache_bytes=cache_bytes)
    single = whole.subset(lambda e: e.utt == min(whole.by_group[e.group]))
    halved = single.halved(least=1000)
    for speaker, (utt,) in single.by_group.items():
        assert halved.by_group[speaker] == [f"{utt}_1", f"{utt}_2"]
        halves = [halved.audio(f"{utt}_{k}") for k in (1, 2)]
        assert [len(half) for half in halves] == [whole[utt].num_samples // 2] * 2
        joined = np.concatenate(halves)
        assert np.array_equal(joined, whole.audio(utt)[: len(joined)])
        assert np.array_equal(halved.audio(f"{utt}_2", 100, 50), halves[1][100:150])
    shortest = min(e.num_samples for e in single.entries.values())
    kept = single.halved(least=shortest // 2 + 1)
    assert any(e.of is None for e in kept.entries.values())
    assert list(whole.halved(least=1000).entries) == list(whole.entries)


def test_a_half_that_has_the_name_of_another_utterance(emo):
    whole = Pool.read(emo)
    (first, *_), (second, *_) = list(whole.by_group.values())[:2]
    taken = replace(whole[second], utt=f"{first}_2")
    pool = Pool([whole[first], taken], name="data/pretrain")
    with pytest.raises(UserError, match=f"data/pretrain: half of '{first}', .* '{first}_2', which"):
        pool.halved(least=1000)


def test_errors(copy):
    with pytest.raises(UserError, match="has no utterance 'x'"):
        Pool.read(copy)["x"]
    with pytest.raises(UserError, match="has no utterance 'x'"):
        Pool.read(copy).audio("x")
    edit_table(copy / "utt2num_samples", **{"t1m-0": "77"})
    with pytest.raises(UserError, match="utt2num_samples says 77 for 't1m-0'; run stage 1"):
        Pool.read(copy).audio("t1m-0")


@pytest.mark.parametrize("gender", ["x", "male"])
def test_bad_gender(copy, gender):
    edit_table(copy / "spk2gender", t1m=gender)
    with pytest.raises(UserError, match=f"'t1m' has gender '{gender}', expected m or f"):
        Pool.read(copy)


@pytest.mark.parametrize("name", ["utt2spk", "utt2num_samples", "utt2lufs", "utt2emo", "utt2fold"])
def test_missing_lines(copy, name):
    table = read_table(copy / name)
    del table["t1m-0"], table["t3f-2"]
    write_table(copy / name, table)
    message = rf"{name}: 2 id\(s\) of wav.scp are missing, first 't1m-0'; run stage 1"
    with pytest.raises(UserError, match=message):
        Pool.read(copy)


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "spk2gender", "utt2lufs"])
def test_missing_files(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        Pool.read(copy)


@pytest.mark.parametrize("name", ["wav.scp", "utt2spk", "utt2emo", "utt2fold"])
@pytest.mark.parametrize("kind", ["directory", "link"])
def test_something_else_in_place_of_a_table(copy, name, kind):
    (copy / name).unlink()
    (copy / name).mkdir() if kind == "directory" else (copy / name).symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{name}: is no file"):
        Pool.read(copy)
