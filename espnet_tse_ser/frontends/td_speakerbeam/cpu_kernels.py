"""The passes over the hidden channels of `cpu_block`, compiled by Numba.

Rows are channels; utterances lie one behind the other in them: utterance u is frames ``starts[u]``
to ``starts[u + 1]``, and frames after the last are zero. The part of a row that is of one utterance
fits into the processor's first cache, so a pass reads and writes it once, whatever it does with it
in between. ``taps`` are ``(H, K)``; tap k of frame t sees frame t + ``shifts[k]``. Loops run over
views of parts, because the compiler makes vectors of those only.
"""

import functools
import logging

import numba
import numpy as np
import torch

logger = logging.getLogger(__name__)


def _kernel(function):
    # Sums in any order, but NaN and infinity stay what they are: trainers look for them.
    options = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither here nor at home is a directory to write to
        logger.warning(
            "compiling %s for this process only: NUMBA_CACHE_DIR would keep it", function.__name__
        )
        compiled = numba.njit(**options)(function)

    @functools.wraps(function)
    def call(*args):
        nonlocal compiled
        args = [a.numpy() if isinstance(a, torch.Tensor) else a for a in args]
        try:
            return compiled(*args)
        except OSError as error:  # of the compilation, e.g. a full disk: nothing was computed yet
            logger.warning("cannot keep what Numba compiles (%s); set NUMBA_CACHE_DIR", error)
            compiled = numba.njit(**options)(function)
            return compiled(*args)

    return call


@numba.njit(inline="always")
def _prelu(x, slope):
    return x if x > 0 else slope * x


@numba.njit(inline="always")
def _seen(shift, length):
    """The frames of an utterance, from and to, of which a tap sees one of the same utterance."""
    start = min(max(0, -shift), length)
    return start, max(start, min(length, length - shift))


@_kernel
def moments(x, slope, starts):
    """The sum and the sum of squares of each utterance of PReLU(x), ``(2, U)``."""
    sums = np.zeros((2, len(starts) - 1))
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            source = x[row, starts[utt] : starts[utt + 1]]
            total = energy = x.dtype.type(0)
            for t in range(len(source)):
                value = _prelu(source[t], slope)
                total += value
                energy += value * value
            sums[0, utt] += total
            sums[1, utt] += energy
    return sums


@_kernel
def convolve(x, slope, scale, offset, taps, shifts, starts, next_slope, out, active):
    """Write the depthwise convolution of scale * PReLU(x) + offset, and PReLU of that.

    Args:
        scale, offset: ``(H, U)``. out, active: written, like ``x``.

    Returns:
        the sum and the sum of squares of each utterance of ``active``, ``(2, U)``.
    """
    sums = np.zeros((2, len(starts) - 1))
    normed = np.empty(x.shape[1], x.dtype)
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            source = x[row, starts[utt] : starts[utt + 1]]
            to = out[row, starts[utt] : starts[utt + 1]]
            activated = active[row, starts[utt] : starts[utt + 1]]
            a, b = scale[row, utt], offset[row, utt]
            for t in range(len(source)):
                normed[t] = a * _prelu(source[t], slope) + b
            to[:] = 0
            for tap in range(len(shifts)):
                start, stop = _seen(shifts[tap], len(source))
                weight = taps[row, tap]
                part, seen = to[start:stop], normed[start + shifts[tap] : stop + shifts[tap]]
                for t in range(len(part)):
                    part[t] += weight * seen[t]
            total = energy = x.dtype.type(0)
            for t in range(len(to)):
                value = _prelu(to[t], next_slope)
                activated[t] = value
                total += value
                energy += value * value
            sums[0, utt] += total
            sums[1, utt] += energy
        out[row, starts[-1] :] = 0
        active[row, starts[-1] :] = 0
    return sums


@_kernel
def scale(x, factors, offsets, starts):
    """Make x ``factors[u] * x + offsets[:, u]`` for each utterance u, and zero after the last.

    Returns:
        the sum of each row and utterance that x had, ``(H, U)``.
    """
    sums = np.empty((len(x), len(starts) - 1), x.dtype)
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            part = x[row, starts[utt] : starts[utt + 1]]
            factor, offset = factors[utt], offsets[row, utt]
            total = x.dtype.type(0)
            for t in range(len(part)):
                value = part[t]
                total += value
                part[t] = factor * value + offset
            sums[row, utt] = total
        x[row, starts[-1] :] = 0
    return sums


@_kernel
def dots(grad, x, slope, starts, active):
    """Write PReLU(x) and return the sums of grad * PReLU(x) and grad of each utterance, (2, U)."""
    sums = np.zeros((2, len(starts) - 1))
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            source = x[row, starts[utt] : starts[utt + 1]]
            gradient = grad[row, starts[utt] : starts[utt + 1]]
            to = active[row, starts[utt] : starts[utt + 1]]
            dot = total = x.dtype.type(0)
            for t in range(len(source)):
                value = _prelu(source[t], slope)
                to[t] = value
                dot += gradient[t] * value
                total += gradient[t]
            sums[0, utt] += dot
            sums[1, utt] += total
        active[row, starts[-1] :] = 0
    return sums


@_kernel
def back_to_taps(grad, x, slope, along, level, before, before_slope, shifts, starts):
    """Take the gradient back through the norm and the PReLU after the depthwise convolution.

    Args:
        grad: becomes prelu'(x) * (grad + along * PReLU(x) + level). along, level: ``(U,)``.
        x: what the convolution gave. before: what PReLU(before) gave it, but for a norm.

    Returns:
        the sum for the gradient of ``slope``; for each row, tap and utterance ``(H, K, U)``, the
        sums of ``grad``, where the tap saw a frame, times PReLU(before), and alone.
    """
    one, zero = x.dtype.type(1), x.dtype.type(0)
    slope_sum = 0.0
    products, totals = np.empty((2, len(x), len(shifts), len(starts) - 1), x.dtype)
    active = np.empty(x.shape[1], x.dtype)
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            source = x[row, starts[utt] : starts[utt + 1]]
            to = grad[row, starts[utt] : starts[utt + 1]]
            earlier = before[row, starts[utt] : starts[utt + 1]]
            a, b = along[utt], level[utt]
            negative = zero
            for t in range(len(source)):
                value = source[t]
                gradient = to[t] + a * _prelu(value, slope) + b
                negative += gradient * (zero if value > 0 else value)
                to[t] = gradient * (one if value > 0 else slope)
                active[t] = _prelu(earlier[t], before_slope)
            slope_sum += negative
            for tap in range(len(shifts)):
                start, stop = _seen(shifts[tap], len(source))
                part, seen = to[start:stop], active[start + shifts[tap] : stop + shifts[tap]]
                product = total = zero
                for t in range(len(part)):
                    product += part[t] * seen[t]
                    total += part[t]
                products[row, tap, utt], totals[row, tap, utt] = product, total
    return slope_sum, products, totals


@_kernel
def back_to_input(grad, x, slope, along, level, scale, taps, shifts, starts):
    """Take the gradient back through the depthwise convolution, the norm and the PReLU before it.

    Args:
        grad: of the convolution's output; becomes that of ``x``. along, level: ``(U,)``.
        x: PReLU(x) * scale, with an offset, went into the convolution; scale: ``(H, U)``.

    Returns:
        the sum for the gradient of ``slope``.
    """
    one, zero = x.dtype.type(1), x.dtype.type(0)
    slope_sum = 0.0
    gradient = np.empty(x.shape[1], x.dtype)
    for row in range(len(x)):
        for utt in range(len(starts) - 1):
            source = x[row, starts[utt] : starts[utt + 1]]
            to = grad[row, starts[utt] : starts[utt + 1]]
            a, b = along[utt], level[utt]
            for t in range(len(source)):
                gradient[t] = a * _prelu(source[t], slope) + b
            for tap in range(len(shifts)):
                start, stop = _seen(shifts[tap], len(source))
                weight = scale[row, utt] * taps[row, tap]
                part, seen = gradient[start + shifts[tap] : stop + shifts[tap]], to[start:stop]
                for t in range(len(part)):
                    part[t] += weight * seen[t]
            negative = zero
            for t in range(len(source)):
                value = source[t]
                negative += gradient[t] * (zero if value > 0 else value)
                to[t] = gradient[t] * (one if value > 0 else slope)
            slope_sum += negative
        grad[row, starts[-1] :] = 0
    return slope_sum
