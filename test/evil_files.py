"""Files of PyTorch that would run something, or be something, that no weights are."""

import collections
import os
import pickle
import zipfile

import torch


class Payload:
    """Makes a directory, ``pwned`` in the current one if none is named, when it is unpickled."""

    def __init__(self, path="pwned"):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Evaluated(Payload):
    def __reduce__(self):
        return eval, ("__import__('os').mkdir('pwned')",)


class Executed(Payload):
    def __reduce__(self):
        return exec, ("import os; os.mkdir('pwned')",)


class Network(torch.nn.Linear):
    """A whole model, as ``torch.save(model, ...)`` writes it, with a surprise."""

    def __setstate__(self, state):
        os.mkdir("pwned")


PAYLOADS = {
    "function": Payload,
    "eval": Evaluated,
    "exec": Executed,
    "nested": lambda: {"a": [1, (torch.ones(2), Payload())]},
    "as a key": lambda: {"b": collections.OrderedDict({"x": Payload()})},
    "model": lambda: Network(2, 2),
}


def _raw(protocol):
    def save(value, path):
        path.write_bytes(pickle.dumps(value, protocol))

    return save


def _zip_of(protocol):
    def save(value, path):
        torch.save(value, path, pickle_protocol=protocol)

    return save


def _compressed(value, path):
    torch.save(value, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


SAVES = {
    "zip": torch.save,
    "zip 4": _zip_of(4),
    "zip 5": _zip_of(5),
    "legacy": lambda v, p: torch.save(v, p, _use_new_zipfile_serialization=False),
    "pickle 0": _raw(0),
    "pickle 2": _raw(2),
    "pickle 5": _raw(5),
}

# One of each: all pairs of them would show nothing new.
EVIL = [("function", save) for save in SAVES] + [(payload, "zip") for payload in PAYLOADS][1:]


def write_evil(path, payload="function", save="zip", within=None):
    """Write a file that makes a directory ``pwned`` if it is unpickled without care.

    Args:
        within: dict that the payload becomes one more value of.
    """
    value = PAYLOADS[payload]()
    SAVES[save](value if within is None else within | {"0.weight": value}, path)


def write_bomb(path):
    """Write a file of 10 kB that holds 10 MB."""
    torch.save({"0.weight": torch.zeros(25 * 10**5)}, path)
    _compressed(torch.load(path), path)
