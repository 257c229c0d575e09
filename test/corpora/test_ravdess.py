import itertools
from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.corpora.ravdess import ALL_LABELS, prepare_ravdess
from espnet_tse_ser.errors import UserError


def make_corpus(root, suffix=".wav"):
    """Empty files with the names of the full corpus: 60 an actor, no strong neutral."""
    for actor in range(1, 25):
        directory = root / f"Actor_{actor:02d}"
        directory.mkdir(parents=True)
        for emotion, *fields in itertools.product(range(1, 9), (1, 2), (1, 2), (1, 2)):
            if emotion == 1 and fields[0] == 2:
                continue
            codes = "-".join(f"{code:02d}" for code in (3, 1, emotion, *fields, actor))
            (directory / f"{codes}{suffix}").touch()
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("ravdess")
    make_corpus(root / "Audio_Speech_Actors_01-24")
    return root


def test_four_classes(corpus):
    utterances = prepare_ravdess(corpus)
    assert Counter(u.emo for u in utterances) == {"ang": 192, "hap": 192, "neu": 288, "sad": 192}
    without_calm = prepare_ravdess(corpus, merge_calm=False)
    assert Counter(u.emo for u in without_calm)["neu"] == 96
    assert len({u.spk for u in utterances}) == 24
    assert utterances == sorted(utterances, key=lambda u: u.utt)
    first = utterances[0]
    assert (first.utt, first.spk) == ("rav01-03-01-01-01-01-01-01", "rav01")
    assert first.wav.endswith("Audio_Speech_Actors_01-24/Actor_01/03-01-01-01-01-01-01.wav")


def test_eight_classes(corpus):
    utterances = prepare_ravdess(corpus, labels=ALL_LABELS)
    expected = dict.fromkeys(ALL_LABELS, 192) | {"neu": 96}
    assert Counter(u.emo for u in utterances) == expected
    assert ALL_LABELS == ("ang", "cal", "dis", "fea", "hap", "neu", "sad", "sur")


def test_folds_are_balanced_groups_of_actors(corpus):
    actors = {(u.fold, u.gender, u.spk) for u in prepare_ravdess(corpus)}
    assert len(actors) == 24
    per_fold = Counter((fold, gender) for fold, gender, _ in actors)
    assert [per_fold[fold, "f"] for fold in "12345"] == [3, 3, 2, 2, 2]
    assert [per_fold[fold, "m"] for fold in "12345"] == [3, 3, 2, 2, 2]
    assert all(gender == "fm"[int(spk[3:]) % 2] for _, gender, spk in actors)


def test_flac_and_actors_directly_below_the_root(tmp_path):
    root = make_corpus(tmp_path, ".flac")
    (root / "Actor_01" / "notes.txt").touch()
    (root / "Actor_01" / "03-02-01-01-01-01-01.flac").touch()  # song, not speech
    assert len(prepare_ravdess(root)) == 864


def test_incomplete_and_wrong_roots(tmp_path):
    with pytest.raises(UserError, match="is not a RAVDESS root"):
        prepare_ravdess(tmp_path)
    make_corpus(tmp_path)
    file = tmp_path / "Actor_02" / "03-01-05-01-01-01-02.wav"
    file.unlink()
    with pytest.raises(UserError, match="1439 found, 1440 expected; .*fetch"):
        prepare_ravdess(tmp_path)
    assert len(prepare_ravdess(tmp_path, expected_total=None)) == 863
    file.with_name("03-01-05-01-01-01-03.wav").touch()
    with pytest.raises(UserError, match="is a file of actor 03; move it"):
        prepare_ravdess(tmp_path)
    file.with_name("03-01-05-01-01-01-03.wav").rename(file)
    file.with_suffix(".flac").touch()
    with pytest.raises(UserError, match="remove one of the two"):
        prepare_ravdess(tmp_path)


def test_wrong_labels(corpus):
    with pytest.raises(UserError, match="label.*fru; known"):
        prepare_ravdess(corpus, labels=("ang", "fru"))
    with pytest.raises(UserError, match="exclude each other"):
        prepare_ravdess(corpus, labels=("ang", "cal"), merge_calm=True)


@pytest.mark.parametrize("rate, channels", [(16000, 1), (48000, 2)])
def test_trimming_finds_the_speech(tmp_path, rate, channels):
    rng = np.random.default_rng(0)
    samples = 1e-4 * rng.standard_normal((4 * rate, channels))
    samples[round(1.2 * rate) : round(2.9 * rate)] += 0.1 * rng.standard_normal(
        (round(1.7 * rate), channels)
    )
    path = tmp_path / "Actor_03" / "03-01-05-01-01-01-03.wav"
    path.parent.mkdir()
    soundfile.write(path, samples, rate)
    (utterance,) = prepare_ravdess(tmp_path, trim_silence=True, margin=0.1, expected_total=None)
    assert utterance.start == pytest.approx(1.1, abs=0.03)
    assert utterance.end == pytest.approx(3.0, abs=0.03)
    (utterance,) = prepare_ravdess(tmp_path, trim_silence=True, margin=2.0, expected_total=None)
    assert (utterance.start, utterance.end) == (0.0, 4.0)


def test_silent_file_cannot_be_trimmed(tmp_path):
    path = tmp_path / "Actor_03" / "03-01-05-01-01-01-03.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(16000), 16000)
    with pytest.raises(UserError, match="03-01-05-01-01-01-03.wav: is silent"):
        prepare_ravdess(tmp_path, trim_silence=True, expected_total=None)
