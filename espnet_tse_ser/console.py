"""The installed commands ``tse-ser-<name>``: a module of `espnet_tse_ser.bin`, errors reported."""

import importlib

from espnet_tse_ser.errors import run


def infer():
    """Extract the target's speech and recognise its emotion."""
    return _run("infer")


def prepare():
    """Prepare a Kaldi data directory from a corpus on disk."""
    return _run("prepare")


def extract():
    """Extract the target's speech of a mixture directory."""
    return _run("extract")


def pack():
    """Pack a model directory into one archive."""
    return _run("pack")


def _run(name):
    return run(importlib.import_module(f"espnet_tse_ser.bin.{name}").main)
