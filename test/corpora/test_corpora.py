import pytest

from espnet_tse_ser.corpora import Utterance, write_data_dir
from espnet_tse_ser.data.kaldi_dir import read_table
from espnet_tse_ser.errors import UserError

WHOLE = [
    Utterance("a-2", "/w/a2.wav", "a", "f", "ang", "1"),
    Utterance("a-1", "/w/a1.wav", "a", "f", "sad", "1"),
    Utterance("b-1", "/w/b1.wav", "b", "m", "neu", "2"),
]


def test_whole_files_with_emotions_and_folds(tmp_path):
    write_data_dir(WHOLE, tmp_path)
    assert read_table(tmp_path / "wav.scp") == {
        "a-1": "/w/a1.wav",
        "a-2": "/w/a2.wav",
        "b-1": "/w/b1.wav",
    }
    assert read_table(tmp_path / "utt2spk") == {"a-1": "a", "a-2": "a", "b-1": "b"}
    assert read_table(tmp_path / "spk2utt") == {"a": "a-1 a-2", "b": "b-1"}
    assert read_table(tmp_path / "spk2gender") == {"a": "f", "b": "m"}
    assert read_table(tmp_path / "utt2emo") == {"a-1": "sad", "a-2": "ang", "b-1": "neu"}
    assert read_table(tmp_path / "utt2fold") == {"a-1": "1", "a-2": "1", "b-1": "2"}
    assert not (tmp_path / "segments").exists()


def test_segments_share_a_recording(tmp_path):
    pieces = [
        Utterance("a-x-0", "/w/x.wav", "a", "f", start=0.0, end=4.0),
        Utterance("a-x-1", "/w/x.wav", "a", "f", start=4.0, end=6.1234),
    ]
    write_data_dir(pieces, tmp_path)
    assert read_table(tmp_path / "wav.scp") == {"x": "/w/x.wav"}
    assert read_table(tmp_path / "segments") == {"a-x-0": "x 0.000 4.000", "a-x-1": "x 4.000 6.123"}
    assert not (tmp_path / "utt2emo").exists()


def test_files_of_an_earlier_run_do_not_stay(tmp_path):
    write_data_dir([Utterance("a-x", "/w/x.wav", "a", "f", start=0.0, end=1.0)], tmp_path)
    write_data_dir(WHOLE, tmp_path)
    assert not (tmp_path / "segments").exists()
    write_data_dir([Utterance("a-x", "/w/x.wav", "a", "f")], tmp_path)
    assert not (tmp_path / "utt2emo").exists() and not (tmp_path / "utt2fold").exists()


@pytest.mark.parametrize(
    "utterances, message",
    [
        ([], "no utterance"),
        ([Utterance("a-1", "/x", "a", "f")] * 2, "duplicate utterance id 'a-1'"),
        ([Utterance("a-1", "/x", "b", "f")], "must begin with its speaker id 'b'"),
        ([Utterance("a-1", "/x", "a", "F")], "gender 'F'"),
        (
            [Utterance("a-1", "/x", "a", "f"), Utterance("a-2", "/y", "a", "m")],
            "speaker 'a' has gender",
        ),
        (
            [
                Utterance("a-1", "/p/x.wav", "a", "f", start=0.0, end=1.0),
                Utterance("a-2", "/q/x.wav", "a", "f", start=0.0, end=1.0),
            ],
            "have the same name",
        ),
    ],
)
def test_bad_tables_are_refused(tmp_path, utterances, message):
    with pytest.raises(UserError, match=message):
        write_data_dir(utterances, tmp_path)
    assert not (tmp_path / "wav.scp").exists()
