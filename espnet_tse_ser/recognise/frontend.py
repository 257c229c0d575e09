"""Log-mel front-end."""

import torch
import torch.nn.functional as F
import torchaudio
from espnet2.asr.frontend.abs_frontend import AbsFrontend

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.audio.masks import frame_mask
from espnet_tse_ser.recognise.length import fix_length, fixed_samples
from espnet_tse_ser.values.kinds import Flag, Maybe
from espnet_tse_ser.values.numbers import CHANNELS, RATE, UTTERANCE_SECONDS, Number

_SAMPLES = Number(1, 65536, whole=True)


class LogMelFrontend(AbsFrontend):
    """Log-mel filterbank energies.

    Frames are centred and the signal is continued by zeros, so that an utterance gives the same
    features alone and in a padded batch. Differentiable with respect to the waveform, with finite
    gradients at silence.

    Args:
        fs: rate in Hz.
        n_fft, win_length, hop_length: FFT size, Hann window and frame shift in samples.
        n_mels: mel bands between ``fmin`` and ``fmax`` (None: half the rate) Hz.
        level_norm: give each utterance a root mean square of 1; else its level counts. Its offset
            never does.
        log_offset: added to the energies before the logarithm; relative to a signal of root mean
            square 1 with ``level_norm``.
        fixed_seconds: cut the end of every utterance, or append zeros, to come to this length; the
            zeros count as speech from then on. None takes utterances as they are.
        tile: repeat a shorter utterance as often as needed to come to ``fixed_seconds``.

    Raises:
        ValueError: ``tile`` without ``fixed_seconds``, a frame shift above the window, a window
            above the FFT, no band between ``fmin`` and ``fmax``, or ``fmax`` above half the
            rate.
    """

    def __init__(
        self,
        fs: RATE = 16000,
        n_fft: _SAMPLES = 512,
        win_length: _SAMPLES = 400,
        hop_length: _SAMPLES = 160,
        n_mels: CHANNELS = 80,
        fmin: Number(0) = 20.0,
        fmax: Maybe(Number(0, above=True)) = None,
        level_norm: Flag() = True,
        log_offset: Number(0, 1, above=True) = 1e-3,
        fixed_seconds: Maybe(UTTERANCE_SECONDS) = None,
        tile: Flag() = False,
    ):
        super().__init__()
        if not hop_length <= win_length <= n_fft:
            raise ValueError(
                f"hop_length {hop_length} must not be above win_length {win_length}, nor that "
                f"above n_fft {n_fft}"
            )
        fmax = fs / 2 if fmax is None else fmax
        if not fmin < fmax <= fs / 2:
            raise ValueError(
                f"fmin {fmin:g} must be below fmax {fmax:g}, and that not above half of fs {fs}"
            )
        if n_mels > n_fft // 2 + 1:
            raise ValueError(f"n_mels {n_mels} are more than the {n_fft // 2 + 1} bins of n_fft")
        self.fs = fs
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.n_mels, self.level_norm, self.log_offset = n_mels, level_norm, log_offset
        if tile and fixed_seconds is None:
            raise ValueError("tile needs fixed_seconds, to which utterances are repeated")
        self.fixed_samples, self.tile = fixed_samples(fixed_seconds, fs), tile
        filters = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, fmin, fmax, n_mels, fs)
        # Constants of the constructor: not part of a checkpoint.
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    def output_size(self):
        """Number of mel bands."""
        return self.n_mels

    def forward(self, speech, lengths, level=None):
        """Compute the features.

        Args:
            speech: ``(B, T)``; lengths: valid samples ``(B,)``, at least 1.
            level: `Level` of another signal, to which ``level_norm`` gives a root mean square of 1
                in place of each utterance itself.

        Returns:
            ``(B, F, n_mels)`` with zeros in padded frames, and the valid frames ``(B,)``,
            ``lengths // hop_length + 1`` each.

        >>> frontend = LogMelFrontend(n_mels=40)
        >>> feats, num_frames = frontend(torch.randn(2, 800), torch.tensor([800, 480]))
        >>> tuple(feats.shape), num_frames.tolist()
        ((2, 6, 40), [6, 4])
        """
        if self.level_norm:
            speech, _ = standardize(speech, lengths, rms=1.0, level=level)
        else:
            speech, _ = standardize(speech, lengths, rms=None)
        speech, lengths = fix_length(speech, lengths, self.fixed_samples, self.tile)
        padded = F.pad(speech, (self.n_fft // 2, self.n_fft // 2))
        spectrum = torch.stft(
            padded,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        feats = torch.log(power.transpose(1, 2) @ self.filters + self.log_offset)
        num_frames = torch.div(lengths, self.hop_length, rounding_mode="floor") + 1
        return feats * frame_mask(num_frames, feats.shape[1])[..., None], num_frames
