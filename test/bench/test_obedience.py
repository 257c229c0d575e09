"""Whom an extractor extracts, against scores of the same outputs made here."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from bench import obedience
from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.extraction import load_extraction_model


def ratio(reference, estimate):
    """SI-SDR of zero-mean signals in dB."""
    reference, estimate = (x.astype(np.float64) - x.mean() for x in (reference, estimate))
    part = reference * (estimate @ reference) / (reference @ reference)
    return 10 * np.log10(part @ part / ((estimate - part) @ (estimate - part)))


@torch.no_grad()
def extracted(model, mixture, enrollment):
    given = []
    for samples in (mixture, enrollment):
        given += [torch.from_numpy(samples)[None], torch.tensor([len(samples)])]
    return model.extract(*given)[0][0].numpy()


def test_whom(tiny_mixtures, tse_dir, joint_dir, tmp_path, capsys):
    data_dir, ids = tiny_mixtures / "mix", tiny_mixtures / "table/splits/fold1/test.lst"
    given = ["--data_dir", str(data_dir), "--ids", str(ids)]
    output = tmp_path / "whom.tsv"
    models = [f"alone={tse_dir}", f"joint={joint_dir}"]
    assert run(obedience.main, [*given, "--output", str(output), *models]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in printed] == ["| model", "| ---", "| alone", "| joint"]
    rows = [row for row in read_tsv(output) if row["model"] == "alone"]
    assert [row["id"] for row in rows] == read_ids(ids)
    model, rate = load_extraction_model(tse_dir)
    names = {"mix": "wav", "target": "spk1", "interferer": "spk2", "enrollment": "enroll_spk1"}
    files = {key: read_table(data_dir / f"{name}.scp") for key, name in names.items()}
    for row in rows[:3]:
        signals = {}
        for key, table in files.items():
            signals[key], fs = soundfile.read(table[row["id"]], dtype="float32")
            assert fs == rate
        signals["own"] = np.trim_zeros(signals["interferer"])
        cases = {"usual": ("mix", "enrollment"), "own": ("mix", "own")}
        cases["alone"] = ("target", "enrollment")
        found = {
            case: extracted(model, *(signals[name] for name in names))
            for case, names in cases.items()
        }
        target, interferer = signals["target"], signals["interferer"]
        improvement = ratio(target, found["usual"]) - ratio(target, signals["mix"])
        assert float(row["si_sdri"]) == pytest.approx(improvement, abs=0.01)
        wrong = ratio(interferer, found["usual"]) > ratio(target, found["usual"])
        assert int(row["wrong_speaker"]) == wrong
        disobeys = ratio(target, found["own"]) > ratio(interferer, found["own"])
        assert int(row["disobeys"]) == disobeys
        assert float(row["own_si_sdr"]) == pytest.approx(ratio(interferer, found["own"]), abs=0.01)
        assert float(row["alone_si_sdr"]) == pytest.approx(ratio(target, found["alone"]), abs=0.01)


def test_messages(tiny_mixtures, tse_dir, monkeypatch, capsys):
    data_dir, ids = tiny_mixtures / "mix", tiny_mixtures / "table/splits/fold1/test.lst"
    given = ["--data_dir", str(data_dir), "--ids", str(ids)]
    for models in ([str(tse_dir)], [f"a={tse_dir}", f"a={tse_dir}"]):
        assert run(obedience.main, [*given, *models]) == 2
        assert "expected NAME=MODEL, each of a name of its own" in capsys.readouterr().err
    denoiser = SimpleNamespace(needs_enrollment=False)
    monkeypatch.setattr(obedience, "front_end_of", lambda path: denoiser)
    assert run(obedience.main, [*given, "a=denoiser"]) == 2
    assert "denoiser: takes no enrollment that it could obey" in capsys.readouterr().err
