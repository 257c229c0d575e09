"""Weights, checkpoints, statistics and archives that are not what they should be."""

import io
import os
import pickle
import struct

import numpy as np
import torch
from fuzz_case import Case
from fuzz_values import IN_ITS_PLACE, cut, flip


def is_binary(name):
    return name.endswith((".pth", ".pt", ".npz", ".ark"))


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def draw(rng, files, probes):
    """A probe, one of the binary files that it reads, and what becomes of that."""
    probe = rng.choice([p for p in probes if any(map(is_binary, files.known[p.name].reads))])
    name = rng.choice([n for n in files.known[probe.name].reads if is_binary(n)])
    path = files.root / name
    if name.startswith("out/"):
        source = next(s for s, _ in probe.before)
        path = files.root / source / name.removeprefix("out/")
    names = (name.rpartition("/")[2], *name.split("/")[-2:-1], "its weights are damaged")
    if name.endswith((".ark", ".pt")) or "/ssl/" in name:
        names += ("feats", "features")
    case = Case(probe, "", names=names)
    kinds = {"pth": _state, "pt": _state, "npz": _arrays, "ark": _archive}
    kind = rng.choice((_bytes, *[kinds[name.rpartition(".")[2]]] * 4, _in_its_place))
    kind(rng, files, case, name, path.read_bytes())
    if name.endswith(".ark") and case.what in ("a bit is flipped", "has zeros in it"):
        case.may_differ = True  # Kaldi's archives have no checksums
    if probe.command == "pack" and case.what == "a bit is flipped":
        case.may_differ = True  # it may be one that says nothing, as of a time
    if case.what == "has more at its end":
        case.may_differ = True  # the weights are the same, their file is not
    case.what = f"{name}: {case.what}"
    return case


def _bytes(rng, files, case, name, data):
    case.what, change = rng.choice(
        (
            ("a bit is flipped", flip),
            ("a bit is flipped", flip),
            ("is cut", cut),
            ("is cut at the end", lambda rng, data: data[: -rng.randrange(1, 30)]),
            ("is random", lambda rng, data: rng.randbytes(1000)),
            ("has more at its end", lambda rng, data: data + b"more"),
            ("has zeros in it", _zeros),
        )
    )
    case.changes[name] = change(rng, data)


def _zeros(rng, data):
    at = rng.randrange(len(data))
    length = min(len(data) - at, 64)
    return data[:at] + b"\0" * length + data[at + length :]


def _in_its_place(rng, files, case, name, data):
    case.what, case.changes[name] = rng.choice(IN_ITS_PLACE)
    case.may_differ = name.endswith(("checkpoint.pth", "checkpoint.step.pth"))


def _state(rng, files, case, name, data):
    state = torch.load(io.BytesIO(data), weights_only=False)
    where = _tensors(state)
    parent, key = rng.choice(where)
    tensor = parent[key]
    inner = key
    if rng.random() < 0.2:  # not a tensor of it, but the whole
        case.what, value = rng.choice(
            (
                ("is a list", [1, 2]),
                ("is a tensor", torch.ones(3)),
                ("is empty", {}),
                ("is nested", {"state": state}),
                ("is a number", 5),
                ("runs a command", Payload(files.marker)),
                ("runs a command within", dict(state) | {"more": Payload(files.marker)}),
                ("has a key that is a number", dict(state) | {5: torch.ones(2)}),
                ("has an array", dict(state) | {"more": np.ones(3)}),
                ("is a pickle", None),
                ("is a pickle that runs a command", None),
            )
        )
        if value is None:
            state = Payload(files.marker) if "command" in case.what else {"a": 1}
            case.changes[name] = pickle.dumps(state)
        else:
            case.changes[name] = _saved(value)
        return
    case.names += (str(inner),)
    with_finite = torch.is_floating_point(tensor) and tensor.numel() > 0
    what, value, differ = rng.choice(
        (
            ("another shape", torch.ones(*tensor.shape, 2), False),
            ("a dimension less", tensor.reshape(-1)[:1].squeeze(), False),
            ("no elements", tensor.reshape(-1)[:0], False),
            ("NaN", tensor * float("nan") if with_finite else None, False),
            ("one NaN", _one(tensor, float("nan")) if with_finite else None, False),
            ("infinite", _one(tensor, float("inf")) if with_finite else None, False),
            ("1e30", _one(tensor, 1e30) if with_finite else None, True),
            ("float64", tensor.double(), True),
            ("float16", tensor.half(), True),
            ("whole numbers", tensor.to(torch.int32), False),
            ("truth values", tensor.bool(), False),
            ("complex", tensor.to(torch.complex64) if with_finite else None, False),
            ("sparse", tensor.to_sparse() if tensor.dim() else None, False),
            ("quantized", _quantized(tensor), False),
            ("a parameter", torch.nn.Parameter(tensor) if with_finite else None, True),
            ("a tensor without storage", torch.empty(tensor.shape, device="meta"), False),
            ("missing", None, False),
            ("a list", tensor.tolist(), False),
            ("an array", tensor.numpy(), False),
            ("None", None, False),
            ("a text", "x", False),
            ("expanded", tensor.reshape(-1)[:1].expand(tensor.shape.numel()).reshape(tensor.shape)
             if tensor.numel() else None, True),
        )
    )  # fmt: skip
    case.what, case.may_differ = f"{inner}: {what}", differ
    if what == "1e30":  # finite, until something is multiplied by it
        case.names += ("has diverged",)
    if value is None and what != "None":
        del parent[key]
    else:
        parent[key] = value
    case.changes[name] = _saved(state)


def _one(tensor, value):
    tensor = tensor.clone()
    tensor.reshape(-1)[tensor.numel() // 2] = value
    return tensor


def _quantized(tensor):
    if tensor.dtype != torch.float32:
        return None
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8)


def _saved(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _tensors(value):
    """(container, key) of the tensors in nested dicts and lists."""
    found, items = [], ()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, child in items:
        if isinstance(child, torch.Tensor):
            found.append((value, key))
        else:
            found += _tensors(child)
    return found


def _arrays(rng, files, case, name, data):
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    key = rng.choice(list(arrays))
    array = arrays[key]
    case.names += (key,)
    what, value = rng.choice(
        (
            ("NaN", array * np.nan),
            ("infinite", array * np.inf),
            ("objects", np.array([Payload(files.marker)], object)),
            ("texts", np.array(["x"] * 16)),
            ("another shape", np.ones(3)),
            ("two dimensions", np.ones((2, 2))),
            ("complex", array * 1j),
            ("negative", -np.abs(array) - 1.0),
            ("zero", array * 0),
            ("no elements", np.zeros(0)),
            ("missing", None),
        )
    )
    case.what = f"{key}: {what}"
    case.may_differ = what in ("zero", "negative") and key == "sum"
    if value is None:
        del arrays[key]
    else:
        arrays[key] = value
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    case.changes[name] = stream.getvalue()


def _archive(rng, files, case, name, data):
    """Kaldi's headers: of matrices, of audio, of pickles (kaldiio's own)."""
    command = pickle.dumps(Payload(files.marker))
    at = data.index(b"\0B") if b"\0B" in data else 0
    size = struct.calcsize("<i")
    odd = struct.pack("<i", rng.choice((-1, 0, 2**31 - 1, 1, 7)))
    case.what, case.changes[name] = rng.choice(
        (
            ("a pickle", data[:at] + b"PKL" + command),
            ("a pickle in binary", data[:at] + b"\0BPKL" + command),
            ("a NumPy array", data[:at] + b"NPY" + _npy(files)),
            ("audio", data[:at] + b"AUDIO" + bytes([4]) + b"x" * 30),
            ("another number of rows", data[: at + 6] + odd + data[at + 6 + size :]),
            ("another number of columns", data[: at + 11] + odd + data[at + 11 + size :]),
            ("another type", data[: at + 2] + rng.choice((b"DM ", b"CM ", b"FV ", b"XX ", b"   "))
             + data[at + 5 :]),
            ("NaN", data[: at + 15] + struct.pack("<f", float("nan")) * 8 + data[at + 47 :]),
        )
    )  # fmt: skip


def _npy(files):
    stream = io.BytesIO()
    np.save(stream, np.array([Payload(files.marker)], object), allow_pickle=True)
    return stream.getvalue()
