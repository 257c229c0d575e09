"""The whole mini recipe, every stage, with networks of debug size; then what the README does."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import yaml
from recipes import ROOT, named_sweeps, run_recipe
from tiny_ssl import write_weights

from espnet_tse_ser.files import read_tsv

CLEAN = "clean_clean clean_noisy clean_denoised"
SYSTEMS = {"clean_clean", "clean_noisy", "noisy_noisy", "clean_denoised", "base", "ft"}


@pytest.fixture(scope="module")
def recipe(mini_recipe):
    """These tests add to it, under names of their own."""
    return mini_recipe


def test_results_hold_every_system_and_fold(recipe):
    results = json.loads((recipe / "exp/results.json").read_text())["results"]
    assert {r["system"] for r in results} == SYSTEMS
    for system in SYSTEMS:
        folds = {r["fold"]: r["n"] for r in results if r["system"] == system}
        assert folds == {"1": 64, "2": 64, "all": 128}
    ft = next(r for r in results if r["system"] == "ft" and r["fold"] == "all")
    low, high = ft["ua_ci"]
    assert 0 <= low <= ft["ua"] <= high <= 1
    assert ft["si_sdri"] == pytest.approx(ft["si_sdr"] - ft["si_sdr_mix"], abs=1e-5)
    assert {"same", "different"} == set(ft["by_gender_state"])


def test_plots_archives_and_table_are_there(recipe):
    assert "TSE-SER-ft" in (recipe / "exp/RESULTS.md").read_text()
    assert len(list((recipe / "exp/plots").glob("*.png"))) >= 3
    assert len(list((recipe / "exp").glob("tse_ser_*/fold*.zip"))) == 2


def test_a_second_run_recomputes_nothing(recipe):
    before = {p: p.stat().st_mtime_ns for d in ("dump", "exp") for p in (recipe / d).rglob("*.*")}
    start = time.monotonic()
    output = run_recipe(recipe, "--python", "python3")  # a server would have to start
    assert time.monotonic() - start < 15
    assert "done already" in output
    after = {p: p.stat().st_mtime_ns for d in ("dump", "exp") for p in (recipe / d).rglob("*.*")}
    assert after == before


def test_features_of_a_frozen_frontend_are_kept(recipe):
    config = yaml.safe_load((recipe / "conf/train_ser_ssl_debug.yaml").read_text())
    write_weights(recipe / "data/ssl_debug.pt", arch=config["frontend_conf"]["arch_conf"])
    options = ["--expdir", "exp_ssl", "--ser_config", "conf/train_ser_ssl_debug.yaml"]
    options += ["--folds", "1", "--nj", "1", "--systems", CLEAN]
    run_recipe(recipe, *options, "--stage", "ser_stats", "--stop_stage", "ser")
    assert [p.name for p in (recipe / "dump/feats_ssl_debug").iterdir()] == ["clean"]
    run_recipe(recipe, *options, "--stage", "infer", "--stop_stage", "infer")
    scores = recipe / "exp_ssl/scores"
    for system, feats in (
        ("clean_clean/ssl_debug", "clean"),
        ("clean_noisy/ssl_debug", "noisy"),
        ("clean_denoised/debug+ssl_debug", "denoised_debug"),
    ):
        assert len((scores / system / "fold1/hyp.tsv").read_text().splitlines()) == 1 + 64
        command = (scores / system / "fold1/.done").read_text()
        assert f"--feats dump/feats_ssl_debug/{feats}\n" in command
        table = (recipe / "dump/feats_ssl_debug" / feats / "feats.scp").read_text()
        assert len(table.splitlines()) >= 128
    assert "--feats" not in (recipe / "exp/scores/ft/debug/fold1/.done").read_text()
    trained = (recipe / "exp_ssl/ser_clean_ssl_debug/fold1/log/ser_train.log").read_text()
    assert "feats.scp" in trained and "2epoch results" in trained


def test_the_readme_commands_run_on_what_was_trained(recipe):
    readme = (ROOT / "README.md").read_text()
    shell = next(b for b in re.findall(r"```bash\n(.*?)```", readme, re.S) if "tse-ser infer" in b)
    shell = shell.replace("tse_ser_ft_default", "tse_ser_ft_debug")
    shell = f'tse-ser() {{ {sys.executable} -m espnet_tse_ser "$@"; }}\n{shell}'  # this tree's
    environment = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(
        ["bash", "-e", "-c", shell],
        cwd=recipe.parents[2],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["sample_rate"] == 16000
    assert set(answer["probabilities"]) == {"ang", "hap", "neu", "sad"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert (recipe / "exp/target.wav").stat().st_size > 1000

    python = next(b for b in re.findall(r"```python\n(.*?)```", readme, re.S))
    utt = (recipe / "data/mix/splits/fold1/test.lst").read_text().split()[0]
    read = "import soundfile\nread = lambda p: soundfile.read(p, dtype='float32')[0]\n"
    read += f"mixture = read('dump/mix/audio/mix/{utt}.flac')\nenrollment = mixture[:16000]\n"
    script = (
        read + python.replace("tse_ser_ft_default", "tse_ser_ft_debug") + "\nprint(result.label)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=recipe,
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in {"ang", "hap", "neu", "sad"}


def test_every_sweep_is_reported(recipe):
    names = set(named_sweeps(recipe).split())
    assert len(names) > 5
    for name in names:
        tables = (recipe / "exp/sweeps" / name).glob("*/debug/score_utt.tsv")
        assert {path.parent.parent.name for path in tables} == SYSTEMS
    sweeps = json.loads((recipe / "exp/sweeps.json").read_text())["sweeps"]
    assert {row["name"] for sweep in sweeps for row in sweep["rows"]} == {*names, "main"}
    text = (recipe / "exp/RESULTS_SWEEPS.md").read_text()
    for sweep in ("SNR, dB", "talkers", "overlap, %", "gender state", "interferers", "enrollment"):
        assert f"## {sweep}" in text
    assert "Scheme loso; dev: by speaker, 25.0 % of the training side; folds 1, 2" in text


def test_what_extraction_keeps(recipe):
    rows = read_tsv(recipe / "exp/preservation/ft_debug/preservation_utt.tsv")
    assert {row["condition"] for row in rows} == {"noisy", "denoised", "ft"}
    assert len(rows) == 3 * 128
    assert "KL" in (recipe / "exp/preservation/ft_debug/PRESERVATION.md").read_text()


def test_what_the_joint_model_puts_out_is_scored_as_a_front_end(recipe):
    signals = read_tsv(recipe / "exp/scores/ft/debug/signals/score_utt.tsv")
    rows = {row["id"]: row for row in read_tsv(recipe / "exp/scores/ft/debug/score_utt.tsv")}
    assert {row["id"] for row in signals} == rows.keys() and len(rows) == 128
    for row in signals:
        for column in ("si_sdr", "stoi", "wrong_speaker"):
            assert float(row[column]) == pytest.approx(float(rows[row["id"]][column]), abs=0.01)
        assert row["ssnr"] and row["tsos"]
    assert "TSOS" in (recipe / "exp/scores/ft/debug/signals/SIGNALS.md").read_text()


def run_set(recipe, tag, **options):
    """Run a further set of mixtures with these options; returns its results.json."""
    options = {"mix_tag": tag, "stage": "mixture_table", "stop_stage": "sweeps"} | options
    run_recipe(recipe, *(word for name in options for word in (f"--{name}", options[name])))
    return json.loads((recipe / f"exp/results_{tag}/results.json").read_text())


def table_of(recipe, tag):
    return read_tsv(recipe / f"data/mix_{tag}/mixtures.tsv")


def test_a_shared_encoder_extracts_and_recognises(recipe):
    results = run_set(recipe, "shared", systems="shared_tse", folds="1", stop_stage="results")
    (pooled,) = (r for r in results["results"] if r["fold"] == "all")
    assert pooled["system"] == "shared_tse" and pooled["n"] == 64 and pooled["si_sdri"] is not None
    text = (recipe / "exp/results_shared/RESULTS.md").read_text()
    assert "| Shared encoder, extraction | noisy | noisy | 64 |" in text
    assert "| shared encoder (shared_tse) | same |" in text


def test_interferers_from_the_emotional_corpus(recipe):
    results = run_set(
        recipe,
        "emo",
        source_set="emo",
        gender_state="different",
        systems="noisy_noisy",
        folds="1",
        sweeps="emotional",
    )
    assert {r["system"] for r in results["results"]} == {"noisy_noisy"}
    table = table_of(recipe, "emo")
    assert {row["interferer_emotions"] for row in table} == {"ang", "hap", "neu", "sad"}
    assert {row["gender_state"] for row in table} == {"different"}


def test_interferers_from_esd(recipe):
    results = run_set(
        recipe,
        "esd",
        local_data_opts="--esd true",
        source_set="esd",
        folds="1",
        systems="base",
        num_sources="2",
        stage="data",
    )
    assert {r["system"] for r in results["results"]} == {"base"}
    table = table_of(recipe, "esd")
    emotions = {e for row in table for e in row["interferer_emotions"].split(",")}
    assert {"ang", "neu"} <= emotions and {len(r["offsets"].split(",")) for r in table} == {2}


def test_dev_is_the_other_speaker_of_the_session(recipe):
    options = {"scheme": "loso_speaker", "folds": "1 10", "systems": "clean_noisy"}
    results = run_set(recipe, "speakers", **options, sweeps="gender_same")
    speaker = {row["mixture"]: row["speaker"] for row in table_of(recipe, "speakers")}
    for fold in ("1", "10"):
        lists = recipe / f"data/mix_speakers/splits/fold{fold}"
        who = {
            n: {speaker[u] for u in (lists / f"{n}.lst").read_text().split()}
            for n in ("train", "dev", "test")
        }
        assert [len(who[n]) for n in ("train", "dev", "test")] == [8, 1, 1]
        assert not who["dev"] & who["test"] and not who["train"] & (who["dev"] | who["test"])
    assert {r["fold"] for r in results["results"]} == {"1", "10", "all"}
    tested = read_tsv(recipe / "exp/sweeps_speakers/gender_same/clean_noisy/debug/score_utt.tsv")
    assert {(r["id"], r["fold"]) for r in tested} == {
        (row["mixture"], row["fold"])
        for row in table_of(recipe, "speakers")
        if row["fold"] in ("1", "10")
    }
    assert (
        "Scheme loso_speaker; dev: the rest of the test speaker's group, "
        in (recipe / "exp/results_speakers/RESULTS.md").read_text()
    )


def test_an_epoch_chosen_on_the_test_fold_is_marked(recipe):
    options = {"scheme": "best_test_epoch", "folds": "1", "systems": "clean_clean"}
    results = run_set(recipe, "best", **options)
    lists = recipe / "data/mix_best/splits/fold1"
    assert (lists / "dev.lst").read_bytes() == (lists / "test.lst").read_bytes()
    text = (recipe / "exp/results_best/RESULTS.md").read_text()
    assert "optimistic: epoch chosen on the test fold" in text
    epochs = read_tsv(recipe / "exp/ser_clean_debug_best/fold1/epochs.tsv")
    (all_folds,) = (
        r
        for r in results["results"]
        if r["fold"] == "all" and r["train"] == "clean" and r["test"] == "clean"
    )
    # what is reported is the best that training saw, for each measure
    assert all_folds["ua"] == pytest.approx(max(float(e["valid_ua"]) for e in epochs), abs=1e-5)
    assert all_folds["wa"] == pytest.approx(max(float(e["valid_wa"]) for e in epochs), abs=1e-5)
