"""A block of TD-SpeakerBeam's TCN for CPUs, forwards and backwards by hand.

    x -> 1x1 -> PReLU -> gLN -> depthwise -> PReLU -> gLN -> 1x1 -> (residual, skip)

What autograd would do in some sixty passes over the hidden channels takes a third of them here, and
of the dozen hidden tensors that it would keep, two are:

* A global layer norm is one scale and one offset a channel. They are never applied by themselves:
  the first norm's go into the taps of the depthwise convolution, the second's into the last product.
* The sums that the gradients of norms and taps need are those of the products' own gradients.
* PReLU is done again in the backward pass instead of being kept.

One utterance is done at a time. It needs no mask, wastes no work on the padding of a batch, and its
hidden channels stay in the processor's cache. Frames beyond ``valid`` are zero everywhere.
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from espnet_tse_ser.matmul import matmul

EPS = torch.finfo(torch.float32).eps  # ESPnet's, so that outputs agree


class Block(torch.autograd.Function):
    """One block with global layer norms.

    Args of ``apply``:
        x: ``(C, L)``, zero from frame ``valid`` on. expand: ``(H, C)``.
        slope1, slope2: ``(1,)`` of the PReLUs. gamma1, beta1, gamma2, beta2: ``(H,)``.
        taps: ``(H, K)`` of the depthwise convolution. project: ``(O, H)``.
        shifts: K ints; tap k is for frame t + shifts[k]. valid: int, frames that count.

    Returns:
        ``(O, L)``, zero from frame ``valid`` on.
    """

    @staticmethod
    def forward(
        ctx, x, expand, slope1, gamma1, beta1, taps, slope2, gamma2, beta2, project, shifts, valid
    ):
        first = matmul(expand, x)
        active = F.leaky_relu(first, slope1.item())
        norm1 = _Norm(active, gamma1, beta1, valid)
        second = _convolve(active, taps * norm1.scale, shifts)
        second += norm1.offset * taps.sum(1, keepdim=True)
        for tap, shift in enumerate(shifts):  # the norm's offset ends where the utterance ends
            second[:, _outside(shift, valid)] -= norm1.offset * taps[:, tap : tap + 1]
        second[:, valid:] = 0
        active = F.leaky_relu(second, slope2.item())
        norm2 = _Norm(active, gamma2, beta2, valid)
        out = matmul(project * norm2.scale.t(), active)
        out += project @ norm2.offset
        out[:, valid:] = 0
        ctx.save_for_backward(
            x, expand, slope1, gamma1, beta1, taps, slope2, gamma2, beta2, project, first, second
        )
        ctx.norms, ctx.shifts, ctx.valid = (norm1, norm2), shifts, valid
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, expand, slope1, gamma1, _, taps, slope2, gamma2, _, project, first, second = (
            ctx.saved_tensors
        )
        (norm1, norm2), shifts, valid = ctx.norms, ctx.shifts, ctx.valid

        active = F.leaky_relu(second, slope2.item())
        products = matmul(grad, active.t())
        grad_sum = grad.sum(1, keepdim=True)
        grad_project = products * norm2.scale.t() + grad_sum * norm2.offset.t()
        sums = (project * products).sum(0)[:, None], project.t() @ grad_sum
        grad_gamma2, grad_beta2, slope, constant = norm2.backward(*sums, gamma2)
        hidden = matmul((project * norm2.scale.t()).t(), grad)
        hidden.add_(active, alpha=slope).add_(constant)
        hidden[:, valid:] = 0
        grad_slope2 = _prelu_backward(hidden, second, slope2)

        active = F.leaky_relu(first, slope1.item())
        dots, ends = [], []
        total = hidden.sum(1)
        for shift in shifts:
            to, source = _overlap(shift, hidden.shape[1])
            dots.append((hidden[:, to] * active[:, source]).sum(1))
            ends.append(total - hidden[:, _outside(shift, valid)].sum(1))
        dots, ends = torch.stack(dots, 1), torch.stack(ends, 1)
        grad_taps = norm1.scale * dots + norm1.offset * ends
        sums = ((taps * values).sum(1, keepdim=True) for values in (dots, ends))
        grad_gamma1, grad_beta1, slope, constant = norm1.backward(*sums, gamma1)
        hidden = _convolve(hidden, taps * norm1.scale, [-shift for shift in shifts])
        hidden.add_(active, alpha=slope).add_(constant)
        hidden[:, valid:] = 0
        grad_slope1 = _prelu_backward(hidden, first, slope1)
        grad_expand = matmul(hidden, x.t())
        grad_x = matmul(expand.t(), hidden)
        return (
            *(grad_x, grad_expand, grad_slope1, grad_gamma1, grad_beta1, grad_taps),
            *(grad_slope2, grad_gamma2, grad_beta2, grad_project, None, None),
        )


class _Norm:
    """Global layer norm of ``(H, L)`` as ``scale * x + offset``, both ``(H, 1)``.

    ``x`` is zero beyond the valid frames; ``scale * x + offset`` is meant only within them.
    """

    def __init__(self, x, gamma, beta, valid):
        self.count = x.shape[0] * valid
        self.mean = x.sum(1).sum() / self.count
        energy = torch.linalg.vector_norm(x, dim=1).square().sum() / self.count
        variance = (energy - self.mean.square()).clamp(min=0)
        self.inverse = torch.rsqrt(variance + EPS)
        self.scale = (gamma * self.inverse)[:, None]
        self.offset = beta[:, None] - self.mean * self.scale

    def backward(self, dots, sums, gamma):
        """The gradients of gamma and beta, and what makes that of ``x``.

        Args:
            dots: ``(H, 1)``, sum over frames of the output's gradient times ``x``.
            sums: ``(H, 1)``, sum over frames of the output's gradient.

        Returns:
            gradients of gamma and beta ``(H,)``; floats a, b: that of ``x`` is ``scale`` times the
            output's plus ``a * x + b``.
        """
        grad_gamma = self.inverse * (dots - self.mean * sums)[:, 0]
        along = self.inverse.square() * (gamma @ grad_gamma) / self.count
        level = self.inverse * (gamma @ sums[:, 0]) / self.count
        return grad_gamma, sums[:, 0], -along.item(), (along * self.mean - level).item()


def _prelu_backward(grad, x, slope):
    """Turn the gradient of PReLU's output into that of its input, in place; return the slope's."""
    grad_slope = torch.dot(grad.view(-1), x.clamp(max=0).view(-1)).reshape(slope.shape)
    torch.ops.aten.leaky_relu_backward.grad_input(grad, x, slope.item(), False, grad_input=grad)
    return grad_slope


def _convolve(x, taps, shifts):
    """``out[c, t] = sum_k taps[c, k] * x[c, t + shifts[k]]``, x being zero outside."""
    center = shifts.index(0) if 0 in shifts else None
    out = torch.zeros_like(x) if center is None else x * taps[:, center, None]
    for tap, shift in enumerate(shifts):
        if tap != center:
            to, source = _overlap(shift, x.shape[1])
            out[:, to].addcmul_(x[:, source], taps[:, tap, None])
    return out


def _overlap(shift, length):
    """The slices of output and input that meet at ``shift``."""
    start, stop = max(0, -shift), max(0, min(length, length - shift))
    start = min(start, stop)
    return slice(start, stop), slice(start + shift, stop + shift)


def _outside(shift, valid):
    """The slice of valid frames t whose t + shift is not one."""
    return slice(0, min(-shift, valid)) if shift < 0 else slice(max(0, valid - shift), valid)
