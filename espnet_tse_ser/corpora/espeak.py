"""The espeak-ng synthesiser of the PyPI package espeakng-loader, called through ctypes."""

import ctypes
import functools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from espnet_tse_ser.errors import UserError

RATE = 22050  # Hz, of all voices

# Constants of espeak-ng's public header speak_lib.h
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Speech:
    """What to say and how.

    Attributes:
        text: the words; the punctuation shapes the contour.
        voice: espeak-ng voice with an optional variant, e.g. ``en-us+f2``.
        rate: words per minute (80 to 450).
        pitch, range: base and variation of the pitch, 0 to 99; 50 is normal.
        volume: 100 is normal; some voices clip there.
    """

    text: str
    voice: str
    rate: float = 175
    pitch: float = 50
    range: float = 50
    volume: float = 100


def speak_all(speeches):
    """Yield the samples ``(num_samples,)`` float32 in [-1, 1], at `RATE`, of every `Speech`.

    The synthesis runs in one fresh process: espeak-ng carries the state of its noise and flutter
    generators from one utterance to the next, and nothing but a new process resets it. So the
    samples depend on ``speeches`` alone.

    Raises:
        UserError: the package espeakng-loader is missing, does not start or lacks a voice.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_speak, speeches, chunksize=16)


def _speak(speech):
    return _synthesiser().speak(speech)


@functools.cache
def _synthesiser():
    return _Synthesiser()


class _Synthesiser:
    """The library, which has one global state."""

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError:
            raise UserError(
                "the mini corpora need the package espeakng-loader; run `make -C tools`"
            ) from None
        data = espeakng_loader.get_data_path()
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), _INITIALIZE_DONT_EXIT
        )
        if rate != RATE:
            raise UserError(f"{data}: espeak-ng does not start; reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else by time: breath noise
        self._pieces = []
        self._callback = _CALLBACK(self._receive)  # kept: the library holds only the pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, speech):
        if self._library.espeak_SetVoiceByName(speech.voice.encode()) != 0:
            raise UserError(f"espeak-ng has no voice '{speech.voice}'; reinstall espeakng-loader")
        for parameter, value in (
            (_RATE, speech.rate),
            (_VOLUME, speech.volume),
            (_PITCH, speech.pitch),
            (_RANGE, speech.range),
        ):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._pieces.clear()
        text = speech.text.encode()
        status = self._library.espeak_Synth(
            text, ctypes.c_size_t(len(text) + 1), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != 0 or not self._pieces:
            raise UserError(f"espeak-ng could not say {speech.text!r} ({speech.voice})")
        return np.concatenate(self._pieces).astype(np.float32) / 32768

    def _receive(self, samples, count, _events):
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
