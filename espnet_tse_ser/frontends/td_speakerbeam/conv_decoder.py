"""ESPnet's learnt decoder, without the transposed convolution that is slow on CPUs."""

import torch
import torch.nn.functional as F
from espnet2.enh.decoder.conv_decoder import ConvDecoder as _ESPnetConvDecoder


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
        batch_size, num_frames, _ = input.shape
        weight = self.convtrans1d.weight[:, 0].t().expand(batch_size, -1, -1)
        frames = torch.bmm(weight, input.transpose(1, 2))
        overlap = self.kernel_size // self.stride
        # A frame is as many hops long as frames share a sample: hop h of frame t is hop t + h.
        hops = frames.view(batch_size, overlap, self.stride, num_frames).unbind(1)
        summed = sum(F.pad(hop, (h, overlap - 1 - h)) for h, hop in enumerate(hops))
        samples = summed.transpose(1, 2).reshape(batch_size, -1)
        return F.pad(samples, (0, int(ilens.max()) - samples.shape[1])), ilens
