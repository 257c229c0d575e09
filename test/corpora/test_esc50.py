from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.formatting import combine_parts, format_part
from espnet_tse_ser.corpora import write_data_dir
from espnet_tse_ser.corpora.esc50 import prepare_esc50
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.pool import Pool

HEADER = "filename,fold,target,category,esc10,src_file,take\n"


def make_corpus(root, suffix=".wav", folds=5):
    """Empty files with the names of the full corpus: 8 a class and fold, two takes a source."""
    for name in ("audio", "meta"):
        (root / name).mkdir(parents=True)
    lines = []
    for fold in range(1, 1 + folds):
        for target in range(50):
            for clip in range(8):
                source, take = 100000 + 1000 * fold + 10 * target + clip // 2, "AB"[clip % 2]
                name = f"{fold}-{source}-{take}-{target}{suffix}"
                (root / "audio" / name).touch()
                lines.append(f"{name},{fold},{target},class{target},False,{source},{take}\n")
    (root / "meta" / "esc50.csv").write_text(HEADER + "".join(sorted(lines)))
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("esc50") / "ESC-50-master")


def test_the_full_corpus(corpus):
    noises = prepare_esc50(corpus)
    assert len(noises) == 2000 and noises == sorted(noises, key=lambda n: n.utt)
    assert set(Counter(n.group for n in noises).values()) == {2}
    first = noises[0]
    assert (first.utt, first.group) == ("esc50-1-101000-A-0", "fs101000")
    assert first.wav == str(corpus / "audio/1-101000-A-0.wav")
    assert {n.fold for n in noises} == {None} == {n.start for n in noises}


def test_its_own_folds(corpus):
    noises = prepare_esc50(corpus, folds=True)
    assert Counter(n.fold for n in noises) == dict.fromkeys("12345", 400)
    assert all(n.fold == n.utt.split("-")[1] for n in noises)


def test_incomplete_and_wrong_roots(tmp_path):
    with pytest.raises(UserError, match="is not an ESC-50 root, there is no sound in its direct"):
        prepare_esc50(tmp_path)
    root = make_corpus(tmp_path / "corpus", ".flac")
    assert len(prepare_esc50(root)) == 2000
    with pytest.raises(UserError, match="audio: is not an ESC-50 root"):
        prepare_esc50(root / "audio")
    clip = root / "audio/3-103070-B-7.flac"
    clip.unlink()
    with pytest.raises(UserError, match="audio: clips: 1999 found, 2000 expected; unpack"):
        prepare_esc50(root)
    assert len(prepare_esc50(root, complete=False)) == 1999
    (root / "audio/3-103070-B-8.flac").touch()
    with pytest.raises(UserError, match="clips of class 7 in fold 3: 7 found, 8 expected"):
        prepare_esc50(root)
    (root / "audio/3-103070-A-7.ogg").touch()
    with pytest.raises(UserError, match="A-7.ogg: .*A-7.flac has the same id '3-103070-A-7'; ren"):
        prepare_esc50(root, complete=False)
    (root / "audio/3-103070-A-7.ogg").rename(root / "audio/dog.ogg")
    with pytest.raises(UserError, match="dog.ogg: the name is not <fold>-<source>"):
        prepare_esc50(root, complete=False)


def test_a_source_in_two_folds(corpus, tmp_path):
    names = ("1-7-A-3.wav", "2-7-B-3.wav")
    for name in names:
        (tmp_path / "audio").mkdir(exist_ok=True)
        (tmp_path / "audio" / name).touch()
    write_data_dir(prepare_esc50(tmp_path, complete=False), tmp_path / "data")
    with pytest.raises(UserError, match="'esc50-2-7-B-3': recording 'fs7' has fold"):
        write_data_dir(prepare_esc50(tmp_path, True, False), tmp_path / "own")


def test_esc10_as_it_was_first_distributed(tmp_path):
    for name in ("001 - Dog bark/1-30226-A.ogg", "010 - Fire crackling/5-17742-B.ogg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = [(n.utt, n.group, n.fold) for n in prepare_esc50(tmp_path, True, complete=False)]
    assert found == [("esc50-1-30226-A", "fs30226", "1"), ("esc50-5-17742-B", "fs17742", "5")]


def test_clips_of_any_length_and_number_of_channels(tmp_path):
    rng, rate = np.random.default_rng(0), 44100
    sounds = {"1-1-A-0": (5, 1), "1-1-B-0": (0.7, 1), "2-2-A-0": (5, 2), "2-3-A-0": (0.2, 1)}
    (tmp_path / "audio").mkdir()
    for name, (seconds, channels) in sounds.items():
        samples = 0.1 * rng.standard_normal((round(seconds * rate), channels))
        soundfile.write(tmp_path / "audio" / f"{name}.wav", samples, rate)
    write_data_dir(prepare_esc50(tmp_path, complete=False), tmp_path / "data")
    format_part(tmp_path / "data", tmp_path / "clean", fs=16000, min_duration=0.5)
    combine_parts(tmp_path / "data", tmp_path / "clean", 16000, 0.5)
    pool = Pool.read(tmp_path / "clean")
    lengths = {utt.removeprefix("esc50-"): len(pool.audio(utt)) for utt in pool.entries}
    assert lengths == {"1-1-A-0": 80000, "1-1-B-0": 11200, "2-2-A-0": 80000}
    assert pool.kind == "noise" and set(pool.by_group) == {"fs1", "fs2"}
