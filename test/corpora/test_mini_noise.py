import hashlib

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.corpora import Noise, write_data_dir
from espnet_tse_ser.corpora.esc50 import prepare_esc50
from espnet_tse_ser.corpora.mini_noise import MUSAN_SECONDS, NUM_RECORDINGS, TAKES, make_noise
from espnet_tse_ser.corpora.musan import prepare_musan
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_text


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("noise")
    make_noise(root)
    return root


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(str(p.relative_to(root)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def test_same_seed_same_bytes(root, tmp_path):
    make_noise(tmp_path / "same")
    assert digest(tmp_path / "same") == digest(root)
    make_noise(tmp_path / "other", seed=1)
    one, other = ({d for p, d in digest(r) if ".wav" in p} for r in (root, tmp_path / "other"))
    assert not one & other and len(one) == len(other) == 65
    before = digest(root)
    make_noise(root)
    assert digest(root) == before
    with pytest.raises(UserError, match="noise.json: made as .*'seed': 0.*, not as .*'seed': 1"):
        make_noise(root, seed=1)


def check(wav, seconds):
    samples, rate = soundfile.read(wav)
    assert rate == 16000 and len(samples) == round(seconds * rate)
    assert 0.05 < np.abs(samples).max() < 0.4 and np.std(samples) > 1e-3


def test_preparation_reads_it_as_esc50(root):
    noises = prepare_esc50(root / "ESC-50", folds=True, complete=False)
    groups = {}
    for noise in noises:
        groups.setdefault((noise.group, noise.fold), []).append(noise)
    assert len(groups) == 5 * NUM_RECORDINGS == len({group for group, _ in groups})
    for takes in groups.values():
        for noise, (take, seconds) in zip(takes, TAKES.items(), strict=True):
            assert noise.utt.split("-")[3] == take
            check(noise.wav, seconds)
    header, *lines = read_text(root / "ESC-50/meta/esc50.csv").splitlines()
    assert header == "filename,fold,target,category,esc10,src_file,take"
    names = [line.split(",")[0] for line in lines]
    assert names == sorted(noise.wav.rpartition("/")[2] for noise in noises)
    for name, fold, target, category, esc10, source, take in (line.split(",") for line in lines):
        assert name == f"{fold}-{source}-{take}-{target}.wav"
        assert (esc10 == "True") == (category == "rain") == (target == "10")


def test_preparation_reads_it_as_musan(root):
    noises = prepare_musan(root / "musan", complete=False)
    assert len(noises) == 3 * NUM_RECORDINGS == len({noise.group for noise in noises})
    for noise in noises:
        check(noise.wav, MUSAN_SECONDS)
    for collection, count in (("free-sound", 10), ("sound-bible", 5)):
        licence = read_text(root / "musan/noise" / collection / "LICENSE").splitlines()
        assert [line.split()[0] for line in licence] == [
            noise.utt for noise in noises if collection in noise.utt
        ]
        assert len(licence) == count
    assert len(read_text(root / "musan/noise/free-sound/ANNOTATIONS").splitlines()) == 6


def test_data_directory(root, tmp_path):
    noises = prepare_esc50(root / "ESC-50", complete=False)
    for name in ("utt2spk", "spk2utt", "spk2gender", "utt2emo", "segments"):  # of another kind
        (tmp_path / name).write_text("a a\n")
    write_data_dir(noises, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["utt2group", "wav.scp"]
    assert read_table(tmp_path / "utt2group") == {n.utt: n.group for n in noises}
    pieces = [Noise(f"a-{i}", "/w/a.wav", "a", "2", start=i, end=i + 1.5) for i in range(2)]
    write_data_dir(pieces, tmp_path)
    assert read_table(tmp_path / "utt2fold") == {"a-0": "2", "a-1": "2"}
    assert read_table(tmp_path / "segments")["a-1"] == "a 1.000 2.500"


@pytest.mark.parametrize(
    "noises, message",
    [
        ([Noise("a", "/x", "a b")], "/x: 'a b' cannot be an id"),
        ([Noise("a", "/x", "g"), Noise("a", "/y", "g")], "/y: duplicate utterance id 'a'"),
        (
            [Noise("a", "/x", "g", "1"), Noise("b", "/y", "g", "2")],
            r"utterance 'b': recording 'g' has fold \('2',\) here but \('1',\) before",
        ),
        ([Noise("a", "/x", "g", "01")], "/x: '01' cannot be a fold"),
    ],
)
def test_bad_tables(tmp_path, noises, message):
    with pytest.raises(UserError, match=message):
        write_data_dir(noises, tmp_path)
    assert not (tmp_path / "wav.scp").exists()
