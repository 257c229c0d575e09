"""What commands have imported when their work is done: nothing that it does not need."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_espnet
import torch
import yaml
from declared import SYSTEMS_DIR
from score_tables import write_scores

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.espnet.fast_import import SWITCH
from espnet_tse_ser.files import write_tsv

ROOT = Path(__file__).parents[2]
PROGRAM = """
import importlib, json, sys
for name, *argv in json.loads(sys.argv[1]):
    importlib.import_module(f"espnet_tse_ser.bin.{name}").main([str(a) for a in argv])
waiting = {name for name, module in sys.modules.items() if type(module).__name__ == "_Waiting"}
print(json.dumps(sorted({*sys.modules} - waiting)))
"""
# Each takes from a tenth of a second to seconds, or asks the network when it is imported.
NEVER = {
    *("g2p_en", "inflect", "matplotlib", "nltk", "pandas", "sklearn", "tacotron_cleaner"),
    *("espnet2.gan_tts", "espnet2.text.phoneme_tokenizer", "espnet2.tts", "librosa.core"),
    *("tensorboard", "transformers", "wandb"),
}
COMPILING = {"sympy", "torch._dynamo", "torch._inductor"}
TRAINING = {"espnet2.tasks", "espnet2.train.trainer"}
TORCH = {"espnet2", "torch", "torchaudio", "typeguard"}
SCIPY = {"scipy.integrate", "scipy.signal", "scipy.stats"}  # parts of it are what STOI needs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run ``(name, *options)`` in a process of their own; returns the modules it has then."""
    cwd = tmp_path_factory.mktemp("cwd")

    def run(*commands, fast="1"):
        environment = os.environ | {"PYTHONPATH": str(ROOT), SWITCH: fast}
        command = [sys.executable, "-c", PROGRAM, json.dumps(commands, default=str)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return set(json.loads(done.stdout.splitlines()[-1]))

    return run


@pytest.fixture(scope="module")
def configs(tmp_path_factory, tse_config, ser_config):
    """Configurations of trainings of milliseconds, for each command."""
    short = {"max_epoch": 1, "batch_size": 4, "optim": "adam", "keep_nbest_models": 1}
    mixing = {"segment": 3200, "enroll_segment": 3200, "steps_per_epoch": 2, "valid_examples": 3}
    training = {
        "tse": tse_config
        | {"mixing_conf": mixing | {"valid_share": 0.2}}
        | {"best_model_criterion": [["valid", "loss", "min"]]},
        "ser": {k: v for k, v in ser_config.items() if k != "labels"} | {"batch_type": "unsorted"},
        "joint": {"mixing_conf": {"max_samples": 4000}},
    }
    directory = tmp_path_factory.mktemp("conf")
    for name, config in training.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(config | short))
    return directory


def _pools(mixtures):
    return ["--targets", mixtures / "emo", "--sources", mixtures / "interferer"]


def test_commands_of_data_and_tables_do_without_torch(run, tmp_path, tiny_mixtures, tiny_pool):
    write_scores(tmp_path)
    table, mix, scores = tmp_path / "table", tmp_path / "mix", tmp_path / "scores"
    theirs, declared = tmp_path / "theirs.tsv", ["--systems_dir", SYSTEMS_DIR]
    ids = read_ids(tiny_mixtures / "table/splits/fold1/test.lst")
    write_tsv(theirs, [{"id": utt, "label": "ang"} for utt in ids], ["id", "label"])
    hyp = tmp_path / "recognised/noisy_noisy/a/fold1/hyp.tsv"
    config = tmp_path / "train_x.yaml"
    config.write_text("frontend: logmel\n")
    pools, folds = _pools(tiny_mixtures), ["--table_dir", table]
    loaded = run(
        ["mixture_table", *pools, "--output_dir", table, "--dev_share", 0.5],
        ["check_data", *pools, "--pretrain", tiny_pool, *folds],
        ["simulate", *pools, *folds, "--output_dir", mix],
        ["simulate", *pools, *folds, "--output_dir", mix, "--combine"],
        ["tse_score", "--data_dir", mix, "--denoised_dir", mix, "--output", tmp_path / "tse.tsv"],
        ["systems", "--conf_dir", SYSTEMS_DIR, "--tse_config", config, "--ser_config", config]
        + ["--joint_config", config],
        ["import_hypotheses", "--table", theirs, "--data_dir", tiny_mixtures / "mix", "--ids"]
        + [tiny_mixtures / "table/splits/fold1/test.lst", "--labels", "ang hap neu sad"]
        + ["--output", hyp],
        ["score", "--scores_dir", tmp_path / "recognised", "--folds", "1", *declared]
        + ["--table_dir", tiny_mixtures / "table"],
        ["compare", scores / "base/default", scores / "noisy_noisy/default"],
    )
    assert not loaded & (NEVER | TORCH)


def test_commands_that_use_a_model_do_without_the_trainer(
    run, tmp_path, tiny_mixtures, tiny_pool, tse_dir, joint_dir, configs
):
    mix = tiny_mixtures / "mix"
    audio = sorted((mix / "audio/mix").iterdir())[0]
    data = ["--data_dir", mix]
    loaded = run(
        ["tse_stats", "--config", configs / "tse.yaml", "--pool", tiny_pool, "--output_dir", "s"],
        ["extract", "--model_dir", tse_dir, *data, "--output_dir", tmp_path / "denoised"],
        ["recognize", "--model_dir", joint_dir, *data, "--scp", mix / "wav.scp"]
        + ["--ids", tiny_mixtures / "table/splits/fold1/test.lst", "--output", "hyp.tsv"],
        ["infer", "--model_dir", joint_dir, "--mixture", audio, "--enrollment", audio],
    )
    assert "torch" in loaded
    assert not loaded & (NEVER | TRAINING | COMPILING)


def test_models_of_espnet_are_used_without_its_trainer_s_baggage(run, tmp_path, tiny_mixtures):
    model = tiny_espnet.write(tmp_path / "tcn", tiny_espnet.enh("tcn", tiny_espnet.TCN))
    data = ["--data_dir", tiny_mixtures / "mix", "--output_dir", tmp_path / "denoised"]
    loaded = run(
        ["front_end", "--source", model, "--output_dir", tmp_path / "exp"],
        ["extract", "--model_dir", tmp_path / "exp", *data],
    )
    assert "espnet2.tasks.enh" in loaded
    assert not loaded & (NEVER | COMPILING)


def test_extraction_trains_without_what_it_does_not_need_to_the_same_weights(
    run, tmp_path, tiny_pool, configs
):
    train = ["tse_train", "--config", configs / "tse.yaml", "--pool", tiny_pool, "--output_dir"]
    fast = run([*train, tmp_path / "1"])
    slow = run([*train, tmp_path / "0"], fast="0")
    assert not fast & (NEVER | SCIPY | COMPILING)
    assert {"espnet2.gan_tts", "scipy.stats", "torch._dynamo"} <= slow
    weights, expected = (
        torch.load(tmp_path / switch / "latest.pth", weights_only=True) for switch in "10"
    )
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    configurations = [(tmp_path / switch / "config.yaml").read_text() for switch in "10"]
    assert configurations[0] == configurations[1].replace(f"{tmp_path}/0", f"{tmp_path}/1")


def test_recognition_and_both_train_without_what_they_do_not_need(
    run, tmp_path, tiny_mixtures, tse_dir, ser_dir, configs
):
    data = ["--data_dir", tiny_mixtures / "mix", "--split"]
    data += [tiny_mixtures / "table/splits/fold1"]
    ser = ["--config", configs / "ser.yaml", "--labels", "ang", "hap", "neu", "sad"]
    scp = ["--scp", tiny_mixtures / "mix/spk1.scp", "--output_dir", tmp_path / "ser"]
    joint = ["--config", configs / "joint.yaml", "--tse_dir", tse_dir, "--ser_dir", ser_dir]
    joint += [*_pools(tiny_mixtures), "--output_dir", tmp_path / "joint"]
    loaded = run(["ser_train", *data, *ser, *scp], ["tse_ser_train", *data, *joint])
    assert not loaded & (NEVER | SCIPY | COMPILING)
