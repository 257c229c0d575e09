"""Calibration from mixtures of dev to a warning, and what it is worth on others."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from espnet_tse_ser import errors
from espnet_tse_ser.bin import calibrate, infer, recognize
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.inference.model_source import fingerprint


@pytest.fixture
def run(tiny_mixtures, joint_dir, tmp_path, monkeypatch, capfd):
    """Status, what is printed and what is said; the model is ``exp``."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(joint_dir, "exp")
    lists = tiny_mixtures / "table/splits/fold1"
    words = ["--model_dir=exp", f"--data_dir={tiny_mixtures / 'mix'}"]

    def run(*more, ids="dev", command=calibrate):
        status = errors.run(command.main, [*words, f"--ids={lists / ids}.lst", *more])
        return status, *capfd.readouterr()

    return run


def test_fit_and_evaluate(run, tiny_mixtures, tmp_path):
    scp = f"--scp={tiny_mixtures / 'mix/wav.scp'}"
    assert run(scp, "--output=a.tsv", ids="test", command=recognize)[0] == 0
    status, out, _ = run("--draws=1", "--table=dev.tsv")
    assert status == 0
    found = json.loads(out)
    made = (tmp_path / "exp/calibration.json").read_bytes()
    assert json.loads(made)["fitted_on"] == {"seed": 0, "draws": 1} | found
    count = found["trials"]["present"]
    assert found["trials"] == dict.fromkeys(("present", "wrong", "absent"), count)
    assert found["nll"]["after"] <= found["nll"]["before"]
    assert 0.5 < found["auc"]["wrong"]["all"]["value"] <= 1
    low, high = found["ece"]["before"]["interval"]
    assert low <= found["ece"]["before"]["value"] <= high
    rows = read_tsv("dev.tsv")
    assert len(rows) == 3 * count
    warned = [float(r["target_present"]) < 0.5 for r in rows if r["condition"] == "absent"]
    assert np.mean(warned) == pytest.approx(found["warned"]["absent"])
    # On others it is measured, and stays as it is; the same again.
    assert json.loads(run("--draws=1", "--evaluate")[1]) == found
    status, out, _ = run("--evaluate", "--form=markdown", ids="test")
    assert status == 0 and "| AUC present against wrong, gender all | 0." in out
    assert (tmp_path / "exp/calibration.json").read_bytes() == made
    # Folds together: here the same twice.
    dev = [str(tiny_mixtures / "table/splits/fold1/dev.lst")] * 2
    _, out, _ = run("--draws=1", "--evaluate", "--model_dir", "exp", "exp", "--ids", *dev)
    twice = json.loads(out)
    assert twice["trials"]["wrong"] == 2 * count and twice["speakers"] == found["speakers"]
    for once, both in ((found["auc"]["wrong"]["all"], twice["auc"]["wrong"]["all"]),
                       (found["ece"]["after"], twice["ece"]["after"])):  # fmt: skip
        assert both["value"] == pytest.approx(once["value"])
        assert both["interval"] == pytest.approx(once["interval"])
    assert run("--draws=1")[0] == 0 and (tmp_path / "exp/calibration.json").read_bytes() == made
    # Presence alone: the emotions keep their probabilities.
    presence = json.loads(made)["presence"]
    without = json.loads(run("--draws=1", "--presence_only")[1])
    assert without["nll"]["after"] == pytest.approx(without["nll"]["before"])
    assert json.loads((tmp_path / "exp/calibration.json").read_text())["presence"] == presence
    # Recipes give what they gave.
    assert run(scp, "--output=b.tsv", ids="test", command=recognize)[0] == 0
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_a_warning_comes_and_does_not(run, tmp_path, capfd, caplog, joint_dir):
    rng = np.random.default_rng(0)
    for name in "me":
        soundfile.write(f"{name}.wav", 0.1 * rng.standard_normal(48000), 16000)
    assert run("--draws=1")[0] == 0
    path = tmp_path / "exp/calibration.json"
    content = json.loads(path.read_text())
    model, weights = fingerprint("exp"), fingerprint(joint_dir)
    assert model.startswith(f"{weights}+")  # a new calibration makes other results

    def infer_with(bias, *more):
        presence = dict.fromkeys(content["presence"], 0) | {"bias": bias}
        path.write_text(json.dumps(content | {"presence": presence}))
        caplog.clear()
        assert errors.run(infer.main, ["--model_dir=exp", "m.wav", "e.wav", *more]) == 0
        return json.loads(capfd.readouterr().out), " ".join(caplog.messages)

    warning = "target may be missing: it is there with a probability of 0.27 (m.wav)"
    result, said = infer_with(-1)
    assert result["warnings"] == [warning] and warning in said
    assert result["target_present"] == 0.2689 and result["calibrated"] is True
    result, said = infer_with(1)
    assert result["warnings"] == [] and "missing" not in said and result["target_present"] == 0.7311
    parts = ("--window_seconds=1", "--segment_seconds=1")
    result, said = infer_with(-1, *parts)
    assert [s["target_present"] for s in result["segments"]] == [0.2689] * 3
    assert result["warnings"] == [warning.replace("0.27", "0.27 at most")]
    assert infer_with(1, *parts)[0]["warnings"] == []
    path.unlink()
    assert errors.run(infer.main, ["--model_dir=exp", "m.wav", "e.wav"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["target_present"] is None and result["calibrated"] is False
    assert result["warnings"] == [] and 0 <= result["over_suppressed"] <= 1


def test_evidence_is_in_the_table(run, tmp_path):
    status, _, _ = run("--draws=1", "--table=dev.tsv")
    weights = json.loads((tmp_path / "exp/calibration.json").read_text())["presence"]
    assert status == 0 and weights["voice"] != 0
    for row in read_tsv("dev.tsv"):
        logit = weights["bias"] + sum(
            weights[name] * float(row[name]) for name in weights if name != "bias"
        )
        assert float(row["target_present"]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
        assert -1 <= float(row["mixture_voice"]) <= 1 and -1 <= float(row["voice"]) <= 1


def test_what_cannot_be_calibrated(run, ser_dir, tmp_path):
    assert "exp: was not calibrated; do so without --evaluate" in run("--evaluate")[2]
    assert "--presence_only is of fitting; drop it" in run("--evaluate", "--presence_only")[2]
    for words in (["--model_dir=x.zip"], ["--model_dir", "exp", "exp", "--ids", "a", "b"]):
        assert "is written beside one model: give the directory of one" in run(*words)[2]
    assert "give as many --ids as --model_dir" in run("--model_dir", "exp", "exp")[2]
    line = run(f"--model_dir={ser_dir}")[2]
    assert "calibration is of joint models that take an enrollment" in line
    assert not (ser_dir / "calibration.json").exists()
    (tmp_path / "exp/calibration.json").write_text("{}")
    assert "exp/calibration.json: has no 'weights'" in run("--evaluate")[2]
