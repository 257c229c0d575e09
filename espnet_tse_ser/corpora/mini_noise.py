"""The noise of the mini corpora: a few kinds of synthetic sounds, of several recordings each."""

from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.reading import write_audio
from espnet_tse_ser.corpora import Noise, is_made
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import AtomicFiles, find_files, write_json
from espnet_tse_ser.values.kinds import Text

VERSION = 1  # of the recipe below; raise it when the audio changes
FS = 16000
NUM_RECORDINGS = 5  # of a kind
PIECES = (0.8, 3.0)  # seconds of those of a recording: shorter and longer than an utterance


def prepare_mini_noise(root: Text()):
    """Read the mini noise (``<kind>/<recording>_<piece>.flac``).

    Args:
        root: the directory that holds hum, rain, ...

    Returns:
        list of `Noise` without folds, sorted; a recording's pieces are one group.

    Raises:
        UserError: there is no such file.
    """
    files = find_files(Path(root).absolute(), "*/*_*.flac")
    if not files:
        raise UserError(f"{root}: is not the mini noise, it has no <kind>/<recording>_<piece>.flac")
    return sorted(
        (Noise(path.stem, str(path), path.stem.rpartition("_")[0]) for path in files),
        key=lambda noise: noise.utt,
    )


def make_noise(output_dir, seed=0):
    """Make `NUM_RECORDINGS` of every kind of noise. The same seed gives the same bytes.

    Raises:
        UserError: ``output_dir`` was made with another seed or version.
    """
    marker, made = Path(output_dir) / "noise.json", {"seed": seed, "version": VERSION}
    if is_made(marker, made):
        return
    with AtomicFiles() as files:
        for number, (kind, synthesise) in enumerate(_KINDS.items()):
            for recording in range(1, 1 + NUM_RECORDINGS):
                rng = np.random.default_rng([seed, number, recording])
                samples = synthesise(rng, round(sum(PIECES) * FS))
                samples *= 0.3 / np.abs(samples).max()
                samples += 1e-4 * rng.standard_normal(
                    len(samples)
                )  # digital silence is not natural
                ends = np.cumsum([round(seconds * FS) for seconds in PIECES])
                for piece, part in enumerate(np.split(samples, ends[:-1]), 1):
                    name = f"{kind}{recording}_{piece}.flac"
                    write_audio(Path(output_dir) / kind / name, part.astype(np.float32), FS, files)
    write_json(marker, made)


def _hum(rng, num_samples):
    """Harmonics of a mains frequency whose loudness wavers."""
    time = np.arange(num_samples) / FS
    pitch, wavering = rng.uniform(45, 130), rng.uniform(0.5, 3)
    tones = sum(np.sin(2 * np.pi * n * pitch * time + n) / n for n in range(1, 20))
    return tones * (1 + 0.3 * np.sin(2 * np.pi * wavering * time))


def _rain(rng, num_samples):
    """White noise through a short filter, with drops."""
    noise = np.convolve(rng.standard_normal(num_samples), rng.standard_normal(5), "same")
    return noise * (1 + 4 * (rng.random(num_samples) < 0.002))


def _engine(rng, num_samples):
    """Low pulses of a speed that drifts."""
    speed = rng.uniform(15, 40) * (1 + 0.1 * np.sin(np.linspace(0, rng.uniform(3, 9), num_samples)))
    phase = 2 * np.pi * np.cumsum(speed) / FS
    noise = np.convolve(rng.standard_normal(num_samples), np.ones(24) / 24, "same")
    return np.exp(3 * np.cos(phase)) * noise


def _clicks(rng, num_samples):
    """Strokes, as of keys, that ring."""
    strokes = np.zeros(num_samples)
    strokes[rng.integers(0, num_samples, num_samples // (FS // 8))] = 1
    ringing = np.exp(-np.arange(800) / 120) * rng.standard_normal(800)
    return np.convolve(strokes, ringing, "full")[:num_samples]


def _siren(rng, num_samples):
    """A tone that rises and falls."""
    time = np.arange(num_samples) / FS
    pitch = rng.uniform(600, 900) * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.3, 2) * time))
    return np.sin(2 * np.pi * np.cumsum(pitch) / FS)


_KINDS = {"hum": _hum, "rain": _rain, "engine": _engine, "clicks": _clicks, "siren": _siren}
