"""A start for the learnt filterbank of time-domain extraction that loses nothing of the signal.

A random encoder and decoder return noise: much of a short training goes into their finding each
other. `set_cosine_filterbank` starts them as windowed cosines and sines and their inverse (cf. the
analytic filterbanks of Pariente et al., "Filterbank design for end-to-end speech separation",
ICASSP 2020). The encoder's rectifier keeps positive outputs only, so every filter has its negative
beside it: relu(x) - relu(-x) = x. Training then goes on as from any other start.
"""

import math

import torch


@torch.no_grad()
def set_cosine_filterbank(encoder, decoder):
    """Set the weights of ESPnet's ``ConvEncoder`` and ``ConvDecoder``.

    The decoder then returns what the encoder was given, but for the first and last ``kernel_size``
    samples, which fewer frames share.

    Args:
        encoder: with ``conv1d.weight`` ``(N, 1, L)`` and ``stride``.
        decoder: with ``convtrans1d.weight`` ``(N, 1, L)``.

    Raises:
        ValueError: N is below 2 L or no multiple of 4, or L is no multiple of twice the stride.
    """
    num_filters, _, length = encoder.conv1d.weight.shape
    stride = encoder.stride
    if num_filters < 2 * length or num_filters % 4 or length % (2 * stride):
        raise ValueError(
            "filterbank cosine: channel must be a multiple of 4 and at least 2 x kernel_size, and "
            f"kernel_size a multiple of 2 x stride; got channel {num_filters}, kernel_size "
            f"{length}, stride {stride}"
        )
    bands = num_filters // 4
    time = torch.arange(length, dtype=torch.double) + 0.5
    band = torch.arange(bands, dtype=torch.double) + 0.5
    phase = math.pi / bands * band[:, None] * time
    window = torch.sin(math.pi / length * time)
    analysis = torch.cat([phase.cos(), phase.sin()]) * window
    # Each frame alone is inverted; overlapping frames share by squared sines, which add up to one.
    share = window.square() * 2 * stride / length
    synthesis = torch.linalg.pinv(analysis).T * share
    # Of one size, as one learning rate trains both.
    scale = (synthesis.norm() / analysis.norm()).sqrt()
    analysis, synthesis = analysis * scale, synthesis / scale
    encoder.conv1d.weight.copy_(torch.cat([analysis, -analysis])[:, None])
    decoder.convtrans1d.weight.copy_(torch.cat([synthesis, -synthesis])[:, None])
