import pytest

from espnet_tse_ser.corpora.speechocean762 import prepare_speechocean762
from espnet_tse_ser.errors import UserError


def make_corpus(root, speakers=125, utterances=20):
    """Empty files in the layout of the archive, whose tables have tabs."""
    number = 0
    for subset in ("train", "test"):
        (root / subset).mkdir(parents=True)
        tables = {name: "" for name in ("wav.scp", "utt2spk", "spk2gender", "spk2age")}
        for _ in range(speakers):
            number += 1
            spk = f"{number:04d}"
            tables["spk2gender"] += f"{spk}\t{'mf'[number % 2]}\n"
            tables["spk2age"] += f"{spk}\t{8 if number % 5 == 0 else 30}\n"
            directory = root / "WAVE" / f"SPEAKER{spk}"
            directory.mkdir(parents=True)
            for k in range(utterances):
                utt = f"{number:05d}{k:04d}"
                tables["wav.scp"] += f"{utt}\tWAVE/SPEAKER{spk}/{utt}.WAV\n"
                tables["utt2spk"] += f"{utt}\t{spk}\n"
                (directory / f"{utt}.WAV").touch()
        for name, text in tables.items():
            (root / subset / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def test_the_full_corpus(corpus):
    utterances = prepare_speechocean762(corpus)
    assert len(utterances) == 5000 and utterances == sorted(utterances, key=lambda u: u.utt)
    first = utterances[0]
    assert (first.utt, first.spk, first.gender) == ("so0001-000010000", "so0001", "f")
    assert first.wav == str(corpus / "WAVE/SPEAKER0001/000010000.WAV")
    adults = prepare_speechocean762(corpus, min_age=16)
    assert {u.spk for u in adults} == {u.spk for u in utterances if int(u.spk[2:]) % 5}
    assert len(prepare_speechocean762(corpus, subsets=["test"])) == 2500


def test_parts_share_no_speaker(corpus):
    parts = [prepare_speechocean762(corpus, parts=(80, 20), part=part) for part in (1, 2)]
    first, second = ({u.spk for u in part} for part in parts)
    assert len(first) == 200 and len(second) == 50 and not first & second


def test_what_is_missing_is_said(corpus, tmp_path):
    with pytest.raises(UserError, match="wav.scp: no such file; give the directory that speechoc"):
        prepare_speechocean762(tmp_path)
    root = make_corpus(tmp_path / "some", 2, 2)
    with pytest.raises(UserError, match="spk2gender: lines: 2 found, 125 expected; get the archi"):
        prepare_speechocean762(root)
    assert len(prepare_speechocean762(root, complete=False)) == 8
    (root / "WAVE/SPEAKER0001/000010001.WAV").unlink()
    with pytest.raises(UserError, match="SPEAKER0001/000010001.WAV: no such recording, and 0 oth"):
        prepare_speechocean762(root, complete=False)
    (root / "WAVE/SPEAKER0001/000010001.WAV").touch()
    with pytest.raises(UserError, match="spk2age: line 1: expected a speaker and a whole numb"):
        (root / "test/spk2age").write_text("0003\ttwelve\n")
        prepare_speechocean762(root, complete=False, min_age=3)
    lines = (root / "train/utt2spk").read_text().splitlines(keepends=True)
    (root / "train/utt2spk").write_text("".join(lines[1:]))
    with pytest.raises(UserError, match="train: wav.scp and utt2spk differ, e.g. in 000010000;"):
        prepare_speechocean762(root, complete=False)
    (root / "test/utt2spk").write_text("a b c\n")
    with pytest.raises(UserError, match="test/utt2spk: line 1: expected two fields"):
        prepare_speechocean762(root, subsets=["test"], complete=False)
