import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.corpora import librispeech
from espnet_tse_ser.corpora.librispeech import prepare_librispeech
from espnet_tse_ser.errors import UserError

HEADER = "; comment\n;ID  |SEX| SUBSET           |MINUTES| NAME\n"


def make_corpus(root, readers, subset="train-clean-100", seconds=1.0):
    """One silent file of each length in ``seconds`` (a number or list) for readers id -> F or M."""
    root.mkdir(exist_ok=True)
    lines = [f"{r:<4} | {g} | {subset:<16} | 25.03 | A | B\n" for r, g in readers.items()]
    path = root / "SPEAKERS.TXT"
    path.write_text((path.read_text() if path.exists() else HEADER) + "".join(lines))
    for reader in readers:
        directory = root / subset / str(reader) / "7"
        directory.mkdir(parents=True)
        for number, length in enumerate(np.atleast_1d(seconds)):
            samples = np.zeros(round(length * 16000))
            soundfile.write(directory / f"{reader}-7-{number:04d}.flac", samples, 16000)
        (directory / f"{reader}-7.trans.txt").touch()
    return root


def test_whole_utterances_of_several_subsets(tmp_path):
    make_corpus(tmp_path, {19: "F", 198: "F"}, seconds=[1, 1])
    make_corpus(tmp_path, {61: "M"}, subset="test-other")
    utterances = prepare_librispeech(tmp_path, subsets=["train-clean-100", "test-other"])
    assert [(u.utt, u.spk, u.gender, u.start) for u in utterances] == [
        ("ls19-7-0000", "ls19", "f", None),
        ("ls19-7-0001", "ls19", "f", None),
        ("ls198-7-0000", "ls198", "f", None),
        ("ls198-7-0001", "ls198", "f", None),
        ("ls61-7-0000", "ls61", "m", None),
    ]
    assert utterances[0].wav == str(tmp_path / "train-clean-100/19/7/19-7-0000.flac")


def test_pieces(tmp_path):
    make_corpus(tmp_path, {19: "F"}, seconds=[10.5, 9.5, 1.0])
    utterances = prepare_librispeech(tmp_path, piece_seconds=4.0, min_piece_seconds=2.0)
    assert [(u.utt, u.start, u.end) for u in utterances] == [
        ("ls19-7-0000-000", 0.0, 4.0),
        ("ls19-7-0000-001", 4.0, 8.0),
        ("ls19-7-0000-002", 8.0, 10.5),
        ("ls19-7-0001-000", 0.0, 4.0),
        ("ls19-7-0001-001", 4.0, 8.0),
    ]


def test_parts_are_disjoint_stratified_and_stable(tmp_path):
    readers = {100 + i: "FM"[i < 8] for i in range(28)}  # 8 men, 20 women
    make_corpus(tmp_path, readers)
    parts = [prepare_librispeech(tmp_path, parts=(50, 25, 25), part=p) for p in (1, 2, 3)]
    counts = [Counter(u.gender for u in part) for part in parts]
    assert counts == [{"f": 10, "m": 4}, {"f": 5, "m": 2}, {"f": 5, "m": 2}]
    speakers = [{u.spk for u in part} for part in parts]
    assert speakers[0] | speakers[1] | speakers[2] == {f"ls{r}" for r in readers}
    assert sum(map(len, speakers)) == len(readers)
    assert {u.spk for u in prepare_librispeech(tmp_path, parts=(2, 1, 1), part=1)} == speakers[0]


def test_known_totals(tmp_path, monkeypatch):
    make_corpus(tmp_path, {19: "F", 61: "M"}, seconds=[1, 1])
    with pytest.raises(UserError, match="utterances: 4 found, 28539 expected; .*md5"):
        prepare_librispeech(tmp_path, complete=True)
    monkeypatch.setitem(librispeech.TOTALS, "train-clean-100", (3, 4))
    with pytest.raises(UserError, match="speakers: 2 found, 3 expected"):
        prepare_librispeech(tmp_path, complete=True)
    monkeypatch.setitem(librispeech.TOTALS, "train-clean-100", (2, 4))
    assert len(prepare_librispeech(tmp_path, complete=True)) == 4
    make_corpus(tmp_path, {5: "F"}, subset="mine")
    with pytest.raises(UserError, match="subset 'mine': no totals"):
        prepare_librispeech(tmp_path, subsets=["mine"], complete=True)


def test_wrong_roots(tmp_path):
    with pytest.raises(UserError, match="not a LibriSpeech root, SPEAKERS.TXT is missing"):
        prepare_librispeech(tmp_path)
    make_corpus(tmp_path, {19: "F"})
    with pytest.raises(UserError, match=r"no subset 'dev-clean' \(present: train-clean-100\)"):
        prepare_librispeech(tmp_path, subsets=["dev-clean"])
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(UserError, match="dev-clean: holds no"):
        prepare_librispeech(tmp_path, subsets=["dev-clean"])


def test_a_half_downloaded_subset_is_noticed(tmp_path):
    make_corpus(tmp_path, {19: "F", 26: "M", 27: "M"})
    make_corpus(tmp_path, {61: "M"}, subset="test-other")
    for reader in (26, 27):
        shutil.rmtree(tmp_path / "train-clean-100" / str(reader))
    with pytest.raises(UserError, match=r"train-clean-100: no audio of 2 speaker.* '26' among"):
        prepare_librispeech(tmp_path, complete="speakers")
    assert len(prepare_librispeech(tmp_path)) == 1
    assert len(prepare_librispeech(tmp_path, subsets=["test-other"], complete="speakers")) == 1


def test_broken_corpora(tmp_path):
    make_corpus(tmp_path, {19: "F"})
    chapter = tmp_path / "train-clean-100" / "19" / "7"
    (chapter / "19-7-0001.flac").write_bytes(b"fLaC")
    with pytest.raises(UserError, match="19-7-0001.flac: cannot be read as audio"):
        prepare_librispeech(tmp_path, piece_seconds=4.0)
    (chapter / "19-7-0001.flac").rename(chapter / "20-7-0001.flac")
    with pytest.raises(UserError, match="20-7-0001.flac: name is not"):
        prepare_librispeech(tmp_path)
    (chapter / "20-7-0001.flac").unlink()
    speakers = tmp_path / "SPEAKERS.TXT"
    speakers.write_text(HEADER + "20   | F | x | 1 | N\n")
    with pytest.raises(UserError, match="speaker '19' is not in"):
        prepare_librispeech(tmp_path)
    speakers.write_text(HEADER + "19   | X | x | 1 | N\n")
    with pytest.raises(UserError, match="SPEAKERS.TXT: line 3: expected"):
        prepare_librispeech(tmp_path)
    speakers.write_bytes("19 | F | x | 1 | Zoë\n".encode("latin-1"))
    with pytest.raises(UserError, match="SPEAKERS.TXT: is not UTF-8 text"):
        prepare_librispeech(tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"piece_seconds": 1.0}, "min_piece_seconds <= piece_seconds"),
        ({"parts": (50, 0)}, "every proportion must be above 0"),
        ({"parts": (50, 50), "part": 3}, "part 3: there are parts 1 to 2"),
        ({"parts": (99, 1), "part": 2}, "has no speaker"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    make_corpus(tmp_path, {19: "F", 61: "M"})
    with pytest.raises(UserError, match=message):
        prepare_librispeech(tmp_path, **options)
