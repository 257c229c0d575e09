import shutil

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.corpora.musan import prepare_musan
from espnet_tse_ser.errors import UserError

COLLECTIONS = {  # of the full corpus, the sizes of music as they sum up to its 660 files
    "noise/free-sound": ("noise-free-sound", 843),
    "noise/sound-bible": ("noise-sound-bible", 87),
    "speech/librivox": ("speech-librivox", 173),
    "speech/us-gov": ("speech-us-gov", 253),
    "music/fma": ("music-fma", 500),
    "music/fma-western-art": ("music-fma-wa", 160),
}


def make_corpus(root, collections=tuple(COLLECTIONS)):
    """Empty files with the names of the full corpus, and what it says about them."""
    for collection in collections:
        prefix, count = COLLECTIONS[collection]
        (root / collection).mkdir(parents=True)
        for number in range(count):
            (root / collection / f"{prefix}-{number:04d}.wav").touch()
        for name in ("ANNOTATIONS", "LICENSE"):
            (root / collection / name).write_text("text\n")
    (root / "README").write_text("text\n")
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "musan")


def test_noise_and_parts_of_it(corpus):
    noises = prepare_musan(corpus)
    assert len(noises) == 930 == len({n.group for n in noises})
    assert noises == sorted(noises, key=lambda n: n.utt)
    first = noises[0]
    assert first.utt == first.group == "noise-free-sound-0000"
    assert first.wav == str(corpus / "noise/free-sound/noise-free-sound-0000.wav")
    assert {n.fold for n in noises} == {None} == {n.start for n in noises}
    assert len(prepare_musan(corpus, subsets=["noise/sound-bible"])) == 87
    assert prepare_musan(corpus, subsets=["noise/free-sound", "noise"]) == noises


def test_music_and_speech(corpus):
    noises = prepare_musan(corpus, subsets=["speech", "music"])
    assert len(noises) == 426 + 660
    assert {n.utt.split("-")[0] for n in noises} == {"speech", "music"}


def test_incomplete_and_wrong_roots(corpus, tmp_path):
    with pytest.raises(UserError, match="is not a MUSAN root, it has no sound in noise; give"):
        prepare_musan(tmp_path)
    with pytest.raises(UserError, match="noise: is not a MUSAN root"):
        prepare_musan(corpus / "noise")
    make_corpus(tmp_path, ["noise/free-sound"])
    with pytest.raises(UserError, match="noise: files: 843 found, 930 expected; unpack"):
        prepare_musan(tmp_path)
    with pytest.raises(UserError, match="it has no sound in speech"):
        prepare_musan(tmp_path, subsets=["noise", "speech"], complete=False)
    assert len(prepare_musan(tmp_path, complete=False)) == 843
    shutil.copy(tmp_path / "README", tmp_path / "noise/free-sound/rain.wav")
    with pytest.raises(UserError, match="rain.wav: the name is not noise-<collection>-<4 digits>"):
        prepare_musan(tmp_path, complete=False)


def test_pieces_are_of_one_group(tmp_path):
    for number, (seconds, channels) in enumerate([(10.5, 1), (9.5, 2), (1.0, 1)]):
        path = tmp_path / "noise/free-sound" / f"noise-free-sound-{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros((round(seconds * 16000), channels)), 16000)
    noises = prepare_musan(tmp_path, complete=False, piece_seconds=5.0, min_piece_seconds=4.0)
    assert [(n.utt, n.group[-1], n.start, n.end) for n in noises] == [
        ("noise-free-sound-0000-000", "0", 0.0, 5.0),
        ("noise-free-sound-0000-001", "0", 5.0, 10.0),
        ("noise-free-sound-0001-000", "1", 0.0, 5.0),
        ("noise-free-sound-0001-001", "1", 5.0, 9.5),
    ]
    with pytest.raises(UserError, match="need 0 < min_piece_seconds <= piece_seconds"):
        prepare_musan(tmp_path, complete=False, piece_seconds=1.0)
    path.write_bytes(b"RIFF")
    with pytest.raises(UserError, match="noise-free-sound-0002.wav: "):
        prepare_musan(tmp_path, complete=False, piece_seconds=5.0)
