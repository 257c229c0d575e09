"""TD-SpeakerBeam: a time-domain extractor steered by an enrollment utterance.

Delcroix et al., "Improving speaker discrimination of target speech extraction with time-domain
SpeakerBeam", ICASSP 2020; the mask network is the TCN of Conv-TasNet (Luo & Mesgarani, 2019).

`TDSpeakerBeamExtractor` has the constructor, parameters and parameter names of ESPnet's class of
the same name, so checkpoints are exchangeable. It differs in two ways. Padded frames are masked
everywhere, so that an utterance gives the same result alone and in a padded batch (ESPnet's global
layer norm and enrollment mean see the padding). And it is about three times faster on a CPU:
matrix products instead of 1x1 convolutions, shifted sums instead of the depthwise convolution,
one fused group norm, residual and skip projections in one product.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from espnet2.enh.extractor.td_speakerbeam_extractor import (
    TDSpeakerBeamExtractor as _ESPnetTDSpeakerBeamExtractor,
)

_NONLINEAR = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
_EPS = torch.finfo(torch.float32).eps  # ESPnet's, so that outputs agree


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
    """Drop-in for ESPnet's extractor; see its constructor for the arguments.

    Raises:
        ValueError: ``norm_type`` is neither gLN nor cLN (BatchNorm and GroupNorm statistics
            would depend on the padding), or complex features are given.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        kinds = {type(m).__name__ for m in self.modules() if "Norm" in type(m).__name__}
        if not kinds <= {"GlobalLayerNorm", "ChannelwiseLayerNorm"}:
            raise ValueError(f"norm_type must be gLN or cLN here, got {sorted(kinds)}")

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
        mask = frame_mask(ilens_aux, input_aux.shape[1])
        frames = _run_tcn(self.auxiliary_net, input_aux.transpose(1, 2), mask)
        if mask is not None:
            frames = frames * mask
        return frames.sum(-1) / ilens_aux.to(frames)[:, None]

    def estimate_mask(self, feature, ilens, embedding):
        """Estimate the target's mask.

        Args:
            feature: encoded mixture ``(B, L, N)``; ilens: valid frames ``(B,)``.
            embedding: what `embed` returned for the same batch.

        Returns:
            ``(B, L, N)``; zero in padded frames.
        """
        mask = frame_mask(ilens, feature.shape[1])
        out = _run_tcn(self.tcn, feature.transpose(1, 2), mask, self._adapt(embedding))
        out = out if mask is None else out * mask
        return out.transpose(1, 2)

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

    def _adapt(self, embedding):
        skip = self.tcn.skip_connection
        parts = embedding.chunk(2, dim=1) if skip else (embedding,)

        def adapt(index, outputs):
            if index != self.tcn.i_adapt_layer:
                return outputs
            return self.tcn.adapt_layer(tuple(outputs), tuple(parts))

        return adapt


def _run_tcn(tcn, x, mask, adapt=None):
    """Run ESPnet's ``TemporalConvNet`` modules on ``x`` ``(B, N, L)`` -> ``(B, out, L)``."""
    norm, bottleneck, stacks, *head = tcn.network
    output = _pointwise(norm(x), bottleneck.weight)
    skip_sum = 0.0
    for index, block in enumerate(block for stack in stacks for block in stack):
        outputs = _block(output, *_block_arguments(block), mask)
        if adapt is not None:
            outputs = adapt(index, outputs)
        output = output + outputs[0]
        if tcn.skip_connection:
            skip_sum = skip_sum + outputs[1]
    score = skip_sum if tcn.skip_connection else output
    for layer in head[:-1]:
        score = _prelu(score, layer.weight) if isinstance(layer, torch.nn.PReLU) else layer(score)
    score = _pointwise(score, head[-1].weight)
    return _NONLINEAR[tcn.mask_nonlinear](score) if tcn.mask_nonlinear != "linear" else score


def _block_arguments(block):
    """The tensors and numbers that `_block` needs of ESPnet's ``TemporalBlock``."""
    expand, prelu1, norm1, separable = block.net
    depthwise, *_, prelu2, norm2, project = separable.net
    last = (
        [project.weight]
        if separable.skip_conv is None
        else [project.weight, separable.skip_conv.weight]
    )
    return (
        (expand.weight, prelu1.weight, norm1.gamma, norm1.beta),
        (depthwise.weight, prelu2.weight, norm2.gamma, norm2.beta),
        last,
        (depthwise.dilation[0], depthwise.padding[0], type(norm1).__name__ == "GlobalLayerNorm"),
    )


def _block(x, first, second, last, numbers, mask):
    """One block of the TCN: ``(B, C, L)`` -> (residual, skip) or (residual,)."""
    dilation, padding, is_global = numbers
    norm = _global_norm if is_global else _channel_norm
    weight, slope, gamma, beta = first
    h = norm(_prelu(_pointwise(x, weight), slope), gamma, beta, mask)
    weight, slope, gamma, beta = second
    h = norm(_prelu(_depthwise(h, weight, dilation, padding), slope), gamma, beta, mask)
    return _pointwise(h, torch.cat(last)).split([w.shape[0] for w in last], dim=1)


def _pointwise(x, weight):
    # bmm, because matmul of a 2-D with a 3-D tensor transposes and copies the large one.
    return torch.bmm(weight[:, :, 0].expand(len(x), -1, -1), x)


def _depthwise(x, weight, dilation, padding):
    """Depthwise dilated convolution, output as long as the input.

    A causal layer pads on both sides and chomps the end, which is the same as padding the left.
    """
    return _Depthwise.apply(x, weight, dilation, padding)


def _global_norm(x, gamma, beta, mask):
    """Global layer norm over the valid frames; padded frames become zero."""
    if mask is None:
        return F.group_norm(x, 1, gamma.flatten(), beta.flatten(), _EPS)
    return _MaskedGlobalNorm.apply(x, gamma, beta, mask)


def _channel_norm(x, gamma, beta, mask):
    """Layer norm over the channels of each frame; padded frames become zero."""
    variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
    x = gamma * (x - mean) * torch.rsqrt(variance + _EPS) + beta
    return x if mask is None else x * mask


def _prelu(x, slope):
    if x.device.type == "cpu":
        return _PReLU.apply(x, slope)
    return F.prelu(x, slope)


class _MaskedGlobalNorm(torch.autograd.Function):
    """Global layer norm over valid frames; a third of the passes that autograd would make."""

    @staticmethod
    def forward(ctx, x, gamma, beta, mask):
        count = mask.sum(dim=(1, 2), keepdim=True) * x.shape[1]
        normed = x * mask
        normed -= normed.sum(dim=(1, 2), keepdim=True) / count * mask
        energy = torch.linalg.vector_norm(normed, dim=(1, 2), keepdim=True).square()
        inverse = torch.rsqrt(energy / count + _EPS)
        normed *= inverse
        ctx.save_for_backward(normed, gamma, mask, count, inverse)
        return (normed * gamma).addcmul_(beta, mask)

    @staticmethod
    def backward(ctx, grad):
        normed, gamma, mask, count, inverse = ctx.saved_tensors
        grad_gamma = (grad * normed).sum(dim=2, keepdim=True)
        grad_beta = torch.bmm(grad, mask.transpose(1, 2).to(grad.dtype))
        mean = (grad_beta * gamma).sum(dim=1, keepdim=True) / count
        slope = (grad_gamma * gamma).sum(dim=1, keepdim=True) / count
        grad_x = grad * (gamma * inverse)
        grad_x.addcmul_(normed, -slope * inverse).sub_(mean * inverse).mul_(mask)
        return grad_x, grad_gamma.sum(0, keepdim=True), grad_beta.sum(0, keepdim=True), None


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution as a sum of shifted copies, added in place and without padding."""

    @staticmethod
    def forward(ctx, x, weight, dilation, padding):
        shifts = [tap * dilation - padding for tap in range(weight.shape[2])]
        ctx.save_for_backward(x, weight)
        ctx.shifts = shifts
        return _shifted_sum(x, weight, shifts)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = _shifted_sum(grad, weight, [-shift for shift in ctx.shifts])
        taps = []
        for shift in ctx.shifts:
            to, source = _overlap(shift, x.shape[-1])
            taps.append((grad[..., to] * x[..., source]).sum(dim=(0, 2)))
        return grad_x, torch.stack(taps, -1).unsqueeze(1), None, None


def _shifted_sum(x, weight, shifts):
    """``out[t] = sum_k weight[k] * x[t + shifts[k]]``, x being zero outside."""
    out = torch.zeros_like(x) if 0 not in shifts else x * weight[:, :, shifts.index(0)]
    for tap, shift in enumerate(shifts):
        if shift != 0:
            to, source = _overlap(shift, x.shape[-1])
            out[..., to].addcmul_(x[..., source], weight[:, :, tap])
    return out


def _overlap(shift, length):
    """The slices of output and input that meet at ``shift``."""
    start, stop = max(0, -shift), max(0, min(length, length - shift))
    start = min(start, stop)
    return slice(start, stop), slice(start + shift, stop + shift)


class _PReLU(torch.autograd.Function):
    """PReLU with one slope. PyTorch's own backward takes several times as long on a CPU."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return F.leaky_relu(x, slope.item())

    @staticmethod
    def backward(ctx, grad):
        x, slope = ctx.saved_tensors
        grad_x = torch.ops.aten.leaky_relu_backward(grad, x, slope.item(), False)
        grad_slope = (grad * x.clamp(max=0)).sum().reshape(slope.shape)
        return grad_x, grad_slope
