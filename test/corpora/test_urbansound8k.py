from collections import Counter

import pytest

from espnet_tse_ser.corpora.esc50 import prepare_esc50
from espnet_tse_ser.corpora.urbansound8k import CLASSES, prepare_urbansound8k
from espnet_tse_ser.errors import UserError

SIZES = (873, 888, 925, 990, 936, 823, 838, 806, 816, 837)  # of the ten folds: 8732 clips


def make_corpus(root, suffix=".wav", sizes=SIZES):
    """Empty files, as many as the full corpus has in each fold; four slices a source."""
    for fold, size in enumerate(sizes, 1):
        (root / f"fold{fold}").mkdir(parents=True)
        (root / f"fold{fold}" / ".DS_Store").touch()  # the official archive has them
        for number in range(size):
            source = 10000 * fold + number // 4
            name = f"{source}-{source % 10}-0-{number % 4}{suffix}"
            (root / f"fold{fold}" / name).touch()
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "UrbanSound8K"
    make_corpus(root / "audio")
    (root / "metadata").mkdir()
    (root / "metadata/UrbanSound8K.csv").write_text("slice_file_name,fsID\n")
    return root


def test_the_full_corpus(corpus):
    noises = prepare_urbansound8k(corpus)
    assert len(noises) == 8732 and noises == sorted(noises, key=lambda n: n.utt)
    assert len({n.group for n in noises}) == sum(-(-size // 4) for size in SIZES)
    assert {n.fold for n in noises} == {None}
    first = noises[0]
    assert (first.utt, first.group) == ("us8k-10000-0-0-0", "fs10000")
    assert first.wav == str(corpus / "audio/fold1/10000-0-0-0.wav")


def test_classes(corpus):
    silent = [name for name in CLASSES if name not in ("children_playing", "street_music")]
    noises = prepare_urbansound8k(corpus, classes=silent)
    assert set(Counter(n.utt.split("-")[2] for n in noises)) == set("01345678")


def test_folds_directly_below_the_root_and_incomplete_ones(tmp_path):
    with pytest.raises(UserError, match="is not an UrbanSound8K root, there is no sound in fold1"):
        prepare_urbansound8k(tmp_path)
    root = make_corpus(tmp_path / "some", ".flac", (3, 5))
    assert len(prepare_urbansound8k(root, complete=False)) == 8
    with pytest.raises(UserError, match="fold1: clips: 3 found, 873 expected; unpack the archi"):
        prepare_urbansound8k(root)
    (root / "fold2/10000-0-0-0.wav").touch()
    with pytest.raises(UserError, match="fold2/10000-0-0-0.wav: .*fold1/10000-0-0-0.flac has the"):
        prepare_urbansound8k(root, complete=False)
    (root / "fold2/10000-0-0-0.wav").rename(root / "fold2/10000-0.wav")
    with pytest.raises(UserError, match="fold2/10000-0.wav: the name is not <source>-<class>"):
        prepare_urbansound8k(root, complete=False)


def test_a_recording_is_the_same_group_in_esc50(tmp_path):
    for name in ("audio/1-100032-A-0.wav", "city/fold5/100032-3-0-0.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (one,) = prepare_esc50(tmp_path, complete=False)
    (other,) = prepare_urbansound8k(tmp_path / "city", complete=False)
    assert one.group == other.group == "fs100032" and one.utt != other.utt
