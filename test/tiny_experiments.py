"""Experiment directories of untrained models."""

import yaml


def write_experiment(directory, config, model, criterion):
    """An experiment directory as training leaves it, of an untrained model."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), directory / f"{criterion}.best.pth")
    return directory


def assert_measures(task, directory):
    """``epochs.tsv`` of a training has what its task says that it measures, and the trainer's."""
    import argparse

    from espnet_tse_ser.files import read_tsv

    options = argparse.Namespace(**yaml.safe_load((directory / "config.yaml").read_text()))
    columns = set(read_tsv(directory / "epochs.tsv")[0]) - {"epoch"}
    columns -= {f"train_{name}" for name in ("clip", "grad_norm", "loss_scale", "optim0_lr0")}
    measures = task.measures(options)
    assert columns == {f"{phase}_{name}" for phase, names in measures.items() for name in names}
