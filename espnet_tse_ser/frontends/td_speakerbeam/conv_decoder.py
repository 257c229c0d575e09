"""ESPnet's learnt decoder, without the transposed convolution that is slow on CPUs."""

import torch
import torch.nn.functional as F
from espnet2.enh.decoder.conv_decoder import ConvDecoder as _ESPnetConvDecoder

from espnet_tse_ser.audio.overlap_add import overlap_add


class ConvDecoder(_ESPnetConvDecoder):
    """Drop-in for ESPnet's decoder: one product, and frames that overlap are added up.

    Where ``kernel_size`` is not a multiple of ``stride``, it is ESPnet's.
    """

    def forward(self, input, ilens, fs=None):
        """Decode.

        Args:
            input: ``(B, L, N)``; ilens: samples ``(B,)``; fs: unused, kept for ESPnet's interface.

        Returns:
            ``(B, max(ilens))``, and ``ilens``.
        """
        if self.kernel_size % self.stride:
            return super().forward(input, ilens, fs)
        weight = self.convtrans1d.weight[:, 0].t().expand(len(input), -1, -1)
        frames = torch.bmm(weight, input.transpose(1, 2))
        samples = overlap_add(frames, self.stride)
        return F.pad(samples, (0, int(ilens.max()) - samples.shape[1])), ilens
