"""Untrained models of ESPnet's extraction and enhancement tasks, as its trainings leave them."""

import argparse
import importlib

import yaml

CONV = {"channel": 16, "kernel_size": 32, "stride": 16}
STFT = {"n_fft": 64, "hop_length": 32}
SPEAKERBEAM = {"layer": 2, "stack": 2, "bottleneck_dim": 8, "hidden_dim": 16, "skip_dim": 8}
SPEAKERBEAM |= {"i_adapt_layer": 1, "adapt_layer_type": "mul", "adapt_enroll_dim": 8}
TCN = {"layer": 2, "stack": 1, "bottleneck_dim": 8, "hidden_dim": 16}


def tse(extractor=(), model=(), parts=("conv", CONV)):
    """A configuration of the extraction task; of the TD-SpeakerBeam that is ours, too."""
    return _task(parts, {"extractor": "td_speakerbeam", "model_conf": dict(model)}) | {
        "extractor_conf": SPEAKERBEAM | dict(extractor)
    }


def enh(separator, conf, model=(), parts=("conv", CONV)):
    """A configuration of the enhancement task."""
    return _task(parts, {"separator": separator, "model_conf": dict(model)}) | {
        "separator_conf": {"num_spk": 1} | conf,
        "mask_module": "multi_mask",
        "mask_module_conf": {},
    }


def _task(parts, more):
    name, conf = parts
    return {
        **{
            "encoder": name,
            "encoder_conf": dict(conf),
            "decoder": name,
            "decoder_conf": dict(conf),
        },
        "criterions": [
            {"name": "si_snr", "conf": {}, "wrapper": "fixed_order", "wrapper_conf": {"weight": 1}}
        ],
        **{"init": None, "sample_rate": 16000, "optim": "adam", "preprocessor": "enh"},
        **more,
    }


def build(config):
    """ESPnet's model of a configuration, with weights that are no one's but this seed's."""
    import torch

    name = "enh_tse" if "extractor" in config else "enh"
    task = {"enh_tse": "TargetSpeakerExtractionTask", "enh": "EnhancementTask"}[name]
    task = getattr(importlib.import_module(f"espnet2.tasks.{name}"), task)
    torch.manual_seed(4)
    return task.build_model(argparse.Namespace(**config)).eval()


def write(directory, config, weights="valid.loss.best.pth"):
    """Write the experiment of an untrained model."""
    import torch

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(build(config).state_dict(), directory / weights)
    return directory
