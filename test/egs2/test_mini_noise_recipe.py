"""The whole mini recipe of noise, every stage: TRNet and its baselines, each level, other noise."""

import hashlib
import json

import pytest
from recipes import copy_of_the_recipes, give_corpora, run_recipe

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin import infer
from espnet_tse_ser.files import read_tsv

# The ablations differ from TRNet in their configurations only (see test_configs.py).
SYSTEMS = ["baseline_c", "baseline_n", "baseline_e", "trnet"]
TWO_EPOCHS = "--max_epoch 2 --scheduler_conf max_steps=24"
SHORT = [
    "--systems",
    " ".join(SYSTEMS),
    "--tse_config",
    "conf/train_se_debug.yaml",
    "--ser_args",
    TWO_EPOCHS,
]
MACHINE = ["--num_threads", "1", "--nj", "2"]


@pytest.fixture(scope="module")
def recipe(mini_corpora, tmp_path_factory):
    mini = copy_of_the_recipes(tmp_path_factory.mktemp("noise"))
    recipe = mini.parents[1] / "mini_iemocap_noise/se_ser1"
    give_corpora(recipe, mini_corpora)
    run_recipe(recipe, *SHORT, *MACHINE, debug=())
    return recipe


def test_results_hold_every_system_and_level(recipe):
    found = json.loads((recipe / "exp/results.json").read_text())
    results = {r["system"]: r for r in found["results"] if r["fold"] == "all"}
    assert list(results) == SYSTEMS
    assert {r["n"] for r in results.values()} == {3 * 128}
    assert results["baseline_n"]["si_sdri"] is None is not results["trnet"]["si_sdri"]
    cells = {(c["system"], *c["cell"]): c for c in found["breakdown"] if c["by"] == ["snr_db"]}
    assert {cell[1] for cell in cells} == {"0 dB", "10 dB", "clean"}
    assert all(c["n"] == 128 and "macro_f1" in c for c in cells.values())
    compared = {(c["system"], c["reference"], c.get("level")) for c in found["differences"]}
    assert {("trnet", "baseline_e", level) for level in (None, "clean", "10", "0")} <= compared
    text = (recipe / "exp/RESULTS.md").read_text()
    assert "| TRNet | denoised | denoised | 384 |" in text
    assert "| trnet | baseline_n | 10 dB | 128 |" in text
    assert (recipe / "exp/plots/levels_ua.png").stat().st_size > 10000


def test_the_same_noise_at_every_level(recipe):
    rows = read_tsv(recipe / "data/mix/mixtures.tsv")
    assert len(rows) == 3 * 320 and {row["level"] for row in rows} == {"clean", "10", "0"}
    ten, zero = (
        {row["target"]: row["noises"] for row in rows if row["level"] == level}
        for level in ("10", "0")
    )
    assert len(ten) == 320 and ten == zero
    used = read_table(recipe / "dump/clean/noise/utt2group").values()
    before = read_table(recipe / "dump/clean/pretrain_noise/utt2group").values()
    assert not {*used} & {*before}


def test_noise_that_no_model_was_trained_on(recipe):
    (sweep,) = json.loads((recipe / "exp/sweeps.json").read_text())["sweeps"]
    (row,) = [row for row in sweep["rows"] if row["value"] == "other noise"]
    assert {*row["systems"]} == {*SYSTEMS}
    varied = read_tsv(recipe / "exp/sweeps/unmatched/mixtures.tsv")
    other = read_table(recipe / "dump/clean/unmatched/utt2group")
    assert {row["noises"] for row in varied if row["level"] != "clean"} <= {*other}


def test_what_refinement_does(recipe):
    directory = recipe / "exp/refinement/ser_denoised_debug+trnet"
    rows = read_tsv(directory / "refinement.tsv")
    assert len(rows) == 384 and all(0 <= float(row["score"]) <= 1 for row in rows)
    assert "| clean | 128 |" in (directory / "REFINEMENT.md").read_text()


def test_a_teacher_is_that_of_the_fold(recipe):
    for fold in ("fold1", "fold2"):
        teacher = recipe / "exp/ser_clean_default" / fold / "embeddings"
        seen = set((teacher / "teacher_train.lst").read_text().split())
        tested = set((recipe / f"data/mix/splits/{fold}/test.lst").read_text().split())
        assert seen and tested and not seen & tested


def test_a_second_run_recomputes_nothing(recipe):
    def weights():
        paths = [*recipe.glob("exp/*/fold*/*.pth"), *recipe.glob("exp/tse_debug/*.pth")]
        return {path: hashlib.sha256(path.read_bytes()).digest() for path in paths}

    before = weights()
    output = run_recipe(recipe, *SHORT, *MACHINE, debug=())
    assert "written" not in output and weights() == before


def test_a_trained_model_on_a_recording(recipe, capsys):
    utt = (recipe / "data/mix/splits/fold1/test.lst").read_text().split()[0]
    infer.main(
        ["--model_dir", str(recipe / "exp/ser_denoised_debug+trnet/fold1")]
        + ["--front_end", str(recipe / "exp/tse_debug")]
        + ["--mixture", read_table(recipe / "dump/mix/wav.scp")[utt]]
    )
    found = json.loads(capsys.readouterr().out)
    (row,) = (
        row
        for row in read_tsv(recipe / "exp/scores/trnet/debug+trnet/fold1/hyp.tsv")
        if row["id"] == utt
    )
    for label, probability in found["probabilities"].items():
        assert probability == pytest.approx(float(row[f"p_{label}"]), abs=1e-2)


def test_one_encoder_for_both_tasks(recipe):
    systems = ["encoder_e", "shared_experts"]  # the others differ in their configurations only
    run_recipe(
        recipe,
        *("--expdir", "exp_shared", "--systems", " ".join(systems), "--folds", "1"),
        *("--stop_stage", "results", *MACHINE),
        debug=(),
    )
    found = json.loads((recipe / "exp_shared/results.json").read_text())["results"]
    pooled = {r["system"]: r for r in found if r["fold"] == "all"}
    assert {*pooled} == {*systems} and {r["n"] for r in pooled.values()} == {3 * 64}
    assert all(row["si_sdri"] is not None for row in pooled.values())
