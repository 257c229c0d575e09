import hashlib
from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.corpora.esd import prepare_esd
from espnet_tse_ser.corpora.espeak import RATE, Speech, speak_all
from espnet_tse_ser.corpora.iemocap import prepare_iemocap
from espnet_tse_ser.corpora.librispeech import prepare_librispeech
from espnet_tse_ser.corpora.mini import ESD_DIR, IEMOCAP_DIR, LIBRISPEECH_DIR, make_mini
from espnet_tse_ser.errors import UserError


@pytest.fixture
def corpus(mini_corpora):
    return mini_corpora


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(str(p.relative_to(root)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def test_same_seed_same_bytes_after_one_that_was_killed(corpus, tmp_path):
    for path in (min(corpus.rglob("*.flac")), max(corpus.rglob("*.wav"))):
        left = tmp_path / path.relative_to(corpus).with_name(f".tmp.1.{path.name}")
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half")
    make_mini(tmp_path, seed=0)
    assert digest(tmp_path) == digest(corpus)


def test_real_preparation_reads_it_as_iemocap(corpus):
    utterances = prepare_iemocap(corpus / IEMOCAP_DIR, expected_total=320)
    counts = Counter((u.spk, u.emo) for u in utterances)
    assert len(counts) == 10 * 4 and set(counts.values()) == {8}
    assert Counter(u.fold for u in utterances) == dict.fromkeys("12345", 64)
    text = "".join(p.read_text() for p in (corpus / IEMOCAP_DIR).rglob("*.txt"))
    assert all(f"\t{label}\t[" in text for label in ("hap", "exc", "fru", "xxx"))
    seconds = np.array([soundfile.info(u.wav).duration for u in utterances])
    assert seconds.min() > 0.6 and seconds.max() < 2.5 and 1.2 < seconds.mean() < 1.7


def test_real_preparation_reads_it_as_librispeech(corpus):
    utterances = prepare_librispeech(corpus / LIBRISPEECH_DIR, subsets=["train-mini"])
    assert len(utterances) == 600 and len({u.spk for u in utterances}) == 200
    assert Counter(u.gender for u in utterances) == {"f": 300, "m": 300}
    seconds = [soundfile.info(u.wav).duration for u in utterances]
    assert min(seconds) > 1.3 and max(seconds) < 5.0


def test_real_preparation_reads_it_as_esd(corpus):
    utterances = prepare_esd(corpus / ESD_DIR, complete=False)
    counts = Counter((u.spk, u.gender, u.emo) for u in utterances)
    assert len(counts) == 10 * 5 and set(counts.values()) == {2}
    # as many of each gender as IEMOCAP has folds
    assert Counter(g for _, g in {(u.spk, u.gender) for u in utterances}) == {"f": 5, "m": 5}
    lines = (corpus / ESD_DIR / "0015/0015.txt").read_text().splitlines()
    assert len(lines) == 10 and [len(line.split("\t")) for line in lines] == [3] * 10


def test_audio_is_natural(corpus):
    for path in (*corpus.rglob("*.wav"), *corpus.rglob("*.flac")):
        samples, rate = soundfile.read(path)
        assert rate == 16000 and samples.ndim == 1
        assert 0.03 < np.abs(samples).max() < 0.75, path


def test_finished_directory_is_left_alone(corpus):
    wav = next(corpus.rglob("*.wav"))
    before = wav.stat().st_mtime_ns
    make_mini(corpus, seed=0)
    assert wav.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="made as .*'seed': 0.* not as .*'seed': 1.*; remove"):
        make_mini(corpus, seed=1)


def test_parameters_shape_the_speech():
    text = "The old cat sat on the kitchen table."
    slow, fast, loud, soft = speak_all(
        [
            Speech(text, "en-us+m3", rate=120),
            Speech(text, "en-us+m3", rate=240),
            Speech(text, "en-us+m3", volume=80),
            Speech(text, "en-us+m3", volume=40),
        ]
    )
    assert len(slow) / RATE > 1.5 * len(fast) / RATE
    assert loud.std() > 1.7 * soft.std()


def test_unknown_voice():
    with pytest.raises(UserError, match="no voice 'klingon-xx'"):
        list(speak_all([Speech("Hello.", "klingon-xx")]))
