"""ESD in both layouts that circulate; the files are empty, as only their names are read."""

from collections import Counter

import pytest
from tiny_corpora import write_esd

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.corpora import esd, write_data_dir
from espnet_tse_ser.corpora.esd import ALL_LABELS, GENDERS, prepare_esd
from espnet_tse_ser.errors import UserError

ENGLISH = [f"{number:04d}" for number in range(11, 21)]
MANDARIN = [f"{number:04d}" for number in range(1, 11)]


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """The English part, with all its speakers but three sentences for 350."""
    assert esd.NUM_SENTENCES == 350
    monkeypatch.setattr(esd, "NUM_SENTENCES", 3)
    return write_esd(tmp_path / "esd", ENGLISH, (1, 2, 3), parts=True, block=3)


@pytest.fixture
def small(tmp_path):
    """Two utterances of each emotion of two speakers."""
    return write_esd(tmp_path / "esd", ["0011", "0015"])


def test_the_whole_english_part(whole):
    utterances = prepare_esd(whole)
    assert len(utterances) == 150 and ALL_LABELS == ("ang", "hap", "neu", "sad", "sur")
    counts = Counter((u.spk, u.emo) for u in utterances)
    assert len(counts) == 50 and set(counts.values()) == {3}
    genders = {u.spk: u.gender for u in utterances}
    assert Counter(genders.values()) == {"f": 5, "m": 5}
    assert utterances == sorted(utterances, key=lambda u: u.utt)
    assert {u.fold for u in utterances} == {None}


@pytest.mark.parametrize("parts", [False, True])
def test_both_layouts(tmp_path, parts):
    root = write_esd(tmp_path / "esd", ["0011", "0015"], numbers=(1, 2, 3), parts=parts)
    utterances = prepare_esd(root, complete=False)
    assert len(utterances) == 2 * 5 * 3
    by_id = {u.utt: u for u in utterances}
    angry = by_id["esd0015-0015_000352"]
    assert (angry.spk, angry.gender, angry.emo) == ("esd0015", "f", "ang")
    folder = "0015/Angry/test" if parts else "0015/Angry"
    assert angry.wav == str(root / folder / "0015_000352.wav")
    assert by_id["esd0011-0011_001402"].emo == "sur"
    write_data_dir(utterances, tmp_path / "data")
    assert read_table(tmp_path / "data/spk2gender") == {"esd0011": "m", "esd0015": "f"}
    assert read_table(tmp_path / "data/utt2emo")["esd0011-0011_000001"] == "neu"
    assert not (tmp_path / "data/utt2fold").exists()


def test_languages_and_labels(tmp_path):
    root = write_esd(tmp_path, ["0004", "0011", "0012"], numbers=[7])
    spoken = {
        language: {u.spk for u in prepare_esd(root, language, complete=False)}
        for language in ("english", "mandarin", "all")
    }
    assert spoken == {
        "english": {"esd0011", "esd0012"},
        "mandarin": {"esd0004"},
        "all": {"esd0004", "esd0011", "esd0012"},
    }
    chosen = prepare_esd(root, labels=("neu", "sur"), complete=False)
    assert Counter(u.emo for u in chosen) == {"neu": 2, "sur": 2}


def test_genders_are_balanced_in_each_language():
    for speakers in (ENGLISH, MANDARIN):
        assert Counter(GENDERS[spk] for spk in speakers) == {"f": 5, "m": 5}


def test_given_genders_win(small, tmp_path):
    path = tmp_path / "spk2gender"
    path.write_text("0011 f\n")
    genders = {u.spk: u.gender for u in prepare_esd(small, complete=False, spk2gender=path)}
    assert genders == {"esd0011": "f", "esd0015": "f"}
    for line in ("0021 f", "0011 male"):
        path.write_text(f"{line}\n")
        with pytest.raises(UserError, match=f"spk2gender: '{line}': expected a speaker of 0001 to"):
            prepare_esd(small, complete=False, spk2gender=path)


def test_files_that_do_not_count(small):
    (small / "0011/Angry/._0011_000351.wav").touch()
    (small / "0011/Angry/notes.txt").touch()
    (small / "ReadMe.txt").touch()
    assert len(prepare_esd(small, complete=False)) == 20


def test_missing_speakers(whole):
    with pytest.raises(UserError, match=r"speaker\(s\) 0001 .* 0010 are missing; unpack"):
        prepare_esd(whole, "all")
    assert len(prepare_esd(whole, "all", complete=False)) == 150


def test_wrong_totals(whole):
    sad = whole / "0013/Sad"
    (sad / "train/0013_000012.wav").unlink()
    with pytest.raises(UserError, match="0013/Sad: utterances: 2 found, 3 expected; unpack"):
        prepare_esd(whole)
    assert len(prepare_esd(whole, complete=False)) == 149


def test_an_utterance_of_another_emotion(whole):
    """As many as there should be, but one of them is happy by its number."""
    sad = whole / "0013/Sad/train"
    (sad / "0013_000012.wav").rename(sad / "0013_000007.wav")
    message = r"0013_000007.wav: number 000007 is not Sad \(10 to 12\) but Happy; move it"
    with pytest.raises(UserError, match=message):
        prepare_esd(whole)
    (sad / "0013_000007.wav").rename(sad / "0013_000016.wav")
    with pytest.raises(UserError, match=r"not Sad \(10 to 12\) but of no emotion"):
        prepare_esd(whole)


def test_missing_directories(small, tmp_path):
    with pytest.raises(UserError, match="is not an ESD root, it has no speaker 0011 to 0020"):
        prepare_esd(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"is not an ESD root.*did you mean {small}\?"):
        prepare_esd(tmp_path)
    (small / "0015/Happy/0015_000701.wav").unlink()
    (small / "0015/Happy/0015_000702.wav").unlink()
    (small / "0015/Happy").rmdir()
    with pytest.raises(UserError, match="0015/Happy: no such directory; every speaker has"):
        prepare_esd(small, complete=False)


@pytest.mark.parametrize(
    "name, message",
    [
        ("Angry/0015_000351.wav", r"the name is not 0011_<6 digits>.wav; rename, move or remove"),
        ("Angry/0011_351.wav", "the name is not 0011_<6 digits>"),
        ("Angry/0011_000353 (1).wav", "the name is not 0011_<6 digits>"),
        ("Angry/validation/0011_000353.wav", "lies neither in .*Angry nor in its train, eval"),
        ("Angry/train/train/0011_000353.wav", "lies neither in"),
        ("Angry/train/0011_000351.wav", "0011_000351.wav has the same id; remove one"),
    ],
)
def test_strange_names(small, name, message):
    path = small / "0011" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(UserError, match=message):
        prepare_esd(small, complete=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"language": "french"}, "language must be one of mandarin english all, got 'french'"),
        ({"labels": ("ang", "fea")}, r"unknown ESD label\(s\) fea; known: ang hap neu sad sur"),
        ({"labels": ()}, "no ESD label; known: ang"),
    ],
)
def test_wrong_options(small, options, message):
    with pytest.raises(UserError, match=message):
        prepare_esd(small, complete=False, **options)
