"""Experiment directories of untrained models."""

import yaml


def write_experiment(directory, config, model, criterion):
    """An experiment directory as training leaves it, of an untrained model."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(model.state_dict(), directory / f"{criterion}.best.pth")
    return directory
