"""A start for the first convolution of an SSL encoder: a filterbank instead of noise."""

import math

import torch


@torch.no_grad()
def set_mel_filters(weight, rate):
    """Set filters to windowed cosines and sines at frequencies that are evenly spaced in mel.

    Beside each is its negative, so that what follows a rectifier, smoothed by the next layer, is
    the energy of a band (cf. Zeghidour et al., "LEAF", ICLR 2021). Their norm together stays.

    Args:
        weight: ``(N, 1, L)``, of a convolution. rate: samples a second.

    Raises:
        ValueError: N is no multiple of 4, or a filter is shorter than 10 ms.
    """
    num_filters, _, length = weight.shape
    if num_filters % 4 or length < 0.01 * rate:
        raise ValueError(
            "filterbank mel: the first layer of extractor_conv_layer_config needs a multiple of 4 "
            f"channels and a kernel of {math.ceil(0.01 * rate)} or more; got {num_filters} and "
            f"{length}"
        )
    bands = num_filters // 4
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    mel = highest * torch.arange(1, bands + 1, dtype=torch.double) / (bands + 1)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    seconds = (torch.arange(length, dtype=torch.double) - (length - 1) / 2) / rate
    phase = 2 * math.pi * hertz[:, None] * seconds
    window = torch.hann_window(length, periodic=False, dtype=torch.double)
    filters = torch.cat([phase.cos(), phase.sin()]) * window
    filters = torch.cat([filters, -filters])[:, None]
    weight.copy_(filters * (weight.norm() / filters.norm()))
