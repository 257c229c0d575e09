"""A block of TD-SpeakerBeam's TCN for CPUs, forwards and backwards by hand.

    x -> 1x1 -> PReLU -> gLN -> depthwise -> PReLU -> gLN -> 1x1 -> (residual, skip)

Autograd would pass over the hidden channels some sixty times and keep a dozen tensors of them. Here
it is a few passes, which are in `cpu_kernels`, and two tensors:

* A global layer norm is one scale and one offset a channel. The first norm's go into the depthwise
  convolution, the second's into the product after it.
* Many sums that the gradients of norms and taps need are those of the products' own gradients.
* PReLU is done again in the backward pass instead of being kept.

The utterances of a batch lie one behind the other, without padding: frames ``starts[u]`` to
``starts[u + 1]`` are utterance u's, and frames after the last are zero everywhere.
"""

import threading
from collections import namedtuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from espnet_tse_ser.frontends.td_speakerbeam import cpu_kernels as kernels
from espnet_tse_ser.frontends.td_speakerbeam.matmul import autocast_dtype, matmul

EPS = torch.finfo(torch.float32).eps  # ESPnet's, so that outputs agree


def run_block(shifts, starts, statistics, **tensors):
    """Run a block with global layer norms.

    Args:
        shifts: ``(K,)`` int array; tap k is for frame t + shifts[k].
        starts: ``(U + 1,)`` int array, the first frame of each of U utterances and what follows.
        statistics: `NormStatistics` or None.
        x: ``(C, L)``, zero from frame ``starts[-1]`` on. expand: ``(H, C)``.
        slope1, slope2: ``(1,)`` of the PReLUs. gamma1, beta1, gamma2, beta2: ``(H,)``.
        taps: ``(H, K)`` of the depthwise convolution. project: ``(O, H)``.

    Returns:
        ``(O, L)``, zero from frame ``starts[-1]`` on.
    """
    return _Block.apply(shifts, starts, statistics, *_Tensors(**tensors))  # it takes no keywords


_Tensors = namedtuple(
    "_Tensors", "x expand slope1 gamma1 beta1 taps slope2 gamma2 beta2 project".split()
)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shifts, starts, statistics, *tensors):
        x, expand, slope1, gamma1, beta1, taps, slope2, gamma2, beta2, project = tensors
        dtype = autocast_dtype(x)
        slopes = slope1.numpy()[0], slope2.numpy()[0]
        first = matmul(expand, x, dtype)
        norm1 = _Norm(kernels.moments(first, slopes[0], starts), gamma1, beta1, starts, statistics)
        second, active = torch.empty_like(first), _scratch(first)
        sums = kernels.convolve(
            first,
            slopes[0],
            norm1.scale,
            norm1.offset,
            taps,
            shifts,
            starts,
            slopes[1],
            second,
            active,
        )
        norm2 = _Norm(sums, gamma2, beta2, starts, statistics)
        out = matmul(project * gamma2, active, dtype)
        kernels.scale(out, norm2.inverse, project.numpy() @ norm2.offset, starts)
        ctx.save_for_backward(x, expand, taps, gamma2, project, first, second)
        ctx.norms, ctx.slopes, ctx.dtype = (norm1, norm2), slopes, dtype
        ctx.shifts, ctx.starts = shifts, starts
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, expand, taps, gamma2, project, first, second = ctx.saved_tensors
        (norm1, norm2), (slope1, slope2) = ctx.norms, ctx.slopes
        shifts, starts, dtype = ctx.shifts, ctx.starts, ctx.dtype
        scaled, active = grad.clone(memory_format=torch.contiguous_format), _scratch(second)
        nothing = np.zeros((len(grad), len(starts) - 1), norm2.scale.dtype)
        totals = kernels.scale(scaled, norm2.inverse, nothing, starts)
        hidden = matmul((project * gamma2).t(), scaled, dtype)
        terms = norm2.backward(*kernels.dots(hidden, second, slope2, starts, active))
        outer = matmul(scaled, active.t(), dtype)
        grad_project = outer * gamma2 + torch.from_numpy(totals @ norm2.offset.T)
        totals = project.numpy().T @ totals
        grad_gamma2 = (project * outer).sum(0).numpy() - totals @ (norm2.inverse * norm2.mean)
        grad_beta2 = totals.sum(1)

        grad_slope2, products, totals = kernels.back_to_taps(
            hidden, second, slope2, *terms, first, slope1, shifts, starts
        )
        scale, offset = norm1.scale[:, None], norm1.offset[:, None]
        grad_taps = (scale * products + offset * totals).sum(2)
        products, totals = ((taps.numpy()[:, :, None] * sums).sum(1) for sums in (products, totals))
        grad_gamma1 = (norm1.inverse * (products - norm1.mean * totals)).sum(1)
        grad_beta1 = totals.sum(1)
        terms = norm1.backward(
            *((norm1.scale * sums).sum(0, dtype=np.float64) for sums in (products, totals))
        )
        grad_slope1 = kernels.back_to_input(
            hidden, first, slope1, *terms, norm1.scale, taps, shifts, starts
        )
        small = (grad_slope1, grad_gamma1, grad_beta1, grad_taps)
        small += (grad_slope2, grad_gamma2, grad_beta2)
        small = [torch.from_numpy(np.atleast_1d(gradient)).to(x.dtype) for gradient in small]
        of_x, of_expand = matmul(expand.t(), hidden, dtype), matmul(hidden, x.t(), dtype)
        return None, None, None, of_x, of_expand, *small, grad_project


class _Norm:
    """Global layer norm of the ``(H, L)`` of each utterance: ``scale * x + offset``, ``(H, U)``.

    Args:
        sums: sum and sum of squares of each utterance, ``(2, U)``.
        gamma, beta: ``(H,)`` tensors. starts: ``(U + 1,)``. statistics: `NormStatistics` or None.
    """

    def __init__(self, sums, gamma, beta, starts, statistics):
        gamma, beta = gamma.numpy(), beta.numpy()
        self.count = len(gamma) * np.diff(starts)
        mean, energy = sums / self.count
        if statistics is not None:
            mean, energy = (np.full_like(mean, v) for v in statistics.next(*sums, self.count))
        inverse = 1 / np.sqrt(np.maximum(energy - mean**2, 0) + EPS)
        self.mean, self.inverse = mean.astype(gamma.dtype), inverse.astype(gamma.dtype)
        self.scale = np.outer(gamma, self.inverse)
        self.offset = beta[:, None] - self.mean * self.scale

    def backward(self, dots, totals):
        """What makes the gradient of ``x`` of that of the output.

        Args:
            dots, totals: of each utterance, the sum of scale * (gradient of the output), times x
                and alone, ``(U,)``.

        Returns:
            a, b ``(U,)``: the gradient of x is scale * (gradient of the output) + a * x + b.
        """
        along = -((self.inverse.astype(float)) ** 2) * (dots - self.mean * totals) / self.count
        level = -totals / self.count - along * self.mean
        return along.astype(self.mean.dtype), level.astype(self.mean.dtype)


class NormStatistics:
    """Statistics of the global layer norms of a recording that is run in pieces, twice.

    The first time each piece is normalised by what it has itself, and that is added up; after
    `collected` all are normalised by what the whole recording has. Call `rewind` before each piece.
    """

    def __init__(self):
        self._sums, self._position, self._collecting = [], 0, True

    def rewind(self):
        """Go back to the first norm."""
        self._position = 0

    def collected(self):
        """From now on use what was added up."""
        self._collecting = False

    def next(self, total, energy, count):
        """The mean and the mean square for the next norm.

        Args:
            total, energy, count: of what is normalised; sum, sum of squares and number of values.
        """
        piece = np.array([float(values.sum()) for values in (total, energy, count)])
        if self._position == len(self._sums):
            self._sums.append(np.zeros(3))
        if self._collecting:
            self._sums[self._position] += piece
        else:
            piece = self._sums[self._position]
        self._position += 1
        return piece[:2] / piece[2]


class _Buffer(threading.local):
    memory = torch.empty(0)


_buffer = _Buffer()


def _scratch(like):
    """A tensor like this one, the same memory again and again: fresh memory is slow to come by."""
    if _buffer.memory.dtype != like.dtype or _buffer.memory.numel() < like.numel():
        _buffer.memory = torch.empty(like.numel(), dtype=like.dtype)
    return _buffer.memory[: like.numel()].view(like.shape)
