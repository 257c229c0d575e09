"""Extraction of readers with other utterances of theirs, against scores made here."""

import numpy as np
import pytest
import soundfile

from bench import read_speech
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.inference.model import front_end_of
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr


@pytest.fixture
def corpus(tmp_path):
    """Two women and a man with two utterances each, of which one is short."""
    random, root = np.random.default_rng(0), tmp_path / "LibriSpeech"
    lines = []
    for speaker, gender in (("1", "F"), ("2", "F"), ("3", "M")):
        folder = root / "test-other" / speaker / "7"
        folder.mkdir(parents=True)
        lines.append(f"{speaker} | {gender} | test-other | 1 | A Name\n")
        for number, length in enumerate((9000, 4000)):
            samples = 0.1 * random.standard_normal(length)
            soundfile.write(folder / f"{speaker}-7-{number:04}.flac", samples, 16000)
    (root / "SPEAKERS.TXT").write_text("".join(lines))
    return root


def test_readers(corpus, tse_dir, tmp_path, capsys):
    output = tmp_path / "a.tsv"
    given = ["--corpus", str(corpus), "--output", str(output)]
    assert run(read_speech.main, [*given, f"a={tse_dir}"]) == 0
    cells = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    rows = read_tsv(output)
    assert cells[:2] == ["a", "6"] and len({row["target"] for row in rows}) == 6
    files = {f"ls{path.stem}": path for path in corpus.rglob("*.flac")}
    front_end, gains = front_end_of(tse_dir), []
    for row in rows:
        people = [row[name].split("-")[0] for name in ("target", "interferer", "enrollment")]
        assert people[0] == people[2] != people[1] and row["target"] != row["enrollment"]
        assert (row["genders"] == "same") == ({*people} == {"ls1", "ls2"})
        target, interferer, enrollment = (
            soundfile.read(files[row[name]], dtype="float32")[0]
            for name in ("target", "interferer", "enrollment")
        )
        if len(interferer) > len(target):
            continue  # cut at random
        interferer = np.tile(interferer, 3)[: len(target)]
        interferer *= np.linalg.norm(target) / np.linalg.norm(interferer)
        (estimate,) = extract(front_end, [target + interferer], [enrollment])
        gain = si_sdr(target, estimate) - si_sdr(target, target + interferer)
        assert float(row["si_sdri"]) == pytest.approx(gain, abs=1e-3)
        wrong = is_wrong_speaker(estimate, target, [interferer])
        assert int(row["wrong_speaker"]) == wrong
        gains.append(gain)
    assert len(gains) >= 3
    mean = np.mean([float(row["si_sdri"]) for row in rows])
    assert float(cells[2].split(" [")[0]) == pytest.approx(mean, abs=0.01)


def test_what_cannot_be_drawn(corpus, tse_dir, capsys):
    for path in (corpus / "test-other/3/7").glob("*-0001.flac"):
        path.unlink()
    assert run(read_speech.main, ["--corpus", str(corpus), f"a={tse_dir}"]) == 2
    assert "'ls3-7-0000' needs another utterance of ls3" in capsys.readouterr().err
