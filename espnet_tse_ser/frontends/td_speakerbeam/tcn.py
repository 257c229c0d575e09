"""ESPnet's ``TemporalConvNet``, the mask network of Conv-TasNet, with padding masked, and fast.

Padded frames count nowhere: an utterance gives the same result alone and in a padded batch
(ESPnet's global layer norm sees the padding). On a CPU it is several times faster, see `cpu_block`.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F

from espnet_tse_ser.frontends.td_speakerbeam.cpu_block import EPS, run_block
from espnet_tse_ser.frontends.td_speakerbeam.matmul import Product

NONLINEAR = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
_FRAMES = 256  # batches on a CPU get multiples: oneDNN prepares the products of each shape anew


def frame_mask(lengths, num_frames):
    """Make a mask of valid frames.

    Args:
        lengths: ``(B,)`` valid frames of each item.
        num_frames: frames of the padded batch.

    Returns:
        ``(B, 1, num_frames)`` float mask, or None when no item is padded.

    >>> frame_mask(torch.tensor([1, 2]), 2)[:, 0]
    tensor([[1., 0.],
            [1., 1.]])
    """
    if bool((lengths >= num_frames).all()):
        return None
    frames = torch.arange(num_frames, device=lengths.device)
    return (frames < lengths[:, None]).float().unsqueeze(1)


def run_tcn(tcn, x, lengths, embedding=None, statistics=None):
    """Run the modules of ESPnet's ``TemporalConvNet`` or, with an embedding, its informed kind.

    Args:
        x: ``(B, N, L)``; lengths: valid frames ``(B,)``; embedding: ``(B, D)`` or None;
        statistics: `NormStatistics` or None.

    Returns:
        ``(B, out, L)``, zero in padded frames.
    """
    x = x.to(tcn.network[1].weight.dtype)  # from that of autocast
    if statistics is not None:
        statistics.rewind()
    parts = ()
    if embedding is not None:
        parts = embedding.chunk(2, dim=1) if tcn.skip_connection else (embedding,)
    if not _is_for_cpu_block(tcn, x):
        mask = frame_mask(lengths, x.shape[2])
        mask = None if mask is None else mask.to(x.dtype)

        def adapt(outputs):
            return tcn.adapt_layer(outputs, parts)

        run_block = functools.partial(_run_block, mask=mask, statistics=statistics)
        out = _run_layers(tcn, x, run_block, adapt)
        return out if mask is None else out * mask

    lengths = lengths.tolist()
    starts = np.cumsum([0, *lengths])
    padding = -int(starts[-1]) % _FRAMES

    def adapt_each(outputs):
        outputs = [out.split([*lengths, padding], dim=2) for out in outputs]
        adapted = [
            tcn.adapt_layer(tuple(out[u] for out in outputs), tuple(p[u : u + 1] for p in parts))
            for u in range(len(lengths))
        ]
        return [F.pad(torch.cat(utts, dim=2), (0, padding)) for utts in zip(*adapted, strict=True)]

    packed = torch.cat([utt[:, :n] for utt, n in zip(x, lengths, strict=True)], dim=1)[None]
    run_block = functools.partial(_run_block_on_cpu, starts=starts, statistics=statistics)
    out = _run_layers(tcn, packed, run_block, adapt_each, padding).split(lengths, dim=2)
    return torch.cat([F.pad(utt, (0, x.shape[2] - utt.shape[2])) for utt in out])


def _is_for_cpu_block(tcn, x):
    norm = tcn.network[2][0][0].net[2]
    whole = norm.gamma.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and whole and type(norm).__name__ == "GlobalLayerNorm"


def _run_layers(tcn, x, run_block, adapt, padding=0):
    """Run a TCN: ``(B, N, L)`` -> ``(B, out, L)``.

    Args:
        run_block: function of ``(B, C, L)`` and a block -> (residual, skip) or (residual,).
        adapt: function that makes these those of one speaker. padding: zero frames to compute with.
    """
    norm, bottleneck, stacks, *head = tcn.network
    num_frames = x.shape[2]
    output = F.pad(_bottleneck(x, norm, bottleneck.weight), (0, padding))
    skip_sum = 0.0
    for index, block in enumerate(block for stack in stacks for block in stack):
        outputs = run_block(output, block)
        if index == getattr(tcn, "i_adapt_layer", None):
            outputs = adapt(outputs)
        output = output + outputs[0]
        if tcn.skip_connection:
            skip_sum = skip_sum + outputs[1]
    score = skip_sum if tcn.skip_connection else output
    for layer in head[:-1]:
        score = layer(score)
    score = _pointwise(score, head[-1].weight)[:, :, :num_frames]
    return NONLINEAR[tcn.mask_nonlinear](score) if tcn.mask_nonlinear != "linear" else score


def _bottleneck(x, norm, weight):
    """Channel-wise layer norm and 1x1 convolution, the norm where there are fewer channels.

    That norm is one scale and one offset a frame, which the convolution may as well get later. It
    takes features whose mean is not far above their spread, as those of a rectifier.
    """
    with torch.autocast(x.device.type, enabled=False):  # what is left of large numbers
        scaled = weight * norm.gamma.transpose(1, 2).flatten()[:, None]
        mean, energy = x.mean(1, keepdim=True), x.square().mean(1, keepdim=True)
        inverse = torch.rsqrt((energy - mean.square()).clamp(min=0) + EPS)
        out = _pointwise(x, scaled) - scaled.sum(1) * mean
        return out * inverse + weight[:, :, 0] @ norm.beta[0]


def _run_block_on_cpu(x, block, starts, statistics):
    """Run a block with global layer norms on utterances behind each other ``(1, C, L)``."""
    expand, prelu1, norm1, separable = block.net
    depthwise, *_, prelu2, norm2, _ = separable.net
    last = _last_weights(separable)
    out = run_block(
        x=x[0],
        expand=expand.weight[:, :, 0],
        slope1=prelu1.weight,
        gamma1=norm1.gamma.flatten(),
        beta1=norm1.beta.flatten(),
        taps=depthwise.weight[:, 0],
        slope2=prelu2.weight,
        gamma2=norm2.gamma.flatten(),
        beta2=norm2.beta.flatten(),
        project=torch.cat(last)[:, :, 0],
        shifts=_shifts(depthwise),
        starts=starts,
        statistics=statistics,
    )
    return out[None].split([len(weight) for weight in last], dim=1)


def _run_block(x, block, mask, statistics):
    """Run a block on a batch ``(B, C, L)``, with autograd; as `torch.compile` likes it."""
    expand, prelu1, norm1, separable = block.net
    depthwise, *_, prelu2, norm2, _ = separable.net
    last = _last_weights(separable)
    h = _norm(prelu1(_pointwise(x, expand.weight)), norm1, mask, statistics)
    shifts = _shifts(depthwise)
    # A causal layer pads on both sides and chomps the end, which is to pad the left.
    h = F.pad(h, (max(-shifts[0], 0), max(shifts[-1], 0)))
    h = F.conv1d(h, depthwise.weight, dilation=depthwise.dilation, groups=len(depthwise.weight))
    h = _norm(prelu2(h), norm2, mask, statistics)
    return _pointwise(h, torch.cat(last)).split([len(weight) for weight in last], dim=1)


def _last_weights(separable):
    if separable.skip_conv is None:
        return [separable.net[-1].weight]
    return [separable.net[-1].weight, separable.skip_conv.weight]


def _shifts(depthwise):
    """The frames from the output to those that the taps see."""
    return np.arange(depthwise.kernel_size[0]) * depthwise.dilation[0] - depthwise.padding[0]


def _pointwise(x, weight):
    """1x1 convolution of ``(B, C, L)`` by a product; ESPnet's often misses PyTorch's fast path."""
    if len(x) == 1:
        return Product.apply(weight[:, :, 0], x[0])[None]
    # bmm, because matmul of a 2-D with a 3-D tensor transposes and copies the large one.
    return torch.bmm(weight[:, :, 0].expand(len(x), -1, -1), x)


def _norm(x, norm, mask, statistics):
    """ESPnet's global or channel-wise layer norm over valid frames; padded frames become zero."""
    x = x.to(norm.gamma.dtype)  # from that of autocast
    if type(norm).__name__ == "ChannelwiseLayerNorm":
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
    elif mask is None and statistics is None:
        return F.group_norm(x, 1, norm.gamma.flatten(), norm.beta.flatten(), EPS)
    else:
        mask = torch.ones_like(x[:, :1]) if mask is None else mask
        count = mask.sum(dim=(1, 2), keepdim=True) * x.shape[1]
        total = (x * mask).sum(dim=(1, 2), keepdim=True)
        mean = total / count
        variance = ((x - mean) * mask).square().sum(dim=(1, 2), keepdim=True) / count
        if statistics is not None:
            energy = (variance + mean.square()) * count
            mean, energy = statistics.next(total.double(), energy.double(), count)
            variance = energy - mean**2
    x = norm.gamma * (x - mean) * (variance + EPS) ** -0.5 + norm.beta
    return x if mask is None else x * mask
