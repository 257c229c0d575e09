from collections import Counter

import pytest

from espnet_tse_ser.corpora.iemocap import NUM_UTTERANCES, SESSION_TOTALS, prepare_iemocap
from espnet_tse_ser.errors import UserError

LABELS = {
    "Ses01F_impro01_F000": "neu",
    "Ses01F_impro01_M000": "exc",
    "Ses01F_impro01_M001": "fru",
    "Ses01M_script01_1b_F003": "hap",
    "Ses02M_impro02_M010": "ang",
    "Ses02M_impro02_M011": "xxx",
    "Ses02M_impro02_F012": "sad",
}


def make_corpus(root, labels=LABELS):
    """A corpus in the layout of the full release, with the lines that surround the labels there."""
    for utt, label in labels.items():
        dialog = utt.rsplit("_", 1)[0]
        session = root / f"Session{int(utt[3:5])}"
        wav = session / "sentences" / "wav" / dialog / f"{utt}.wav"
        wav.parent.mkdir(parents=True, exist_ok=True)
        wav.touch()
        evaluation = session / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        evaluation.parent.mkdir(parents=True, exist_ok=True)
        with open(evaluation, "a") as stream:
            if stream.tell() == 0:
                stream.write("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n")
            stream.write(f"[6.2901 - 8.2357]\t{utt}\t{label}\t[2.5000, 2.5000, 2.5000]\n")
            stream.write("C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n")
    return root


def test_labels_speakers_and_folds(tmp_path):
    root = make_corpus(tmp_path)
    utterances = prepare_iemocap(root, expected_total=5)
    assert [(u.utt, u.spk, u.gender, u.emo, u.fold) for u in utterances] == [
        ("Ses01F-Ses01F_impro01_F000", "Ses01F", "f", "neu", "1"),
        ("Ses01F-Ses01M_script01_1b_F003", "Ses01F", "f", "hap", "1"),
        ("Ses01M-Ses01F_impro01_M000", "Ses01M", "m", "hap", "1"),
        ("Ses02F-Ses02M_impro02_F012", "Ses02F", "f", "sad", "2"),
        ("Ses02M-Ses02M_impro02_M010", "Ses02M", "m", "ang", "2"),
    ]
    wav = "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_F003.wav"
    assert utterances[1].wav == str(root / wav)


def test_files_of_the_finder_and_deeper_directories_are_ignored(tmp_path):
    root = make_corpus(tmp_path)
    directory = root / "Session1" / "dialog" / "EmoEvaluation"
    (directory / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\xb0")
    (directory / "Categorical").mkdir()
    (directory / "Categorical" / "Ses01F_impro01_e1_cat.txt").write_text("other format\n")
    assert len(prepare_iemocap(root, expected_total=5)) == 5


def test_session_totals_sum_up():
    assert sum(SESSION_TOTALS.values()) == NUM_UTTERANCES == 5531


def test_full_size_corpus_is_accepted(tmp_path):
    labels = {}
    for session, total in SESSION_TOTALS.items():
        classes = ("ang", "hap", "exc", "neu", "sad")
        for index in range(total):
            utt = f"Ses0{session}{'FM'[index % 2]}_impro01_{'MF'[index % 3 == 0]}{index:04d}"
            labels[utt] = classes[index % len(classes)]
    utterances = prepare_iemocap(make_corpus(tmp_path, labels))
    assert len(utterances) == 5531
    assert Counter(u.fold for u in utterances) == SESSION_TOTALS


def test_short_corpus_names_the_sessions(tmp_path):
    with pytest.raises(UserError, match=r"5 utt.* found, 5531 expected \(Session1 has 3 of 1085"):
        prepare_iemocap(make_corpus(tmp_path))
    with pytest.raises(UserError, match="5 utterances found, 7 expected; the release"):
        prepare_iemocap(tmp_path, expected_total=7)


def test_wrong_root_and_hint(tmp_path):
    with pytest.raises(UserError, match="is not an IEMOCAP root, Session1 is missing"):
        prepare_iemocap(tmp_path / "nowhere")
    make_corpus(tmp_path / "IEMOCAP_full_release")
    with pytest.raises(UserError, match="did you mean .*IEMOCAP_full_release"):
        prepare_iemocap(tmp_path)


def test_half_download(tmp_path):
    root = make_corpus(tmp_path)
    wav = root / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    wav.unlink()
    with pytest.raises(UserError, match="Ses01F_impro01_F000.wav: no such file.*unpack"):
        prepare_iemocap(root, expected_total=None)
    for path in (root / "Session2" / "dialog" / "EmoEvaluation").iterdir():
        path.unlink()
    wav.touch()
    with pytest.raises(UserError, match="Session2/dialog/EmoEvaluation: holds no"):
        prepare_iemocap(root, expected_total=None)


def test_an_evaluation_that_is_not_utf_8(tmp_path):
    make_corpus(tmp_path)
    path = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(UserError, match="Ses01F_impro01.txt: is not UTF-8 text"):
        prepare_iemocap(tmp_path, expected_total=None)


@pytest.mark.parametrize("utt", ["Ses02F_impro01_F000", "Ses01F_impro01_X000"])
def test_foreign_ids_are_refused(tmp_path, utt):
    make_corpus(tmp_path)
    path = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    with open(path, "a") as stream:
        stream.write(f"[1.0000 - 2.0000]\t{utt}\tang\t[1.0, 1.0, 1.0]\n")
    with pytest.raises(UserError, match=f"'{utt}' is not an utterance id of session 1"):
        prepare_iemocap(tmp_path, expected_total=None)
