import pytest
from test_esc50 import make_corpus as make_esc50
from test_folder import make_corpus as make_folder
from test_iemocap import make_corpus as make_iemocap
from test_librispeech import make_corpus as make_librispeech
from test_musan import make_corpus as make_musan
from test_ravdess import make_corpus as make_ravdess
from test_urbansound8k import make_corpus as make_urbansound8k
from tiny_corpora import write_esd

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.corpora import Utterance, write_data_dir
from espnet_tse_ser.corpora.esc50 import prepare_esc50
from espnet_tse_ser.corpora.esd import prepare_esd
from espnet_tse_ser.corpora.folder import prepare_folder
from espnet_tse_ser.corpora.iemocap import prepare_iemocap
from espnet_tse_ser.corpora.librispeech import prepare_librispeech
from espnet_tse_ser.corpora.musan import prepare_musan
from espnet_tse_ser.corpora.ravdess import prepare_ravdess
from espnet_tse_ser.corpora.urbansound8k import prepare_urbansound8k
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


@pytest.mark.parametrize("name", ["a,b", "a/b", "../a", "a b", "a\u200b", "a\n"])
@pytest.mark.parametrize("field", ["utt", "spk", "emo"])
def test_names_that_are_no_ids_are_refused_with_their_file(tmp_path, name, field):
    """They come from the names of files and directories of a corpus."""
    fields = dict(utt="a-1", wav="/w/x.wav", spk="a", gender="f", emo="ang") | {field: name}
    with pytest.raises(UserError, match="^/w/x.wav: .* cannot be an id: it .*; rename"):
        write_data_dir([Utterance(**fields)], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fold", ["01", "A", "1.0", ""])
def test_folds_that_are_no_numbers_are_refused(tmp_path, fold):
    with pytest.raises(UserError, match=f"^/w/x.wav: '{fold}' cannot be a fold: .* whole number"):
        write_data_dir([Utterance("a-1", "/w/x.wav", "a", "f", "ang", fold)], tmp_path)


def _make_ravdess(root):
    make_ravdess(root)
    return lambda: prepare_ravdess(root)


def _make_esd(root):
    write_esd(root, ["0011", "0015"])
    return lambda: prepare_esd(root, complete=False)


def _make_iemocap(root):
    make_iemocap(root)
    return lambda: prepare_iemocap(root, expected_total=5)


def _make_librispeech(root):
    make_librispeech(root, {19: "F", 61: "M"})
    return lambda: prepare_librispeech(root, complete="speakers")


def _make_esc50(root):
    make_esc50(root, folds=1)
    return lambda: prepare_esc50(root, complete=False)


def _make_musan(root):
    make_musan(root, ["noise/sound-bible"])
    return lambda: prepare_musan(root, subsets=["noise/sound-bible"])


def _make_urbansound8k(root):
    make_urbansound8k(root, sizes=(3, 5))
    return lambda: prepare_urbansound8k(root, complete=False)


def _make_folder(root):
    make_folder(root, ["a/b.wav", "c.ogg"])
    return lambda: prepare_folder(root)


SPEECH = (_make_ravdess, _make_esd, _make_iemocap, _make_librispeech)
NOISE = (_make_esc50, _make_musan, _make_urbansound8k, _make_folder)


@pytest.mark.parametrize("make", [*SPEECH, *NOISE])
def test_hidden_files_are_no_part_of_a_corpus(tmp_path, make):
    """A twin ``._x`` of each file and directory, as macOS leaves them, and what others leave."""
    prepare = make(tmp_path / "corpus")
    expected = prepare()
    places = [tmp_path / "corpus", *sorted((tmp_path / "corpus").rglob("*"))]
    for place in places:
        place.with_name(f"._{place.name}").write_bytes(b"\x00\x05\x16\x07")
        if place.is_dir():
            (place / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")
            (place / ".nfs0001").touch()
            (place / ".AppleDouble").mkdir()
            for file in places:
                if file.parent == place and file.is_file():
                    (place / ".AppleDouble" / file.name).write_bytes(b"\x00\x05\x16\x07")
    assert prepare() == expected and expected
