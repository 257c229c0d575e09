"""Mixture directories: what scores need is there, or there is no score."""

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.inference.scoring import score as score_of
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir, find_interferers

FS = 16000
IDS = ("a", "b", "c")
TALKERS = {"a": 1, "b": 2, "c": 1}  # interferers of each mixture


@pytest.fixture
def data(tmp_path):
    """Three mixtures as stage 4 leaves them; the second interferer of b is what is extracted."""
    rng = np.random.default_rng(0)
    tables = {name: {} for name in ("wav", "spk1", "spk2", "spk3", "enroll_spk1")}
    for utt in IDS:
        sources = 0.05 * rng.standard_normal((4, 4000))
        signals = {"wav": sources[: 2 + TALKERS[utt]].sum(0), "enroll_spk1": sources[3]}
        signals |= {f"spk{1 + k}": sources[k] for k in range(1 + TALKERS[utt])}
        for name, signal in signals.items():
            tables[name][utt] = tmp_path / f"{name}_{utt}.flac"
            soundfile.write(tables[name][utt], signal, FS)
    for name, table in tables.items():
        write_table(tmp_path / f"{name}.scp", table)
    write_table(tmp_path / "utt2emo", dict.fromkeys(IDS, "neu"))
    write_table(tmp_path / "utt2num_samples", dict.fromkeys(IDS, 4000))
    rows = [{"mixture": u, "interferers": ",".join("xy"[: TALKERS[u]])} for u in IDS]
    write_tsv(tmp_path / "mixtures.tsv", rows, ["mixture", "interferers"])
    return tmp_path


def score(data, utt="b"):
    """What is extracted of it is the last talker."""
    path = data / f"spk{1 + TALKERS[utt]}_{utt}.flac"
    return score_of(MixtureDir(data, IDS, FS, scored=True), utt, soundfile.read(path)[0])


def test_a_wrong_speaker(data):
    for utt in IDS:
        assert score(data, utt)["wrong_speaker"] == 1
    found = find_interferers(data, ["b", "c"])
    assert {utt: len(paths) for utt, paths in found.items()} == {"b": 2, "c": 1}
    data_of = MixtureDir(data, IDS, FS)
    assert [len(data_of.interferers(utt)) for utt in IDS] == [1, 2, 1]


def without(data, name, utt):
    table = read_table(data / name)
    write_table(data / name, {u: path for u, path in table.items() if u != utt})


def with_more(data, name, utt):
    table = read_table(data / name)
    write_table(data / name, table | {utt: table["b"]})


SPOILED = {
    "a line of spk2.scp": (lambda d: without(d, "spk2.scp", "a"), "spk2.scp: has no line for 'a'"),
    "another": (lambda d: without(d, "spk2.scp", "b"), "spk2.scp: has no line for 'b'"),
    "spk2.scp": (lambda d: (d / "spk2.scp").unlink(), "spk2.scp: no such file"),
    "spk3.scp": (
        lambda d: (d / "spk3.scp").unlink(),
        "spk3.scp: no such file, but 'b' has 2 interferer.s. by /[^ ]*/mixtures.tsv; run",
    ),
    "both": (lambda d: [(d / f"spk{k}.scp").unlink() for k in "23"], "spk2.scp: no such file"),
    "one too many": (lambda d: with_more(d, "spk3.scp", "c"), "spk3.scp: has a line too many"),
    "a line of the mixture table": (
        lambda d: write_tsv(
            d / "mixtures.tsv", [{"mixture": "a", "interferers": "x"}] * 1, COLUMNS
        ),
        "mixtures.tsv: 2 of 3 id.* missing, first 'b'",
    ),
    "an old mixture table": (
        lambda d: write_tsv(d / "mixtures.tsv", [{"mixture": "a"}], ["mixture"]),
        "interferers missing",
    ),
}
COLUMNS = ["mixture", "interferers"]


@pytest.mark.parametrize("kind", SPOILED)
def test_what_a_score_needs_is_there(data, kind):
    spoil, message = SPOILED[kind]
    spoil(data)
    with pytest.raises(UserError, match=message):
        MixtureDir(data, IDS, FS, scored=True)
    MixtureDir(data, IDS, FS).audio("mix", "a")  # which needs no interferers


def test_a_directory_of_a_users_own(data):
    (data / "mixtures.tsv").unlink()
    assert score(data)["wrong_speaker"] == 1
    without(data, "spk2.scp", "a")
    with pytest.raises(UserError, match="spk2.scp: has no line for 'a', which has 1 interferer"):
        MixtureDir(data, IDS, FS, scored=True)
    assert MixtureDir(data, ["b", "c"], FS, scored=True).ids == ["b", "c"]
    for number in "23":
        (data / f"spk{number}.scp").unlink()
    assert find_interferers(data, IDS) is None
    unknown = score(data)
    assert unknown["wrong_speaker"] == "" and float(unknown["si_sdr"]) < 0


@pytest.mark.parametrize("name", ["wav", "spk1", "spk2"])
def test_signals_of_another_length(data, name):
    path = data / f"{name}_a.flac"
    samples, _ = soundfile.read(path)
    for other in (samples[:-1], np.append(samples, 0.01)):
        soundfile.write(path, other, FS)
        mixtures = MixtureDir(data, IDS, FS, scored=True)
        message = f"'a': {path}: has {len(other)} samples, but utt2num_samples says 4000"
        with pytest.raises(UserError, match=message):
            score_of(mixtures, "a", samples.astype(np.float32))


@pytest.mark.parametrize("name", ["wav", "spk1", "enroll_spk1"])
def test_other_rates_and_channels(data, name):
    path = data / f"{name}_a.flac"
    samples, _ = soundfile.read(path)
    for other, rate, message in (
        (samples, 8000, "rate is 8000 Hz, 16000 Hz is needed"),
        (np.stack([samples, samples], 1), FS, "has 2 channels but 1 is needed"),
        (0 * samples, FS, "is silent"),
    ):
        soundfile.write(path, other, rate)
        with pytest.raises(UserError, match=f"'a': {path}: {message}"):
            MixtureDir(data, IDS, FS).example(None, "a")
