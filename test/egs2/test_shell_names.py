"""Names that reach a shell through `tse_ser.sh` and mean something there."""

import shlex
import shutil
import sys

import pytest
from shell_recipes import bash, calls, run

HOSTILE = [
    *("A;touch${IFS}PWN;:", "$(touch${IFS}PWN)", "`touch${IFS}PWN`", "$HOME", "a|touch${IFS}PWN"),
    *("a b", "a\nb", "a\tb", "a'b", 'a"b', "a\\b", "*", "[a]", "{a,b}", "JOB", "xJOBy", "-n", "~"),
    *("a&b", "a>PWN", "#a", "!", "a%b", "ü"),
]


def test_names_of_sets_that_a_shell_would_act_on(recipe):
    assert run(recipe, "--stop_stage 1").returncode == 0
    for name in HOSTILE:
        calls(recipe)
        shutil.copytree(recipe / "data/emo", recipe / "data" / name)
        result = run(recipe, "--stop_stage 1")
        assert result.returncode == 1, name
        assert "only letters, digits and" in result.stderr and "rename the directory" in (
            result.stderr
        )
        assert calls(recipe) == [] and not (recipe / "PWN").exists()
        shutil.rmtree(recipe / "data" / name)
    (recipe / "data/a+b.c=d,e:f@2-g_h").mkdir()
    for file in ("wav.scp", "utt2spk"):
        (recipe / "data/a+b.c=d,e:f@2-g_h" / file).write_text("a b")
    assert run(recipe, "--stop_stage 1").returncode == 0
    assert len(calls(recipe)) == 2


ODD_CONFIG = "conf/$HOME JOB $(touch PWN);touch PWN 'x' \"y\" *.yaml"


def test_names_of_configurations_reach_the_command_as_they_are(recipe, run_pl):
    """In jobs of one and of several parts, and with wrappers that let a shell expand words."""
    options = "--systems 'noisy_noisy joint_noisy' --folds 1 --tse_tag a --ser_tag b --joint_tag c"
    (recipe / ODD_CONFIG).write_text("frontend: ssl\n")
    config = shlex.quote(ODD_CONFIG)
    configs = f"--tse_config {config} --ser_config {config} --joint_config {config}"
    result = run(recipe, f"{options} {configs} --stop_stage joint")
    assert result.returncode == 0, result.stderr
    found = [c for c in calls(recipe) if f"--config {ODD_CONFIG} " in c]
    expected = ["tse_stats", "tse_train", *["ser_features"] * 2, "ser_stats", "ser_train"]
    assert [c.split()[0] for c in found] == [*expected, "tse_ser_train"]
    assert not (recipe / "PWN").exists()


def test_names_of_configurations_reach_the_command_through_launch(recipe, run_pl):
    """Trainings on several GPUs are started by espnet2.bin.launch, which calls a wrapper itself."""
    text = (recipe / "stand_in").read_text()
    launch = f'[ "$2" != espnet2.bin.launch ] || exec {sys.executable} "$@"\n'
    (recipe / "stand_in").write_text(text.replace("set -eu\n", f"set -eu\n{launch}"))
    (recipe / ODD_CONFIG).write_text("batch_size: 8\n")
    assert run(recipe, "--stop_stage check").returncode == 0
    calls(recipe)
    options = (
        f"--stage tse --stop_stage tse --ngpu 2 --tse_tag a --tse_config {shlex.quote(ODD_CONFIG)}"
    )
    result = run(recipe, options, CUDA_VISIBLE_DEVICES="0,1")
    assert result.returncode == 0, result.stderr
    (call,) = calls(recipe)
    assert call.startswith(f"tse_train --config {ODD_CONFIG} --pool dump/clean/pretrain --output_")
    assert call.endswith("--seed 0 --ngpu 2 --multiprocessing_distributed True")
    assert not (recipe / "PWN").exists() and (recipe / "exp/tse_a/log/tse_train.log").exists()


@pytest.mark.parametrize("name", ["a|b", "a\nb", "-a"])
def test_names_of_configurations_that_the_script_cannot_take(recipe, name):
    (recipe / f"{name}.yaml").write_text("")
    result = bash(f"./run.sh --python ./stand_in --tse_config {shlex.quote(name)}.yaml", recipe)
    assert result.returncode == 2 and "--tse_config" in result.stderr
    assert not calls(recipe)
