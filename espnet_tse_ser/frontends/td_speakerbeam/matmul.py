"""Matrix products at the speed of the processor."""

import os

import torch
from torch.autograd.function import once_differentiable

# oneDNN keeps what it has compiled for a shape, of 1024 shapes if nothing is said. Batches seldom
# have the length of another, so that a joint training would keep 1 GB that it does not use again.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def matmul(a, b, dtype=None):
    """``a @ b`` of two matrices, without autograd.

    PyTorch gives float32 products on a CPU to MKL, which does without AVX-512 on processors other
    than Intel's; oneDNN, which it has as well, does not, and is then more than twice as fast.

    Args:
        dtype: multiply in this type, e.g. bfloat16, add up in float32; the result has ``a``'s type.
    """
    if dtype is not None and dtype != a.dtype:
        return matmul(a.to(dtype), b.to(dtype)).to(a.dtype)
    if a.dtype == torch.float32 and a.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
    return torch.mm(a, b)


def autocast_dtype(x):
    """The type that `torch.autocast` asks for, or None outside of it."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


class Product(torch.autograd.Function):
    """`matmul` with gradients; in the type of `torch.autocast`."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        ctx.dtype = autocast_dtype(a)
        return matmul(a, b, ctx.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return (
            matmul(grad, b.t(), ctx.dtype) if ctx.needs_input_grad[0] else None,
            matmul(a.t(), grad, ctx.dtype) if ctx.needs_input_grad[1] else None,
        )
