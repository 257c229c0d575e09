"""The short-time Fourier transform as encoder and decoder of an extraction model.

Spectra are real: real parts of all bins, then imaginary parts. Window and resynthesis are the root
of a Hann window; each sample is in as many frames as every other, so that the inverse is exact
without a division. Nothing is trained.
"""

import torch
import torch.nn.functional as F
from espnet2.enh.decoder.abs_decoder import AbsDecoder
from espnet2.enh.encoder.abs_encoder import AbsEncoder

from espnet_tse_ser.audio.overlap_add import overlap_add
from espnet_tse_ser.values.numbers import Number

_SAMPLES = Number(2, 16384, whole=True)


def join_complex(spectra):
    """Complex spectra ``(B, L, F)`` of real ones ``(B, L, 2 F)``; `split_complex` is the inverse.

    >>> join_complex(torch.tensor([[[1.0, 2.0]]]))
    tensor([[[1.+2.j]]])
    """
    return torch.complex(*spectra.chunk(2, -1))


def split_complex(spectra):
    """Real spectra ``(B, L, 2 F)`` of complex ones ``(B, L, F)``."""
    return torch.cat([spectra.real, spectra.imag], -1)


class STFTEncoder(AbsEncoder):
    """Spectra of speech.

    Args:
        kernel_size: samples of a window. stride: from one to the next, ``kernel_size`` divided by a
            whole number from 2 on.

    Raises:
        ValueError: another stride.
    """

    def __init__(self, kernel_size: _SAMPLES, stride: _SAMPLES):
        super().__init__()
        if kernel_size % 2 or kernel_size % stride or kernel_size < 2 * stride:
            raise ValueError(
                f"kernel_size must be even and a multiple of stride, twice it or more; got "
                f"{kernel_size} and {stride}"
            )
        self.kernel_size, self.stride = kernel_size, stride
        self.register_buffer("window", torch.hann_window(kernel_size).sqrt(), persistent=False)

    @property
    def output_dim(self):
        """Features of a frame: twice the bins."""
        return self.kernel_size + 2

    def forward(self, input, ilens, fs=None):
        """Transform ``(B, T)``, zero beyond ``ilens``, to ``(B, L, output_dim)``.

        Args:
            fs: unused, of ESPnet's interface.

        Returns:
            the spectra, and valid frames ``(B,)``: those with a sample of the speech.
        """
        size, hop = self.kernel_size, self.stride
        num_frames = torch.div(ilens - 1, hop, rounding_mode="floor") + size // hop
        total = (int(num_frames.max()) - 1) * hop + size
        padded = F.pad(input, (size - hop, total - size + hop - input.shape[1]))
        spectra = torch.stft(
            padded, size, hop, window=self.window, center=False, return_complex=True
        )
        return split_complex(spectra.transpose(1, 2)), num_frames


class STFTDecoder(AbsDecoder):
    """Speech of spectra, the inverse of `STFTEncoder`.

    Args:
        kernel_size, stride: of the encoder.
    """

    def __init__(self, kernel_size: _SAMPLES, stride: _SAMPLES):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        window = torch.hann_window(kernel_size).sqrt() * (2 * stride / kernel_size)
        self.register_buffer("window", window, persistent=False)

    def forward(self, input, ilens, fs=None):
        """Decode ``(B, L, 2 F)`` to ``(B, max(ilens))``, and ``ilens``, samples ``(B,)``."""
        frames = torch.fft.irfft(join_complex(input), self.kernel_size) * self.window
        begin = self.kernel_size - self.stride
        speech = overlap_add(frames.transpose(1, 2), self.stride)
        return speech[:, begin : begin + int(ilens.max())], ilens
