"""Tiny corpora, configurations and experiments that several tests share."""

import fcntl
import os
import sys

import children
import numpy as np
import pytest
from tiny_experiments import write_experiment
from tiny_formatted import FS, voice, write_formatted

LABELS = ["ang", "hap", "neu", "sad"]


children.use_a_server()
children.refuse_forks_with_threads()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The nets of the tests are so small that a second thread only waits."""
    os.environ["OMP_NUM_THREADS"] = "1"  # what commands set, here and in processes of their own
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


# Files that take longest, so that no process is left with one of them at the end. The first makes
# `mini_recipe`; those that need it too come when it is there, or a process would wait for it.
FIRST = """
    test_drills test_slurm_pl test_imports test_stops test_mini_noise_recipe test_fuzz
    test_shell_stages test_kills test_whole_recipe test_mini_recipe test_multi_node
    test_docs test_shell_systems
    test_interruption test_ser_train test_shell_steps test_shell_marks test_shell_names test_shell
    test_cases test_prefetching test_compilation test_mini test_distributed test_tse_train
    test_tse_ser_train
""".split()


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))  # stable


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """``once(name, make)``: a directory that one process makes, by ``make(directory)``, for all."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent

    def once(name, make):
        directory, made = shared / name, shared / f"{name}.made"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                make(directory)
                made.touch()
        return directory

    return once


@pytest.fixture(scope="session")
def mini_corpora(once):
    """The corpora of the mini recipe."""
    from espnet_tse_ser.bin.prepare import main

    return once("mini_corpora", lambda directory: main(["mini", "--output_dir", str(directory)]))


@pytest.fixture(scope="session")
def mini_recipe(once, mini_corpora):
    """The directory of a mini recipe of debug size whose every stage was run, on this machine.

    Tests of several processes read it at once: what they add has names of its own.
    """
    from recipes import copy_of_the_recipes, give_corpora, named_sweeps, recipe_in, run_recipe

    def make(directory):
        recipe = copy_of_the_recipes(directory)
        give_corpora(recipe, mini_corpora)
        run_recipe(recipe, "--sweeps", named_sweeps(recipe))

    return recipe_in(once("mini", make))


@pytest.fixture(scope="session")
def tse_config():
    """The smallest TD-SpeakerBeam: 16 filters, 2 blocks x 2."""
    return {
        "encoder": "conv",
        "encoder_conf": {"channel": 16, "kernel_size": 32, "stride": 16},
        "extractor": "td_speakerbeam",
        "extractor_conf": {
            "layer": 2,
            "stack": 2,
            "bottleneck_dim": 8,
            "hidden_dim": 16,
            "skip_dim": 8,
            "i_adapt_layer": 1,
            "adapt_layer_type": "mul",
            "adapt_enroll_dim": 8,
        },
        "decoder": "conv",
        "decoder_conf": {"channel": 16, "kernel_size": 32, "stride": 16},
        "criterions": [
            {
                "name": "si_snr",
                "conf": {},
                "wrapper": "fixed_order",
                "wrapper_conf": {"weight": 1.0},
            }
        ],
        "sample_rate": FS,
    }


@pytest.fixture(scope="session")
def spectral_config(tse_config):
    """The smallest spectral extractor: windows of 4 ms, 2 blocks x 2."""
    stft = {"kernel_size": 64, "stride": 32}
    parts = {"encoder": "stft", "decoder": "stft", "encoder_conf": stft, "decoder_conf": stft}
    sizes = {"layer": 2, "stack": 2, "bottleneck_dim": 12, "hidden_dim": 20, "i_adapt_layer": 1}
    return tse_config | parts | {"extractor": "spectral", "extractor_conf": sizes}


@pytest.fixture(scope="session")
def enhancer_config(tse_config):
    """The same without an enrollment."""
    sizes = ("layer", "stack", "bottleneck_dim", "hidden_dim", "skip_dim")
    conf = {name: tse_config["extractor_conf"][name] for name in sizes}
    return tse_config | {"extractor": "tcn", "extractor_conf": conf}


@pytest.fixture(scope="session")
def ser_config():
    """A log-mel ShiftCNN of 16 channels, without statistics."""
    return {
        "labels": LABELS,
        "frontend": "logmel",
        "frontend_conf": {"n_mels": 16},
        "normalize": None,
        "specaug": None,
        "preencoder": "conv_stem",
        "preencoder_conf": {"output_size": 16},
        "encoder": "shift_cnn",
        "encoder_conf": {},
        "pooling": "stats",
        "pooling_conf": {},
        "model_conf": {},
        "fs": FS,
    }


@pytest.fixture(scope="session")
def tse_dir(tmp_path_factory, tse_config):
    """A TSE experiment."""
    import torch

    from espnet_tse_ser.models.build_tse import build_extraction_model

    torch.manual_seed(1)
    model = build_extraction_model(tse_config)
    return write_experiment(tmp_path_factory.mktemp("exp_tse"), tse_config, model, "valid.loss")


@pytest.fixture(scope="session")
def enhancer_dir(tmp_path_factory, enhancer_config):
    """An experiment of an enhancement model."""
    import torch

    from espnet_tse_ser.models.build_tse import build_extraction_model

    torch.manual_seed(5)
    model = build_extraction_model(enhancer_config)
    root = tmp_path_factory.mktemp("exp_enhancer")
    return write_experiment(root, enhancer_config, model, "valid.loss")


@pytest.fixture(scope="session")
def ser_dir(tmp_path_factory, ser_config):
    """A SER experiment."""
    import torch

    from espnet_tse_ser.models.build_ser import build_ser_model

    torch.manual_seed(2)
    model = build_ser_model(ser_config)
    return write_experiment(tmp_path_factory.mktemp("exp_ser"), ser_config, model, "valid.ua")


@pytest.fixture(scope="session")
def joint_config(tse_config, ser_config):
    """The two parts together."""
    return {"tse": tse_config, "ser": ser_config, "model_conf": {}, "fs": FS}


@pytest.fixture(scope="session")
def joint_dir(tmp_path_factory, joint_config):
    """A joint experiment."""
    import torch

    from espnet_tse_ser.models.build_joint import build_joint_model

    torch.manual_seed(3)
    model = build_joint_model(joint_config)
    return write_experiment(tmp_path_factory.mktemp("exp_joint"), joint_config, model, "valid.ua")


@pytest.fixture(scope="session")
def tiny_pool(tmp_path_factory):
    """A formatted pretraining pool: six speakers with two utterances each."""
    rng = np.random.default_rng(0)
    return write_formatted(
        tmp_path_factory.mktemp("pretrain"),
        [
            (f"p{s}-{u}", f"p{s}", "mf"[s % 2], voice(rng, 90 + 30 * s, 8000 + 500 * u), None, None)
            for s in range(6)
            for u in range(2)
        ],
    )


@pytest.fixture(scope="session")
def two_each(tiny_mixtures, tmp_path_factory):
    """The interferers of `tiny_mixtures` with a second utterance each, to enroll with."""
    from espnet_tse_ser.mixtures.pool import Pool

    pool = Pool.read(tiny_mixtures / "interferer")
    speech = {e.group: (e.gender, pool.audio(utt)) for utt, e in pool.entries.items()}
    return write_formatted(
        tmp_path_factory.mktemp("two_each"),
        [
            (f"{speaker}-{n}", speaker, gender, np.ascontiguousarray(samples[::step]), None, None)
            for speaker, (gender, samples) in speech.items()
            for n, step in enumerate((1, -1))
        ],
    )


@pytest.fixture(scope="session")
def tiny_mixtures(tmp_path_factory):
    """Mixtures of eight speakers (two folds) with four interferers, made by stages 2 and 4.

    Returns a directory with emo/, interferer/ (formatted), mix/ (rendered) and table/.
    """
    from espnet_tse_ser.bin import mixture_table, simulate

    root = tmp_path_factory.mktemp("mixtures")
    rng = np.random.default_rng(1)
    targets = [
        (
            f"t{s}-{number}{emotion}",
            f"t{s}",
            "mf"[s % 2],
            voice(rng, 100 + 10 * s + 25 * LABELS.index(emotion), int(rng.integers(4000, 9000))),
            emotion,
            "12"[s // 4],
        )
        for s in range(8)
        for number, emotion in enumerate([*LABELS, "neu"])
    ]
    interferers = [
        (f"i{s}-0", f"i{s}", "mf"[s % 2], voice(rng, 130 + 20 * s, 8000), None, None)
        for s in range(4)
    ]
    write_formatted(root / "emo", targets)
    write_formatted(root / "interferer", interferers)
    pools = ["--targets", f"{root}/emo", "--sources", f"{root}/interferer"]
    mixture_table.main([*pools, "--output_dir", f"{root}/table", "--dev_share", "0.5"])
    for combine in ([], ["--combine"]):
        simulate.main(
            [*pools, "--table_dir", f"{root}/table", "--output_dir", f"{root}/mix", *combine]
        )
    return root


@pytest.fixture(scope="session")
def tiny(tiny_pool, tiny_mixtures, tse_config, ser_config, tse_dir, ser_dir):
    """What the commands of `tiny_commands` train with."""
    return {
        "pool": tiny_pool,
        "mixtures": tiny_mixtures,
        "tse_config": tse_config,
        "ser_config": ser_config,
        "tse_dir": tse_dir,
        "ser_dir": ser_dir,
    }
