"""Mixed precision: the networks' large products in bfloat16, all else in float32.

Weights, their gradients and the optimizer's state are float32, and so are checkpoints. bfloat16 has
the range of float32 (and 8 bits of mantissa), so losses need no scaling. Only training is mixed:
validation is in float32, because the epoch that it chooses is used in float32.

Within a mixed forward a model keeps in `float32` what loses by 8 bits: waveforms, spectra,
pooling and losses.
"""

import contextlib
import functools

import torch

from espnet_tse_ser.errors import UserError

AUTOCAST = ("none", "bfloat16")


def check_autocast(name, device):
    """Refuse what cannot be trained with.

    Args:
        name: value of the option ``autocast``; device: "cpu" or "cuda".

    Raises:
        UserError: another type than bfloat16, or a GPU that has none.
    """
    if name not in AUTOCAST:
        why = " (float16 has a small range: it needs scaled losses and a GPU)"
        raise UserError(
            f"autocast: {name}: training mixes float32 with bfloat16 only"
            f"{why if name == 'float16' else ''}; give bfloat16 or none"
        )
    if (name, device) == ("bfloat16", "cuda"):
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError("autocast: bfloat16: this GPU cannot compute with it; give none")


@contextlib.contextmanager
def mixed_training(model, name, device):
    """Let forwards of ``model`` in training mode be mixed in the body, if ``name`` says so.

    Args:
        model: module; name, device: as in `check_autocast`.
    """
    if name == "none":
        yield
        return
    forward = model.forward

    @functools.wraps(forward)
    def mixed(*args, **kwargs):
        with torch.autocast(device, torch.bfloat16, enabled=model.training):
            return forward(*args, **kwargs)

    model.forward = mixed  # of this object: whatever wraps it, and its state, are as before
    try:
        yield
    finally:
        del model.forward


def float32(tensor):
    """A context in which nothing on the device of ``tensor`` is computed in less than float32.

    What comes from outside of it may still be bfloat16: see `widened`.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def widened(tensor):
    """``tensor`` in float32 if it has 16 bits, else as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def narrowed(tensor):
    """``tensor`` as a product of a mixed forward takes it: 16 bits within one, else as it is."""
    kind = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor
