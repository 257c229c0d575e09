"""Stage 2 as a command."""

import pytest
from tiny_corpora import FOLDS, pool_options, write_corpora

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.bin.mixture_table import get_parser, main
from espnet_tse_ser.errors import run
from espnet_tse_ser.mixtures.table import read_mixtures


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"))


def draw(corpora, directory, *options):
    return run(main, [*pool_options(corpora), "--output_dir", str(directory), *options])


def contents(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*.*")}


def test_table_and_splits(corpora, tmp_path):
    assert draw(corpora, tmp_path / "a", "--seed", "3") == 0
    mixtures = read_mixtures(tmp_path / "a" / "mixtures.tsv")
    assert len(mixtures) == 30 and {m.seed for m in mixtures} == {3}
    fold_of = {m.mixture: m.fold for m in mixtures}
    for fold in FOLDS:
        sides = {
            s: read_ids(tmp_path / f"a/splits/fold{fold}/{s}.lst") for s in ("train", "dev", "test")
        }
        assert sorted(sum(sides.values(), [])) == sorted(fold_of)
        assert sides["test"] == sorted(u for u in fold_of if fold_of[u] == fold)
    draw(corpora, tmp_path / "b", "--seed", "3")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    draw(corpora, tmp_path / "c", "--seed", "4")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_options(corpora, tmp_path):
    options = ["--levels", "snr", "--snr_range", "3 3", "--num_sources", "2"]
    options += ["--gender_state", "same", "--dev_split", "utterance", "--dev_share", "0.5"]
    assert draw(corpora, tmp_path, *options) == 0
    for mixture in read_mixtures(tmp_path / "mixtures.tsv"):
        assert mixture.snr_db == pytest.approx(3, abs=0.01)
        assert len(mixture.sources) == 2 and mixture.gender_state == "same"
    train, dev = (read_ids(tmp_path / f"splits/fold1/{s}.lst") for s in ("train", "dev"))
    assert {u.split("-")[0] for u in train} == {u.split("-")[0] for u in dev}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--levels", "rms"], "levels: expected one of loudness, snr, got 'rms'"),
        (["--gender_state", "mixed"], "--gender_state must be one of random, same, different"),
        (["--num_sources", "9"], "add interferer speakers or take fewer interferers"),
        (["--neutral", "calm"], "has no other 'calm' utterance"),
        (["--dev_split", "word"], "--dev_split must be 'speaker' or 'utterance', got 'word'"),
        (["--dev_share", "0.9"], "leaves none to train on; add speakers"),
        (["--fs", "8000"], "rate is 16000 Hz, 8000 Hz is needed"),
        (["--targets", "/nowhere"], "/nowhere/wav.scp: no such file"),
    ],
)
def test_wrong_values(corpora, tmp_path, options, message, capsys):
    assert draw(corpora, tmp_path / "out", *options) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]
    assert not (tmp_path / "out" / "mixtures.tsv").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--sed", "1"], "unrecognized arguments: --sed"),
        (["--num_sources", "two"], "expected a whole number of 1 or more"),
    ],
)
def test_unknown_options(corpora, tmp_path, options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        draw(corpora, tmp_path, *options)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_required_options(capsys):
    with pytest.raises(SystemExit):
        get_parser().parse_args([])
    assert "--targets, --output_dir" in capsys.readouterr().err
