"""What no implementation goes below on this machine: its measured rates, and how often it adds.

A network's matrix products alone take their floating-point operations divided by the rate of a
library's product. Two rates are named, because the libraries inside PyTorch differ by more than
two on AMD: that of ``torch.mm`` (MKL in float32) and the best that any call reached (oneDNN's
linear layer among them). Both are the best of many calls, at the best of several shapes.
"""

import functools
import time

import torch

# rows, inner, columns: square, and the pointwise layers of the paper's and of small networks
SHAPES = ((2048, 2048, 2048), (6000, 128, 512), (6000, 512, 256), (6000, 64, 128))
TRIES = 12


@functools.cache
def rates(threads, dtype):
    """GFLOP/s of matrix products: ``{"torch.mm": ..., "best": ..., "best call": name}``."""
    torch.set_num_threads(threads)
    found = {}
    for shape in SHAPES:
        for name, call in _products(*shape, getattr(torch, dtype)).items():
            operations = 2e-9 * shape[0] * shape[1] * shape[2]
            found[name] = max(found.get(name, 0.0), operations / _fastest(call))
    best = max(found, key=found.get)
    return {"torch.mm": found["torch.mm"], "best": found[best], "best call": best}


def _products(rows, inner, columns, dtype):
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    transposed = weight.t().contiguous()
    calls = {
        "torch.mm": lambda: torch.mm(x, transposed),
        "F.linear": lambda: torch.nn.functional.linear(x, weight),
    }
    if torch.backends.mkldnn.is_available():
        linear = torch.ops.mkldnn._linear_pointwise
        calls["mkldnn._linear_pointwise"] = lambda: linear(x, weight, None, "none", [], "")
    return calls


@torch.no_grad()
def _fastest(call):
    fastest = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def dense_flops(model, run, training=False):
    """Floating-point operations of the dense layers: linear, convolutions but depthwise ones.

    Args:
        model: a module; run: a callable that runs its forward.
        training: count the backward too: as much again for the weights, and for what is put in
            unless that needs no gradient. (A layer whose output is not used is counted all the
            same: in a TCN the last block's residual, less than 1 %.)
    """
    counted = []

    def note(layer, inputs, output):
        if isinstance(layer, torch.nn.Linear):
            operations = 2 * output.numel() * layer.in_features
        elif layer.groups > 1:
            return
        elif isinstance(layer, torch.nn.ConvTranspose1d):
            operations = 2 * inputs[0].numel() * layer.out_channels * layer.kernel_size[0]
        else:
            operations = 2 * output.numel() * layer.in_channels * layer.kernel_size[0]
        passes = 1 + training * (layer.weight.requires_grad + inputs[0].requires_grad)
        counted.append(passes * operations)

    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.ConvTranspose1d)
    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, kinds)]
    try:
        with torch.set_grad_enabled(training):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)
