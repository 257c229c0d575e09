"""Audio files in memory, and reading them as a command would."""

import io

import numpy as np
import soundfile

from espnet_tse_ser.audio.reading import read_audio
from espnet_tse_ser.errors import UserError

FS = 16000
NUM_SAMPLES = 10000


def encode(kind, subtype=None, num_channels=1, num_samples=NUM_SAMPLES, fs=FS, **options):
    """The bytes of a file of noise."""
    samples = 0.1 * np.random.default_rng(0).standard_normal((num_samples, num_channels))
    content = io.BytesIO()
    samples = samples[:, 0] if num_channels == 1 else samples
    soundfile.write(content, samples, fs, subtype=subtype, format=kind, **options)
    return content.getvalue()


def reader(directory):
    """A function that reads bytes as an audio file: the number of samples, or the error."""

    def read(content):
        path = directory / "a.bin"
        path.write_bytes(content)
        try:
            return len(read_audio(path)[0])
        except UserError as error:
            message = str(error)
            assert message.startswith(f"{path}: ") and "\n" not in message
            return message.removeprefix(f"{path}: ")

    return read
