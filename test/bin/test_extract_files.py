"""Extraction of recordings by a front-end, or by that of a joint model."""

import json

import numpy as np
import pytest
import soundfile

from espnet_tse_ser import errors
from espnet_tse_ser.bin import extract_files
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.frontends.loading import load_front_end
from espnet_tse_ser.inference.model import TSESER

RATE = 16000


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in "mne":
        soundfile.write(f"{name}.wav", 0.1 * rng.standard_normal(20000), RATE)

    def run(model_dir, *words):
        status = errors.run(extract_files.main, [*words, f"--model_dir={model_dir}"])
        out, err = capsys.readouterr()
        return status, [json.loads(line) for line in out.splitlines()], err

    return run


def _read(name):
    return soundfile.read(name, dtype="float32")[0]


@pytest.mark.parametrize("more", [[], ["--window_seconds=1"]])
def test_a_front_end(run, tse_dir, more):
    status, (result,), _ = run(tse_dir, "m.wav", "e.wav", "--output_wav=o.wav", *more)
    assert status == 0 and result["output"] == "o.wav" and result["seconds"] == 1.25
    assert result["warnings"] == [] and "label" not in result
    mixture = _read("m.wav") - _read("m.wav").mean()
    enrollment = _read("e.wav") - _read("e.wav").mean()
    (expected,) = extract(load_front_end(tse_dir), [mixture], [enrollment])
    error = np.abs(_read("o.wav") - expected)
    assert error.max() < (1.6 / 32768 if not more else 0.1)


def test_many_by_a_joint_model(run, joint_dir, tmp_path):
    command = ("m.wav", "n.wav", "none.wav", "--enrollment=e.wav", "--output_dir=o")
    status, results, err = run(joint_dir, *command, "--output=r.tsv")
    assert (status, results) == (2, []) and "1 of 3 recordings could not be used" in err
    assert [line.split("\t")[0] for line in (tmp_path / "r.tsv").read_text().splitlines()] == [
        "id", "m.wav", "n.wav",
    ]  # fmt: skip
    expected = TSESER.from_pretrained(joint_dir)(_read("n.wav"), _read("e.wav")).speech
    np.testing.assert_allclose(_read("o/n.wav"), expected, atol=2 / 32768)


def test_an_enhancer_takes_no_enrollment(run, enhancer_dir):
    assert run(enhancer_dir, "m.wav", "--output_wav=o.wav")[0] == 0
    status, _, err = run(enhancer_dir, "m.wav", "e.wav", "--output_wav=o.wav")
    assert status == 2 and "takes no enrollment, which the second of two files is" in err


def test_bad_options(run, tse_dir, ser_dir, tmp_path):
    assert "where to? give --output_wav" in run(tse_dir, "m.wav", "e.wav")[2]
    assert "needs --enrollment, its" in run(tse_dir, "m.wav", "--output_wav=o.wav")[2]
    line = run(ser_dir, "m.wav", "e.wav", "--output_wav=o.wav")[2]
    assert "is a recogniser, which extracts nothing" in line
    assert "m.wav: is an input as well" in run(tse_dir, "m.wav", "e.wav", "--output_wav=m.wav")[2]
    assert "config.yaml: no such file" in run(tmp_path, "m.wav", "e.wav", "--output_wav=o.wav")[2]
