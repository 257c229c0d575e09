from collections import Counter

import pytest

from espnet_tse_ser.corpora.ased import ALL_LABELS, prepare_ased
from espnet_tse_ser.errors import UserError

# How many files the speakers 1 to 65 of the corpus have, and which are women.
FILES = (
    [70, 20, 20, 70, 66, 70, 12, 8, 16, 66, 58, 12, 70, 16, 12, 8, 12, 16, 16, 54, 58, 8, 50, 12]
    + [66, 66, 66, 66, 66, 66, 54, 20, 12, 4, 8, 12, 12, 16, 70, 4, 70, 8, 8, 8, 50, 8, 18, 50]
    + [6, 70, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50]
)
WOMEN = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 43, 47, 48, 49}
WOMEN |= {58, 62}
FOLDERS = {"n1": "01Neutral", "f2": "02Fearful", "h3": "03Happy", "s4": "04Sad", "a5": "05Angry"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Empty files with as many as each speaker has; of speaker 9 one says the other gender."""
    root = tmp_path_factory.mktemp("ased")
    for folder in FOLDERS.values():
        (root / folder).mkdir()
    for speaker, count in enumerate(FILES, 1):
        for k in range(count):
            code = list(FOLDERS)[k % 5]
            woman = (speaker in WOMEN) != (speaker == 9 and k == 3)
            name = f"{code}-{k // 10 + 1:02d}-{k // 5 % 2 + 1:02d}-{2 - woman:02d}-{speaker:02d}"
            (root / FOLDERS[code] / f"{name}.wav").touch()
    last = root / "04Sad/s4-01-01-02-40.wav"
    last.rename(last.with_name("S4-01-01-02-40.wav"))
    return root


def test_speakers_genders_and_classes(corpus):
    assert sum(FILES) == 2474
    utterances = prepare_ased(corpus, least_neutral=0)
    assert {u.emo for u in utterances} == {"ang", "hap", "neu", "sad"}
    assert len({u.spk for u in utterances}) == 65
    assert {u.spk for u in utterances if u.gender == "f"} == {f"ased{k:02d}" for k in WOMEN}
    assert utterances == sorted(utterances, key=lambda u: u.utt)
    assert utterances[0].utt == "ased01-a5-01-01-01-01"
    assert [u.emo for u in utterances if u.utt == "ased40-S4-01-01-02-40"] == ["sad"]
    everything = prepare_ased(corpus, labels=ALL_LABELS, least_neutral=0)
    assert len(everything) == 2474
    assert {u.spk: u.fold for u in everything} == {u.spk: u.fold for u in utterances}


def test_folds_have_alike_speakers(corpus):
    utterances = prepare_ased(corpus, labels=ALL_LABELS, least_neutral=0)
    speakers = {(u.fold, u.gender, u.spk) for u in utterances}
    assert Counter((fold, gender) for fold, gender, _ in speakers) == (
        dict.fromkeys([(k, "f") for k in "12345"], 5)
        | dict.fromkeys([(k, "m") for k in "12345"], 8)
    )
    sizes = Counter(u.fold for u in utterances).values()
    assert len(speakers) == 65 and max(sizes) - min(sizes) < 0.15 * 2474 / 5


def test_who_cannot_be_enrolled_is_left_out(corpus):
    neutral = Counter(u.spk for u in prepare_ased(corpus, labels=["neu"], least_neutral=0))
    few = {f"ased{k:02d}" for k in range(1, 66) if neutral[f"ased{k:02d}"] < 2}
    speakers = {u.spk for u in prepare_ased(corpus)}
    assert few and not few & speakers and len(speakers) == 65 - len(few)


@pytest.mark.parametrize(
    "name", ["x1-01-01-01-01", "n1-01-01-03-01", "n1-01-01-01", "n1-1-1-01-01"]
)
def test_what_is_none_of_it_is_refused(corpus, name):
    stray = corpus / "01Neutral" / f"{name}.wav"
    stray.touch()
    try:
        with pytest.raises(UserError, match=f"{name}.wav: is not named as"):
            prepare_ased(corpus, expected_total=0)
        with pytest.raises(UserError, match="ASED files"):
            prepare_ased(corpus)
    finally:
        stray.unlink()


def test_wrong_roots_and_labels(corpus, tmp_path):
    with pytest.raises(UserError, match="is not an ASED root, it has no 01Neutral"):
        prepare_ased(tmp_path)
    with pytest.raises(UserError, match="unknown ASED label.s. dis; known: ang fea hap neu sad"):
        prepare_ased(corpus, labels=["ang", "dis"])
