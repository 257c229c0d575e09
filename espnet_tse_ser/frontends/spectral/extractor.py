"""An extractor for CPUs with fast matrix products: dilated frames of log spectra, adapted masks.

What a processor does best is large products in bfloat16; a TCN of depthwise convolutions at 500
frames a second waits for memory instead. So here frames are long and few, and a block is two
products over three dilated frames (a time-delay network, Waibel et al. 1989; with the residual
blocks of a transformer's feed-forward layer). Adaptation is SpeakerBeam's (Zmolikova et al., IEEE
JSTSP 2019): channels are multiplied by what an auxiliary network makes of the enrollment; here
before each block, by an auxiliary network that is the first blocks of the mask network itself.
"""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from espnet2.enh.extractor.abs_extractor import AbsExtractor

from espnet_tse_ser.audio.levels import REFERENCE
from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.frontends.spectral.transform import join_complex, split_complex
from espnet_tse_ser.training.precision import float32, narrowed, widened
from espnet_tse_ser.values.blocks import COUNT, check_adapted
from espnet_tse_ser.values.numbers import CHANNELS, Number

_FLOOR = 0.01  # of a magnitude, relative to that of speech at the reference level
_LARGEST, _TURN = 1.2, 1.5  # of a mask: magnitude, and phase in radians


class SpectralExtractor(AbsExtractor):
    """Extract the target by a complex mask of spectra, of `STFTEncoder`.

    Attributes:
        transform: what encoder and decoder are. needs_enrollment: True. has_global_norms: False, a
            norm sees one frame.
        embedding_dim: size of an embedding. reach: frames that an output depends on, each way.

    Args:
        input_dim: features of the encoder.
        layer: blocks in a repeat, with dilations 1, 2, 4 ...; stack: repeats.
        bottleneck_dim, hidden_dim: channels between and within blocks.
        kernel: frames that a block sees at once.
        i_adapt_layer: the block, counted from 0 through all repeats, from which on each is adapted;
            those before it are the auxiliary network too.

    Raises:
        ValueError: an ``i_adapt_layer`` that does not exist.
    """

    transform, needs_enrollment, has_global_norms = "stft", True, False

    def __init__(
        self,
        input_dim,
        layer: COUNT = 4,
        stack: COUNT = 2,
        bottleneck_dim: CHANNELS = 256,
        hidden_dim: CHANNELS = 640,
        kernel: Number(1, 63, odd=True) = 3,
        i_adapt_layer: Number(1, 255, whole=True) = 2,
    ):
        super().__init__()
        check_adapted(i_adapt_layer, layer, stack)
        self.embedding_dim, dilations = bottleneck_dim, [2**i for i in range(layer)] * stack
        self.reach = sum(dilations) * (kernel // 2)
        self.input = torch.nn.Linear(input_dim // 2, bottleneck_dim)
        blocks = [_Block(bottleneck_dim, hidden_dim, kernel, d) for d in dilations]
        self.first = torch.nn.ModuleList(blocks[:i_adapt_layer])
        self.adapted = torch.nn.ModuleList(blocks[i_adapt_layer:])
        self.voice = torch.nn.Linear(bottleneck_dim, bottleneck_dim)
        self.gains = torch.nn.ModuleList(
            torch.nn.Linear(bottleneck_dim, bottleneck_dim) for _ in self.adapted
        )
        self.norm = torch.nn.LayerNorm(bottleneck_dim)
        self.output = torch.nn.Linear(bottleneck_dim, input_dim)
        for gain in self.gains:
            torch.nn.init.zeros_(gain.weight)
            torch.nn.init.zeros_(gain.bias)
        torch.nn.init.normal_(self.output.weight, std=0.01)
        torch.nn.init.zeros_(self.output.bias)

    def embed(self, input_aux, ilens_aux, additional=None):
        """Embed enrollments: as of `TDSpeakerBeamExtractor`, ``(B, embedding_dim)``."""
        frames, mask = self._begin(input_aux, ilens_aux)
        voices = torch.tanh(self.voice(frames))
        with float32(voices):
            embedding = (widened(voices) * mask).sum(1) / ilens_aux.to(voices.device)[:, None]
        return embedding if additional is None else embedding + additional

    def estimate_mask(self, feature, ilens, embedding, statistics=None):
        """As of `TDSpeakerBeamExtractor`; a complex mask as two halves, see `apply_mask`."""
        frames, mask = self._begin(feature, ilens)
        for block, gain in zip(self.adapted, self.gains, strict=True):
            frames = block(frames * (1 + gain(embedding)[:, None]), mask)
        logits = self.output(self.norm(frames))
        with float32(logits):
            magnitude, turn = widened(logits).chunk(2, -1)
            magnitude = _LARGEST * torch.sigmoid(magnitude + 0.5) * mask
            return split_complex(torch.polar(magnitude, _TURN * torch.tanh(turn)))

    def apply_mask(self, feature, mask):
        """Masked spectra ``(B, L, 2 F)``: a complex product."""
        with float32(feature):
            return split_complex(join_complex(feature) * join_complex(mask))

    def forward(self, input, ilens, input_aux, ilens_aux, suffix_tag="", additional=None):
        """As of `TDSpeakerBeamExtractor`."""
        embedding = self.embed(input_aux, ilens_aux, additional)
        masked = self.apply_mask(input, self.estimate_mask(input, ilens, embedding))
        return masked, ilens, OrderedDict({f"enroll_emb{suffix_tag}": embedding})

    def _begin(self, spectra, ilens):
        """What the first blocks make of spectra ``(B, L, 2 F)``, and the mask of valid frames."""
        mask = frame_mask(ilens.to(spectra.device), spectra.shape[1])[..., None]
        with float32(spectra):
            power = sum(half.square() for half in widened(spectra).chunk(2, -1))
            # A window of n samples has the magnitude of speech, times the root of n / 2.
            scale = REFERENCE * math.sqrt(spectra.shape[2] / 2)
            frames = torch.log((power + 1e-12).sqrt() / scale + _FLOOR)
        frames = self.input(frames / 2)
        for block in self.first:
            frames = block(frames, mask)
        return frames, mask


class _Block(torch.nn.Module):
    """Two products over ``kernel`` frames that are ``dilation`` apart, added to what comes in."""

    def __init__(self, size, hidden, kernel, dilation):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.norm = torch.nn.LayerNorm(size)
        # A matrix for each frame, as `Muon` takes it; one product has them all.
        self.inner = torch.nn.ParameterList(torch.empty(hidden, size) for _ in range(kernel))
        self.bias = torch.nn.Parameter(torch.zeros(hidden))
        for weight in self.inner:
            torch.nn.init.uniform_(
                weight, -1 / math.sqrt(kernel * size), 1 / math.sqrt(kernel * size)
            )
        self.outer = torch.nn.Linear(hidden, size, bias=False)
        torch.nn.init.zeros_(self.outer.weight)

    def forward(self, frames, mask):
        """Of frames ``(B, L, D)``, what is beyond ``mask`` does not count."""
        edge, length = self.dilation * (self.kernel // 2), frames.shape[1]
        padded = F.pad(narrowed(self.norm(frames)) * mask, (0, 0, edge, edge))
        starts = range(0, 2 * edge + 1, self.dilation)
        seen = torch.cat([padded[:, start : start + length] for start in starts], -1)
        hidden = F.linear(seen, torch.cat([*self.inner], 1), self.bias)
        return frames + self.outer(F.gelu(hidden))
