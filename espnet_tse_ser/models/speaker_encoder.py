"""A pretrained speaker encoder, which compares voices that a short training never meets.

The network of Wan et al., "Generalized end-to-end loss for speaker verification" (ICASSP 2018),
with the weights of the package resemblyzer (Apache-2.0), trained on thousands of speakers. They
come with this package in 8 bits (``pretrained/speaker_encoder``); a trained extractor has them with
its own.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import torchaudio

from espnet_tse_ser.audio.levels import standardize
from espnet_tse_ser.training.precision import float32

RESEMBLYZER = "resemblyzer"
RATE = 16000
WEIGHTS = Path(__file__).parents[1] / "pretrained" / "speaker_encoder" / "weights.pth"

_LEVEL = 10 ** (-30 / 20)  # RMS that it was trained with
_FFT, _HOP, _MELS = 400, 160, 40
_WINDOW = 160  # frames that it sees at once
_SIZE = 256
_LEAST = torch.finfo(torch.float16).tiny
_BLOCK = 32  # weights with one scale
_HALF = "lstm.weight_ih_l0"  # a thirtieth of all, to which embeddings are most sensitive


class SpeakerEncoder(torch.nn.Module):
    """Embed speakers: log-free mel energies, three LSTM layers, the last state projected.

    It is never trained here: its weights have no gradient, and neither has what it returns.

    Attributes:
        size: of an embedding, 256.
        needs_enrollment: True, as of an `ESPnetTSEModel`, in whose place `Embeddings` takes it.
    """

    size, needs_enrollment = _SIZE, True

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(_MELS, _SIZE, num_layers=3, batch_first=True)
        self.linear = torch.nn.Linear(_SIZE, _SIZE)
        filters = torchaudio.functional.melscale_fbanks(
            _FFT // 2 + 1, 0.0, RATE / 2, _MELS, RATE, norm="slaney", mel_scale="slaney"
        )
        # Constants of the constructor: not part of a checkpoint.
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)
        self.requires_grad_(False)

    def load_pretrained(self):
        """Take the weights that come with the package."""
        self.load_state_dict(expand(torch.load(WEIGHTS, map_location="cpu", weights_only=True)))

    @torch.no_grad()
    def embed(self, speech, lengths):
        """Embed a batch of speech, whatever its level.

        Args:
            speech: ``(B, T)`` at 16 kHz; lengths: valid samples ``(B,)``.

        Returns:
            ``(B, 256)`` float32 of length 1, the mean over windows of 1.6 s that overlap by half or
            more; shorter speech is continued by silence.
        """
        with float32(speech):
            mels, count = self.energies(speech, lengths)
            windows = [w for mel, n in zip(mels, count, strict=True) for w in _windows(mel, n)]
            _, (state, _) = self.lstm(torch.stack(windows))
            each = F.normalize(torch.relu(self.linear(state[-1])))
            each = each.split([_num_windows(n) for n in count])
            return F.normalize(torch.stack([one.mean(dim=0) for one in each]))

    def energies(self, speech, lengths):
        """Mel energies ``(B, num_frames, 40)``, and how many frames of each are valid, a list."""
        speech, _ = standardize(speech.float()[:, : lengths.max()], lengths, rms=_LEVEL)
        spectrum = torch.stft(
            speech,
            _FFT,
            _HOP,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        mels = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2) @ self.filters
        return mels, [n // _HOP + 1 for n in lengths.tolist()]


def _num_windows(count):
    return max(-(-(count - _WINDOW) // (_WINDOW // 2)), 0) + 1


def _windows(mel, count):
    """Evenly over ``count`` frames, whose ends they reach."""
    last, number = max(count - _WINDOW, 0), _num_windows(count)
    for k in range(number):
        start = round(last * k / max(number - 1, 1))
        window = mel[start : min(start + _WINDOW, count)]
        yield F.pad(window, (0, 0, 0, _WINDOW - len(window)))


def compress(state):
    """Weights in 8 bits, with a scale of 16 for each 32 of a row; biases and one matrix in 16.

    Args:
        state: name -> float32 tensor.

    Returns:
        name -> float16 tensor, or a pair of int8 ``(rows, columns)`` and float16 scales.
    """
    small = {}
    for name, values in state.items():
        small[name] = values.half()
        if values.ndim == 2 and name != _HALF:
            blocks = values.reshape(len(values), -1, _BLOCK)
            scales = (blocks.abs().amax(dim=2, keepdim=True) / 127).clamp(min=_LEAST).half()
            levels = (blocks / scales.float()).round().clamp(-127, 127).to(torch.int8)
            small[name] = levels.reshape(values.shape), scales[..., 0]
    return small


def expand(small):
    """What `compress` has made smaller, as float32."""
    state = {}
    for name, values in small.items():
        if isinstance(values, torch.Tensor):
            state[name] = values.float()
        else:
            levels, scales = (part.float() for part in values)
            blocks = levels.reshape(len(levels), -1, _BLOCK) * scales[..., None]
            state[name] = blocks.reshape(levels.shape)
    return state
