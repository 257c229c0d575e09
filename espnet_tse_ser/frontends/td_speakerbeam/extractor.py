"""TD-SpeakerBeam: a time-domain extractor steered by an enrollment utterance.

Delcroix et al., "Improving speaker discrimination of target speech extraction with time-domain
SpeakerBeam", ICASSP 2020; the mask network is the TCN of Conv-TasNet (Luo & Mesgarani, 2019).

`TDSpeakerBeamExtractor` has the parameters of ESPnet's class of the same name, so checkpoints are
exchangeable, and takes the same options, less those without effect and norms that would depend on
the padding. It differs in two ways. Padded frames count nowhere:
an utterance gives the same result alone and in a padded batch (ESPnet's global layer norm and
enrollment mean see the padding). And it is several times faster on a CPU, see `cpu_block`.
"""

import functools
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from espnet2.enh.extractor.td_speakerbeam_extractor import (
    TDSpeakerBeamExtractor as _ESPnetTDSpeakerBeamExtractor,
)

from espnet_tse_ser.frontends.td_speakerbeam.cpu_block import EPS, run_block
from espnet_tse_ser.frontends.td_speakerbeam.matmul import Product
from espnet_tse_ser.values.kinds import Choice, Flag, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, Number

_NONLINEAR = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
_COUNT = Number(1, 16, whole=True)  # of blocks; the last of a repeat has dilation 2 ** (layer - 1)
_NORM = Choice("gLN", "cLN")
_BEFORE_MASK = Choice("prelu", "linear", *_NONLINEAR)
_MASK = Choice("linear", *_NONLINEAR)
_ADAPTATION = Choice("mul", "muladd", "concat")
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


class TDSpeakerBeamExtractor(_ESPnetTDSpeakerBeamExtractor):
    """Drop-in for ESPnet's extractor.

    Args:
        input_dim: encoder channels.
        layer: blocks in a repeat; stack: repeats.
        bottleneck_dim, hidden_dim: channels between and within blocks.
        skip_dim: channels of the skip connections, ``bottleneck_dim``; None leaves them out.
        kernel: of the depthwise convolutions. causal: pad at the beginning only.
        norm_type: gLN or cLN; statistics of ESPnet's others would depend on the padding.
        pre_nonlinear, nonlinear: before the last layer of the mask network, and of the mask.
        i_adapt_layer: the block, counted from 0 through all repeats, whose output is adapted to
            the target. adapt_layer_type: mul, muladd or concat.
        adapt_enroll_dim: size of an embedding: ``bottleneck_dim``, twice that for muladd.
        use_spk_emb: enrollments are embeddings, of ``spk_emb_dim``, not encoded speech.

    Raises:
        ValueError: sizes that do not fit each other, or an ``i_adapt_layer`` that does not exist:
            the enrollment would have no effect.
    """

    def __init__(
        self,
        input_dim,
        layer: _COUNT = 8,
        stack: _COUNT = 3,
        bottleneck_dim: CHANNELS = 128,
        hidden_dim: CHANNELS = 512,
        skip_dim: Maybe(CHANNELS) = 128,
        kernel: Number(1, 63, odd=True) = 3,
        causal: Flag() = False,
        norm_type: _NORM = "gLN",
        pre_nonlinear: _BEFORE_MASK = "prelu",
        nonlinear: _MASK = "relu",
        i_adapt_layer: Number(0, 255, whole=True) = 7,
        adapt_layer_type: _ADAPTATION = "mul",
        adapt_enroll_dim: Number(1, 2 * CHANNELS.high, whole=True) = 128,
        use_spk_emb: Flag() = False,
        spk_emb_dim: CHANNELS = 256,
    ):
        if not 0 <= i_adapt_layer < layer * stack:
            raise ValueError(
                f"i_adapt_layer {i_adapt_layer} does not exist, so that the enrollment would have "
                f"no effect: there are {layer} x {stack} blocks, 0 to {layer * stack - 1}"
            )
        needed = {"adapt_enroll_dim": bottleneck_dim * (2 if adapt_layer_type == "muladd" else 1)}
        if skip_dim is not None:
            needed["skip_dim"] = bottleneck_dim
        given = {"adapt_enroll_dim": adapt_enroll_dim, "skip_dim": skip_dim}
        for name, size in needed.items():
            if given[name] != size:
                raise ValueError(
                    f"{name} must be {size} with bottleneck_dim {bottleneck_dim} and "
                    f"adapt_layer_type {adapt_layer_type}, got {given[name]}"
                )
        super().__init__(
            input_dim,
            layer=layer,
            stack=stack,
            bottleneck_dim=bottleneck_dim,
            hidden_dim=hidden_dim,
            skip_dim=skip_dim,
            kernel=kernel,
            causal=causal,
            norm_type=norm_type,
            pre_nonlinear=pre_nonlinear,
            nonlinear=nonlinear,
            i_adapt_layer=i_adapt_layer,
            adapt_layer_type=adapt_layer_type,
            adapt_enroll_dim=adapt_enroll_dim,
            use_spk_emb=use_spk_emb,
            spk_emb_dim=spk_emb_dim,
        )
        kinds = {type(m).__name__ for m in self.modules() if "Norm" in type(m).__name__}
        if not kinds <= {"GlobalLayerNorm", "ChannelwiseLayerNorm"}:
            raise ValueError(f"norm_type must be gLN or cLN here, got {norm_type}")
        self.has_global_norms = "GlobalLayerNorm" in kinds

    def embed(self, input_aux, ilens_aux):
        """Embed the enrollment.

        Args:
            input_aux: encoded enrollment ``(B, L, N)``, or embeddings ``(B, N)`` with
                ``use_spk_emb``.
            ilens_aux: valid frames ``(B,)``.

        Returns:
            ``(B, D)``, D being ``adapt_enroll_dim``, twice that with skip connections.
        """
        if self.use_spk_emb:
            return self.auxiliary_net(input_aux.reshape(len(input_aux), -1, 1)).squeeze(-1)
        frames = _run_tcn(self.auxiliary_net, input_aux.transpose(1, 2), ilens_aux)
        return frames.sum(-1) / ilens_aux.to(frames)[:, None]

    def estimate_mask(self, feature, ilens, embedding, statistics=None):
        """Estimate the target's mask.

        Args:
            feature: encoded mixture ``(B, L, N)``; ilens: valid frames ``(B,)``.
            embedding: what `embed` returned for the same batch.
            statistics: `NormStatistics` if these are pieces of one recording.

        Returns:
            ``(B, L, N)``; zero in padded frames.
        """
        mask = _run_tcn(self.tcn, feature.transpose(1, 2), ilens, embedding, statistics)
        return mask.transpose(1, 2)

    def forward(self, input, ilens, input_aux, ilens_aux, suffix_tag="", additional=None):
        """Extract the target from the encoded mixture.

        Args:
            input: ``(B, L, N)``; ilens: ``(B,)``; input_aux, ilens_aux: as in `embed`.
            suffix_tag: appended to the keys of the third output.
            additional: unused, kept for ESPnet's interface.

        Returns:
            masked features ``(B, L, N)``, ``ilens``, and
            ``{"enroll_emb<suffix>": (B, D)}`` (with its gradient: the speaker-identification
            loss needs it).
        """
        if not isinstance(input, torch.Tensor) or torch.is_complex(input):
            raise ValueError("complex features are not supported; use the conv encoder")
        embedding = self.embed(input_aux, ilens_aux)
        masked = input * self.estimate_mask(input, ilens, embedding)
        return masked, ilens, OrderedDict({f"enroll_emb{suffix_tag}": embedding})


def _run_tcn(tcn, x, lengths, embedding=None, statistics=None):
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
    return _NONLINEAR[tcn.mask_nonlinear](score) if tcn.mask_nonlinear != "linear" else score


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
