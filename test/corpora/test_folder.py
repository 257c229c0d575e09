import logging

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.audio.reading import read_audio
from espnet_tse_ser.corpora import write_data_dir
from espnet_tse_ser.corpora.folder import prepare_folder
from espnet_tse_ser.errors import UserError


def make_corpus(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)  # no copies
    return root


def test_ids_are_made_from_paths(tmp_path, caplog):
    names = ("a b/rain, heavy.WAV", "a b/c/x.1.ogg", "wind.flac", "notes.txt", "a b/song.m4a")
    make_corpus(tmp_path / "sounds", [*names, "Zu\u0308ge.mp3"])
    with caplog.at_level(logging.WARNING):
        noises = prepare_folder(tmp_path / "sounds")
    assert {n.utt: n.wav.partition("sounds/")[2] for n in noises} == {
        "a_b-rain__heavy": "a b/rain, heavy.WAV",
        "a_b-c-x.1": "a b/c/x.1.ogg",
        "wind": "wind.flac",
        "Züge": "Zu\u0308ge.mp3",
    }
    assert all(n.group == n.utt and n.fold is None for n in noises)
    assert "left out, as no sounds: 1 *.m4a, 1 *.txt" in caplog.text
    write_data_dir(noises, tmp_path / "data")
    assert len(read_table(tmp_path / "data/utt2group")) == 4


@pytest.mark.parametrize(
    "names", [("a/b.wav", "a-b.wav"), ("a b.wav", "a_b.wav"), ("a.wav", "a.flac")]
)
def test_files_of_the_same_id_are_refused(tmp_path, names):
    make_corpus(tmp_path, names)
    one, other = (str(tmp_path / name) for name in names)
    with pytest.raises(UserError, match="has the same id '") as error:
        prepare_folder(tmp_path)
    assert one in str(error.value) and other in str(error.value)


def test_copies_are_one_recording(tmp_path):
    make_corpus(tmp_path, ["b/x.wav", "y.wav", "z.wav"])  # two of one size
    for copy in ("a.wav", "c.wav"):
        (tmp_path / copy).write_text("y.wav")
    groups = {n.utt: n.group for n in prepare_folder(tmp_path)}
    assert groups == {"a": "a", "b-x": "b-x", "c": "a", "y": "a", "z": "z"}


def test_folders_without_a_sound(tmp_path):
    with pytest.raises(UserError, match=r"is not a folder of sounds, it has no file \*.wav, \*.fl"):
        prepare_folder(make_corpus(tmp_path, ["notes.txt", ".hidden.wav"]))


@pytest.mark.parametrize(
    "suffix, form", [("wav", "WAV"), ("ogg", "OGG"), ("mp3", "MP3"), ("au", "AU"), ("w64", "W64")]
)
def test_formats_are_read(tmp_path, suffix, form):
    samples = 0.1 * np.random.default_rng(0).standard_normal((16000, 2))
    soundfile.write(tmp_path / f"a.{suffix}", samples, 16000, format=form)
    (noise,) = prepare_folder(tmp_path)
    assert read_audio(noise.wav)[0].shape == (16000, 2)
