"""Mix two-speaker files in the way of LibriMix's script: NumPy, soundfile and pyloudnorm.

    python bench/librimix_like.py LIST OUTPUT_DIR wav|flac [--levels_given]

LIST has lines of id, target, interferer (paths), gain_target, gain_interferer (dB), offset
(samples, of the interferer in the target, negative: cut). Each source gets a loudness drawn from
-33 to -25 LUFS, as Cosentino et al. ("LibriMix", 2020) do, and the interferer a random place within
the target's extent; with --levels_given both are those of the list. Written for this comparison; no
code of LibriMix.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import soundfile

CEILING = 0.9


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("format", choices=("wav", "flac"))
    parser.add_argument("--levels_given", action="store_true")
    return parser


def main(argv=None):
    """Mix everything in the list."""
    args = get_parser().parse_args(argv)
    rng = np.random.default_rng(0)
    names = ("mix", "spk1", "spk2")
    for name in names:
        (args.output_dir / name).mkdir(parents=True, exist_ok=True)
    with open(args.list, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:
        (target, rate), (interferer, _) = (
            soundfile.read(row[key], dtype="float32") for key in ("target", "interferer")
        )
        if args.levels_given:
            gains = [float(row["gain_target"]), float(row["gain_interferer"])]
            offset = int(row["offset"])
        else:
            gains = draw_gains(rng, (target, interferer), rate)
            room = len(target) - len(interferer)
            offset = int(rng.integers(min(room, 0), max(room, 0) + 1))
        sources = [
            np.float32(10 ** (gain / 20)) * signal
            for gain, signal in zip(
                gains, (target, place(interferer, offset, len(target))), strict=True
            )
        ]
        signals = [sources[0] + sources[1], *sources]
        peak = max(np.abs(signal).max() for signal in signals)
        if peak > CEILING and not args.levels_given:
            signals = [CEILING / peak * signal for signal in signals]
        for name, signal in zip(names, signals, strict=True):
            path = args.output_dir / name / f"{row['id']}.{args.format}"
            soundfile.write(path, signal, rate, subtype="PCM_16")


def draw_gains(rng, signals, rate):
    """Gains in dB to a loudness drawn for each."""
    import pyloudnorm

    meter = pyloudnorm.Meter(rate)
    return [rng.uniform(-33, -25) - meter.integrated_loudness(signal) for signal in signals]


def place(signal, offset, length):
    """Cut or pad to ``length`` samples."""
    placed = np.zeros(length, signal.dtype)
    piece = signal[max(0, -offset) : max(0, length - offset)]
    placed[max(0, offset) : max(0, offset) + len(piece)] = piece
    return placed


if __name__ == "__main__":
    main()
