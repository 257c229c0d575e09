"""Stages of `tse_ser.sh`: which commands they run, and what is done again."""

import re
import shutil

import pytest
from shell_recipes import PAPER, STAGES, bash, calls, run


def test_all_stages_then_nothing_is_done_again(recipe, run_pl):
    result = run(recipe, '--folds "1 2" --seed 5')
    assert result.returncode == 0, result.stderr
    assert re.search(r"Stage 17 upload done in \d+ s: nothing", result.stdout)
    headers = re.findall(r"Stage (\d+) (\w+): ", result.stdout)
    assert [name for _, name in headers] == STAGES
    assert [int(number) for number, _ in headers] == list(range(1, 18))
    assert "the table" in result.stdout
    assert not list(recipe.glob("exp/.batch*")) and not list(recipe.glob("**/.lock*"))
    done = calls(recipe)
    count = {n: sum(c.startswith(n + " ") for c in done) for n in {c.split()[0] for c in done}}
    assert count == {
        "data.sh": 1,
        "format_audio": 6,  # 3 sets: one job each, and combining
        "mixture_table": 1,
        "check_data": 1,
        "simulate": 2,
        "tse_stats": 1,
        "tse_train": 1,
        "extract": 2,
        "tse_score": 2,  # the front-end, and what the joint models put out
        "ser_stats": 3,
        "ser_train": 6,
        "tse_ser_train": 2,
        "recognize": 14,
        "preservation": 1,
        "score": 1,
        "results": 1,
        "evaluate": 1,
        "sweeps_report": 1,
        "pack": 2,
    }
    assert (
        "ser_train --config conf/train_ser.yaml --scp dump/denoised_default/wav.scp "
        "--data_dir dump/mix --split data/mix/splits/fold2 "
        "--stats exp/ser_stats_default/denoised/fold2/feats_stats.npz "
        "--output_dir exp/ser_denoised_default/fold2 --seed 5 --labels ang hap neu sad "
        "--condition denoised --ngpu 0"
    ) in done
    assert (
        "recognize --model_dir exp/tse_ser_ft_default/fold1 --data_dir dump/mix "
        "--scp dump/mix/wav.scp --ids data/mix/splits/fold1/test.lst "
        "--output exp/scores/ft/default/fold1/hyp.tsv "
        "--output_audio exp/scores/ft/default/fold1/audio "
        "--batch_size 16"
    ) in done

    again = run(recipe, '--folds "1 2" --seed 5 --nj 3 --batch_size 2 --max_jobs 5')
    assert again.returncode == 0, again.stderr
    assert calls(recipe) == []


def test_features_of_a_frozen_frontend_are_kept(recipe):
    assert run(recipe, "--stop_stage extract").returncode == 0
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    calls(recipe)
    stages = "--folds 1 --systems noisy_noisy --stage ser_stats --stop_stage ser"
    assert run(recipe, stages).returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done] == ["ser_features"] * 2 + ["ser_stats", "ser_train"]
    options = "--output_dir dump/feats_default/noisy --dtype float32"
    assert f"--scp dump/mix/wav.scp {options} --job 1 --nj 1" in done[0]
    assert done[1].endswith(f"{options} --combine --nj 1")
    feats = "--scp dump/mix/wav.scp --feats dump/feats_default/noisy "
    assert feats in done[2] and feats in done[3]
    # Inference needs those of what its systems are tested on, and none for the joint model.
    (recipe / "exp/tse_ser_scratch_default/fold1").mkdir(parents=True)
    (recipe / "exp/tse_ser_scratch_default/fold1/.done").write_text("")
    (recipe / "exp/ser_clean_default/fold1").mkdir(parents=True)
    (recipe / "exp/ser_clean_default/fold1/.done").write_text("")
    names = "clean_clean clean_noisy clean_denoised scratch"
    stage = f"--folds 1 --systems '{names}' --stage infer --stop_stage infer"
    assert run(recipe, stage).returncode == 0
    done = calls(recipe)
    made = {c.split("--output_dir ")[1].split()[0] for c in done if c.startswith("ser_features")}
    assert made == {"dump/feats_default/clean", "dump/feats_default/denoised_default"}
    read = {c.split("scores/")[1].split("/")[0]: "--feats" in c for c in done if "hyp.tsv" in c}
    assert read == {
        "clean_clean": True,
        "clean_noisy": True,
        "clean_denoised": True,
        "scratch": False,
    }


@pytest.mark.parametrize(
    ("config", "options", "kept"),
    [
        ("frontend: 'ssl'  # HuBERT\nfrontend_conf:\n  finetune: false\n", "", "float32"),
        ("frontend: ssl\n", "--feats_dtype float16", "float16"),
        ("frontend: ssl\n", "--feats_dtype none", None),
        ("{frontend: SSL}\n", "", "float32"),
        ("frontend: ssl\nfrontend_conf:\n  finetune: true\n", "", None),
        ("frontend: ssl\nfrontend_conf:\n  finetune: True\n", "", None),
        ("frontend: ssl\nfrontend_conf: {'finetune': 'on'}\n", "", None),
        ("frontend: ssl\nfrontend_conf: {layer: weighted}\n", "", None),
        ("frontend: logmel\n", "", None),
        ("encoder: shift_cnn\n", "", None),
    ],
)
def test_which_features_are_kept(recipe, config, options, kept):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    calls(recipe)
    (recipe / "conf/train_ser.yaml").write_text(config)
    stage = f"--systems clean_noisy --stage ser_stats --stop_stage ser_stats {options}"
    assert run(recipe, stage).returncode == 0
    done = calls(recipe)
    assert len(done) == (1 if kept is None else 3)
    assert all(f"--dtype {kept}" in c for c in done[:-1]) and ("--feats" in done[-1]) == bool(kept)


def test_a_configuration_that_is_none_stops_before_anything_is_made(recipe):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    calls(recipe)
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\nfrontend_conf: {finetune: maybe}\n")
    result = run(recipe, "--systems clean_noisy --stage ser_stats")
    assert result.returncode == 2 and not calls(recipe)
    message = "error: conf/train_ser.yaml: frontend_conf: finetune: expected true or false, got"
    assert message in result.stderr


def test_the_check_shows_what_dev_is_and_what_is_never_tested(recipe):
    shown = ["fold 1: train 6, dev 3", "9 mixtures: no violation"]
    shown.append("39 utterances of fold 0 are never tested: x")
    stand_in = recipe / "stand_in"
    lines = ["INFO: check audio of emo: 9 done", *(f"INFO: {text}" for text in shown[:2])]
    lines = "".join(f"echo '12:00:00,000 {line}'\n" for line in [*lines, f"WARNING: {shown[2]}"])
    stand_in.write_text(f"{stand_in.read_text()}if [[ $2 == *.check_data ]]; then\n{lines}fi\n")
    for _ in range(2):  # also when it is done already
        result = run(recipe, "--stop_stage check")
        assert result.returncode == 0, result.stderr
        assert re.findall(r"^    (\S.*)$", result.stdout, re.MULTILINE) == shown


def test_a_gpu_for_all_that_run_networks(recipe, run_pl):
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    options = "--folds 1 --ngpu 1 --max_jobs 1 --stop_stage sweeps"
    result = run(recipe, options, CUDA_VISIBLE_DEVICES="0")
    assert result.returncode == 0, result.stderr
    commands = {True: set(), False: set()}
    for call in calls(recipe):
        commands["--device cuda" in call].add(call.split()[0] + " --combine" * ("--comb" in call))
    assert commands[True] == {"extract", "ser_features", "recognize", "evaluate", "preservation"}
    assert not commands[True] & commands[False]
    # it is no setting
    assert run(recipe, options.replace("--ngpu 1", "--ngpu 0")).returncode == 0
    assert calls(recipe) == []


def test_stages_by_name_and_number(recipe):
    assert run(recipe, "--stop-stage mixture_table").returncode == 0
    assert [c.split()[0] for c in calls(recipe)][-1] == "mixture_table"
    assert run(recipe, "--stage check --stop_stage 4").returncode == 0
    assert [c.split()[0] for c in calls(recipe)] == ["check_data", "simulate", "simulate"]


def test_a_stage_without_what_it_needs(recipe):
    result = run(recipe, "--stage simulate")
    assert result.returncode == 1
    assert "data/mix/.done is missing: run stage 2 (mixture_table) first" in result.stderr
    assert not (recipe / "dump/mix").exists()


def test_what_a_corpus_lacks_is_noticed_in_the_first_stage(recipe):
    data_sh = recipe / "local/data.sh"
    whole = data_sh.read_text()
    for table in ("utt2emo", "utt2fold"):
        data_sh.write_text(f"{whole}rm data/emo/{table}\n")
        result = run(recipe, "--stop_stage data")
        assert result.returncode == 1
        assert f"local/data.sh wrote no data/emo/{table}; local/data.sh --help" in result.stderr
    data_sh.write_text(whole)
    assert run(recipe, "--stop_stage data").returncode == 0
    result = run(recipe, "--source_set esd --stop_stage mixture_table")
    assert result.returncode == 1
    assert "make data/esd (stage 1); its --help lists what it can make, for --local_data_opts" in (
        result.stderr
    )


def test_other_settings_stop_and_say_what_differs(recipe):
    assert run(recipe, "--stop_stage tse").returncode == 0
    calls(recipe)
    result = run(recipe, "--stop_stage tse --tse_args '--max_epoch 3'")
    assert result.returncode == 1
    assert "exp/tse_default was made with other settings" in result.stderr
    assert "> --max_epoch 3" in result.stderr
    assert "Remove exp/tse_default" in result.stderr
    assert calls(recipe) == []
    # the remedies: another tag, or a new directory
    assert run(recipe, "--stop_stage tse --tse_args '--max_epoch 3' --tse_tag b").returncode == 0
    assert calls(recipe)[-1].startswith("tse_train")
    shutil.rmtree(recipe / "exp/tse_default")
    assert run(recipe, "--stop_stage tse --tse_args '--max_epoch 3'").returncode == 0
    assert len(calls(recipe)) == 1


def test_a_changed_config_is_noticed(recipe):
    assert run(recipe, "--stop_stage tse_stats").returncode == 0
    (recipe / "conf/train_tse.yaml").write_text("name: other\n")
    result = run(recipe, "--stop_stage tse_stats")
    assert result.returncode == 1
    assert "conf/train_tse.yaml" in result.stderr


def test_a_change_upstream_is_noticed_below(recipe):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    shutil.rmtree(recipe / "data/mix")
    result = run(recipe, "--stop_stage simulate --seed 1")
    assert result.returncode == 1
    assert "dump/mix was made with other settings" in result.stderr
    assert "data/mix/mixtures.tsv" in result.stderr


def test_a_retrained_model_is_tested_again(recipe):
    options = "--systems noisy_noisy --folds 1"
    assert run(recipe, options).returncode == 0
    calls(recipe)
    shutil.rmtree(recipe / "exp/ser_noisy_default/fold1")
    assert run(recipe, options).returncode == 0
    names = [c.split()[0] for c in calls(recipe)]
    assert names == ["ser_train", "recognize", "score", "results", "evaluate", "sweeps_report"]


def test_more_folds_add_to_what_is_there(recipe):
    options = "--systems noisy_noisy"
    assert run(recipe, f"{options} --folds 1").returncode == 0
    calls(recipe)
    assert run(recipe, f"{options} --folds '1 2'").returncode == 0
    names = [c.split()[0] for c in calls(recipe)]
    assert names.count("ser_train") == names.count("recognize") == 1


def test_another_corpus_root_prepares_again(recipe):
    assert run(recipe, "--stop_stage 1").returncode == 0
    calls(recipe)
    assert run(recipe, "--stop_stage 1", IEMOCAP="/elsewhere").returncode == 0
    # the same data comes out of it here, so nothing below is done again
    assert calls(recipe) == ["data.sh "]


def test_every_stage_gets_how_mixtures_are_made(recipe):
    options = '--folds 1 --levels snr --snr_range "-2 3" --loudness_range "-40 -35"'
    options += " --gender_state same"
    assert run(recipe, options).returncode == 0
    done = calls(recipe)
    assert not any("--noise_split" in c for c in done)  # else all made without it is made again
    joint = next(c for c in done if c.startswith("tse_ser_train"))
    mixing = ("levels=snr", "snr=[-2,3]", "loudness=[-40,-35]")
    assert " ".join(f"--mixing_conf {option}" for option in mixing) in joint
    levels = "--levels snr --snr_range -2 3 --loudness_range -40 -35"
    assert f"{levels} --gender_state same" in next(
        c for c in done if c.startswith("mixture_table ")
    )
    test = next(c for c in done if c.startswith("evaluate "))
    assert f"--scheme loso --gender_state same {levels}" in test
    scored = next(c for c in done if c.startswith("score "))
    assert re.findall(r"--row (\S+)", scored) == [f"{name}/default" for name in PAPER.split()]
    assert "--sweeps snr_0" in next(c for c in done if c.startswith("sweeps_report "))


def test_noise_in_all_folds_is_asked_for_everywhere(recipe):
    assert run(recipe, "--folds 1 --noise_split none").returncode == 0
    asked = {call.split()[0] for call in calls(recipe) if "--noise_split none" in call}
    assert asked == {"mixture_table", "check_data", "evaluate"}


def test_lost_results_are_made_again(recipe):
    assert run(recipe, "--folds 1").returncode == 0
    calls(recipe)
    for lost, steps in (
        ("RESULTS.md", ["results"]),
        ("RESULTS_SWEEPS.md", ["sweeps_report"]),
        ("plots/ladder_ua.png", ["results"]),
        ("plots/sweep_x.png", ["sweeps_report"]),
        ("plots", ["results", "sweeps_report"]),
    ):
        bash(f"rm -r {lost}", recipe / "exp")
        result = run(recipe, "--folds 1")
        assert result.returncode == 0 and " is gone or empty" in result.stdout
        assert [c.split()[0] for c in calls(recipe)] == steps, lost


def test_sweeps_are_named_by_patterns(recipe):
    for name in ("snr_5", "snr_-5", "talkers_3"):
        (recipe / f"conf/sweeps/{name}.yaml").write_text("snr: 0\n")
    for sweeps, named in (
        ("", ["snr_-5", "snr_0", "snr_5", "talkers_3"]),
        ("talkers_3 snr_?", ["snr_0", "snr_5", "talkers_3"]),
        ("snr_* snr_0", ["snr_-5", "snr_0", "snr_5"]),
        ("none", []),
    ):
        (recipe / "stand_in").write_text('#!/bin/sh\necho "$@" >> calls.txt; exit 7\n')
        run(recipe, f"--sweeps '{sweeps}'")
        assert calls(recipe)[0].endswith(f" --sweeps {' '.join(named)}")
    result = run(recipe, "--sweeps 'snr_0 overlap_*'")
    assert result.returncode == 2 and "--sweeps: 'overlap_*' of conf/sweeps: only" in result.stderr


def test_a_sweep_reads_the_sources_that_it_names(recipe):
    (recipe / "conf/sweeps/other.yaml").write_text("{sources: esd}  # new\n")
    result = run(recipe, "--stage sweeps --stop_stage sweeps --sweeps 'other snr_0'")
    assert result.returncode == 1
    assert "dump/clean/esd/.done is missing" in result.stderr


def test_a_changed_base_of_a_config_is_noticed(recipe):
    """As a change of the configuration itself, by every step that reads it."""
    for kind in ("tse", "ser", "tse_ser"):
        base = (recipe / f"conf/train_{kind}.yaml").rename(recipe / f"conf/base_{kind}.yaml")
        (recipe / f"conf/train_{kind}.yaml").write_text(f"base: {base.name}\n")
    options = "--folds 1 --stage 1 --stop_stage joint --systems 'noisy_noisy scratch'"
    assert run(recipe, options).returncode == 0
    for kind, made in (
        *(("tse", "tse_stats_default"), ("tse", "tse_default")),
        *(("ser", "ser_stats_default/noisy"), ("ser", "ser_noisy_default/fold1")),
        *(("ser", "tse_ser_scratch_default/fold1"), ("tse_ser", "tse_ser_scratch_default/fold1")),
    ):
        record = (recipe / f"exp/{made}/.done").read_text()
        assert re.search(rf"^\d+ \d+ conf/base_{kind}.yaml$", record, re.MULTILINE), made
    assert run(recipe, options).returncode == 0
    with (recipe / "conf/base_tse_ser.yaml").open("a") as stream:
        stream.write("grad_clip: 1\n")
    result = run(recipe, options)
    assert result.returncode == 1
    assert "exp/tse_ser_scratch_default/fold1 was made with other settings" in result.stderr
    (recipe / "conf/base_tse.yaml").unlink()
    calls(recipe)
    result = run(recipe, options)
    assert result.returncode == 2 and calls(recipe) == []
    assert "conf/train_tse.yaml: line 1: base: base_tse.yaml: no such file" in result.stderr
