import hashlib

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.corpora import Noise, write_data_dir
from espnet_tse_ser.corpora.mini_noise import NUM_RECORDINGS, PIECES, make_noise, prepare_mini_noise
from espnet_tse_ser.errors import UserError


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
    assert not {d for _, d in digest(tmp_path / "other")} & {d for _, d in digest(root)}
    before = digest(root)
    make_noise(root)
    assert digest(root) == before
    with pytest.raises(UserError, match="noise.json: made as .*'seed': 0.*, not as .*'seed': 1"):
        make_noise(root, seed=1)


def test_recordings_and_pieces(root):
    noises = prepare_mini_noise(str(root))
    assert [n.utt for n in noises] == sorted(n.utt for n in noises)
    groups = {}
    for noise in noises:
        groups.setdefault(noise.group, []).append(noise)
    assert len(groups) == 5 * NUM_RECORDINGS
    for group, pieces in groups.items():
        assert [n.utt for n in pieces] == [f"{group}_1", f"{group}_2"]
        for noise, seconds in zip(pieces, PIECES, strict=True):
            samples, rate = soundfile.read(noise.wav)
            assert rate == 16000 and len(samples) == round(seconds * rate)
            assert 0.05 < np.abs(samples).max() < 0.4 and np.std(samples) > 1e-3
    with pytest.raises(UserError, match="is not the mini noise"):
        prepare_mini_noise(str(root / "hum"))


def test_data_directory(root, tmp_path):
    noises = prepare_mini_noise(str(root))
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
