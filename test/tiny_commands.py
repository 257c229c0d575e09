"""The commands of the three trainings, of networks and sets of debug size."""

import yaml

TRAININGS = ("tse", "ser", "tse_ser")
OPTIONS = {
    "batch_size": 4,
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "keep_nbest_models": 1,
    "best_model_criterion": [["valid", "loss", "min"]],
    "early_stopping_criterion": ["valid", "loss", "min"],
}


def main_of(training):
    """The function that runs the command of ``training``, one of `TRAININGS`."""
    import importlib

    return importlib.import_module(f"espnet_tse_ser.bin.{training}_train").main


def make_command(training, directory, tiny, **changes):
    """Options of a training without its output directory.

    Args:
        directory: for the configuration. tiny: what the fixture of this name gives. changes: of
            the configuration.
    """
    mixing = {"segment": 3200, "enroll_segment": 3200, "steps_per_epoch": 4, "valid_examples": 8}
    ser = {name: value for name, value in tiny["ser_config"].items() if name != "labels"}
    configs = {
        "tse": tiny["tse_config"] | {"mixing_conf": mixing | {"valid_share": 0.2}},
        "ser": ser | {"specaug": "specaug", "max_seconds": 0.2, "batch_type": "unsorted"},
        "tse_ser": {"model_conf": {"w_tse": 0.1, "w_ser": 1.0}},
    }
    root = tiny["mixtures"]
    fold = ["--data_dir", root / "mix", "--split", root / "table" / "splits" / "fold1"]
    pools = ["--targets", root / "emo", "--sources", root / "interferer"]
    options = {
        "tse": ["--pool", tiny["pool"]],
        "ser": [*fold, "--scp", root / "mix" / "wav.scp"],
        "tse_ser": [*fold, *pools, "--tse_dir", tiny["tse_dir"], "--ser_dir", tiny["ser_dir"]],
    }
    path = directory / f"train_{training}.yaml"
    path.write_text(yaml.safe_dump(configs[training] | OPTIONS | changes))
    return ["--config", str(path), *map(str, options[training])]
