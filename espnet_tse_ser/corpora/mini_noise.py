"""The noise of the mini corpora: synthetic sounds in the layouts of ESC-50 and of MUSAN."""

from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.reading import write_audio
from espnet_tse_ser.corpora import is_made
from espnet_tse_ser.files import AtomicFiles, write_json, write_text

VERSION = 2  # of the recipe below; raise it when the audio changes
FS = 16000
ESC50_DIR, MUSAN_DIR = "ESC-50", "musan"
NUM_RECORDINGS = 5  # of a kind; in ESC-50 one a fold
TAKES = {"A": 0.8, "B": 3.0}  # seconds of those of a recording: shorter and longer than speech
MUSAN_SECONDS = 4.0


def make_noise(output_dir, seed=0):
    """Make `NUM_RECORDINGS` of every kind of noise. The same seed gives the same bytes.

    ``ESC-50`` has two takes of each, ``musan`` has other kinds of noise, whole.

    Raises:
        UserError: ``output_dir`` was made with another seed or version.
    """
    output_dir = Path(output_dir)
    marker, made = output_dir / "noise.json", {"seed": seed, "version": VERSION}
    if is_made(marker, made):
        return
    with AtomicFiles() as files:
        _make_esc50(output_dir / ESC50_DIR, seed, files)
        _make_musan(output_dir / MUSAN_DIR, seed, files)
    write_json(marker, made)


def _make_esc50(root, seed, files):
    header, lines = "filename,fold,target,category,esc10,src_file,take\n", []
    for number, (target, category, synthesise) in enumerate(_ESC50):
        for fold in range(1, 1 + NUM_RECORDINGS):
            source = f"90{number}{fold}"
            samples = _synthesise(synthesise, sum(TAKES.values()), [seed, number, fold])
            ends = np.cumsum([round(seconds * FS) for seconds in TAKES.values()])
            for take, part in zip(TAKES, np.split(samples, ends[:-1]), strict=True):
                name = f"{fold}-{source}-{take}-{target}.wav"
                write_audio(root / "audio" / name, part, FS, files)
                is_esc10 = category == "rain"
                lines.append(f"{name},{fold},{target},{category},{is_esc10},{source},{take}\n")
    write_text(root / "meta" / "esc50.csv", header + "".join(sorted(lines)))


def _make_musan(root, seed, files):
    for first, (collection, kinds) in enumerate(_MUSAN.items(), len(_ESC50)):
        names = [f"noise-{collection}-{n:04d}" for n in range(NUM_RECORDINGS * len(kinds))]
        for number, name in enumerate(names):
            kind = kinds[number // NUM_RECORDINGS]
            samples = _synthesise(kind, MUSAN_SECONDS, [seed, first, number])
            write_audio(root / "noise" / collection / f"{name}.wav", samples, FS, files)
        licence = "".join(f"{name} Synthetic, public domain\n" for name in names)
        write_text(root / "noise" / collection / "LICENSE", licence)
        if collection == "free-sound":
            steady = "".join(f"{name}\n" for name in names[:NUM_RECORDINGS])
            write_text(root / "noise" / collection / "ANNOTATIONS", f"steady noise:\n{steady}")


def _synthesise(kind, seconds, seed):
    """Samples ``(num_samples,)`` float32 of a kind of noise, peak about 0.3."""
    rng = np.random.default_rng(seed)
    samples = kind(rng, round(seconds * FS))
    samples *= 0.3 / np.abs(samples).max()
    samples += 1e-4 * rng.standard_normal(len(samples))  # digital silence is not natural
    return samples.astype(np.float32)


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


def _wind(rng, num_samples):
    """Low noise that swells and fades."""
    noise = np.convolve(rng.standard_normal(num_samples), np.hanning(200), "same")
    gusts = rng.uniform(0.2, 0.6) * np.arange(num_samples) / FS + rng.random()
    return noise * (1.2 + np.sin(2 * np.pi * gusts))


def _bell(rng, num_samples):
    """Partials that decay, struck again and again."""
    time, base = np.arange(num_samples) / FS % rng.uniform(0.5, 1.5), rng.uniform(300, 700)
    partials = (1.0, 2.0, 2.4, 3.0, 4.5)
    return sum(np.sin(2 * np.pi * r * base * time) * np.exp(-2 * r * time) / r for r in partials)


def _saw(rng, num_samples):
    """Strokes of high noise, to and fro."""
    strokes = np.abs(np.sin(np.pi * rng.uniform(1.5, 4) * np.arange(num_samples) / FS))
    return np.diff(rng.standard_normal(num_samples + 1)) * strokes**2


_ESC50 = (  # number and name of the class
    (36, "vacuum_cleaner", _hum),
    (10, "rain", _rain),
    (44, "engine", _engine),
    (32, "keyboard_typing", _clicks),
    (42, "siren", _siren),
)
_MUSAN = {"free-sound": (_wind, _bell), "sound-bible": (_saw,)}
