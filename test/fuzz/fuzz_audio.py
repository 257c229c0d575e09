"""Audio that is not what it should be: formats, headers, lengths, values, names."""

import functools
import io
import pickle
import struct
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from fuzz_case import Case
from fuzz_values import ODD_PATHS, flip, make_directory, make_loop, make_pipe, place
from fuzz_weights import Payload

RATE = 16000
_PROBES = ("infer", "infer_joint", "infer_long", "format_audio", "recognize", "tse_score")
_WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF", "XI")  # of these a cut file is like a whole one
_CHECKED = ("WAV", "FLAC", "AIFF", "AU", "OGG", "MP3")


@functools.cache
def signal():
    """Half a second of a tone that swells, with noise: ``(8000,)``."""
    time = np.arange(8000) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return 0.3 * np.sin(2 * np.pi * (200 + 300 * time) * time) * (0.5 + time) + 0.01 * noise


@functools.cache
def encoded():
    """(format, subtype) -> bytes of `signal`, of what libsndfile writes and reads."""
    found = {}
    for kind in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(kind):
            try:
                data = _encode(kind, subtype)
                back, rate = _read(data)
                if rate == RATE and abs(len(back) - len(signal())) < 3000:
                    found[kind, subtype] = data
            except (soundfile.LibsndfileError, TypeError, ValueError):
                continue
    return found


def _encode(kind, subtype):
    # not in memory: there, libsndfile reads its own MP3 one time and not the next
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x"  # of SD2 there is a second one
        soundfile.write(path, signal(), RATE, format=kind, subtype=subtype)
        return path.read_bytes()


def draw(rng, files, probes):
    """A file of some format, spoilt, given to a command that reads audio."""
    if rng.random() < 0.06:
        return _corpus(rng, files, rng.choice([p for p in probes if p.command == "prepare"]))
    probe = rng.choice([p for p in probes if p.name in _PROBES])
    (kind, subtype), data = rng.choice(list(encoded().items()))
    case = Case(probe, "")
    change = rng.choice(_KINDS)
    data, samples = change(rng, files, case, data, kind)
    name = f"x.{kind.lower()}"
    case.what = f"{kind} {subtype}: {case.what}"
    if case.argv is None:
        _give(rng, files, case, name, data)
        case.accepted = functools.partial(_check, name=name, samples=samples, probe=probe)
    return case


def _give(rng, files, case, name, data):
    """Let the probe read the file."""
    probe, path = case.probe, files.root / "audio_x" / name
    case.changes[f"audio_x/{name}"] = data
    case.names = (name, "r0-u", "audio_x")
    if probe.command == "infer":
        option = "enrollment" if rng.random() < 0.3 and "enrollment" in probe.options else "mixture"
        options = probe.options | {option: str(path)}
        case.argv = type(probe)("", probe.command, options).argv(files.root, files.out)
        case.may_differ = True
        return
    table = {"format_audio": "raw/wav.scp", "recognize": "mix/wav.scp"}.get(probe.name)
    table = table or rng.choice(("denoised/wav.scp", "mix/wav.scp", "mix/spk1.scp", "mix/spk2.scp"))
    lines = (files.root / table).read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} {path}"
    case.changes[table] = "".join(f"{line}\n" for line in lines).encode()
    case.may_differ = True
    if probe.command == "tse_score":
        case.names += ("denoised/", "mix/")


def _check(files, name, samples, probe):
    """What is wrong with how an accepted file was read, or None.

    ``samples``: of the signal; None if they may be any.
    """
    path = files.root / "audio_x" / name
    from espnet_tse_ser.audio.reading import read_audio

    read, rate = read_audio(path)
    if not np.isfinite(read).all():
        return "not finite"
    if np.abs(read).max() > 1e6:
        return f"a peak of {np.abs(read).max()}"
    if samples is None:
        return None
    if rate != RATE or abs(len(read) - samples) > 0:
        return f"{len(read)} samples at {rate} Hz, not {samples}"
    return None


def _whole(rng, files, case, data, kind):
    case.what = "whole"
    return data, _length(data)


def _cut(rng, files, case, data, kind):
    share = rng.choice((0.1, 0.2, 0.5, 0.9, rng.random()))
    end = max(1, int(share * len(data)))
    if rng.random() < 0.2:
        end = len(data) - rng.randrange(1, 200)
    case.what = f"cut at {end} of {len(data)} bytes"
    return data[:end], None if kind in _WITHOUT_LENGTH else _length(data)


def _flip(rng, files, case, data, kind):
    case.what = "bits of the header flipped"
    head = data[:100]
    for _ in range(rng.randrange(1, 4)):
        head = flip(rng, head)
    return head + data[100:], None


def _flip_anywhere(rng, files, case, data, kind):
    case.what = "a bit flipped"
    at = rng.randrange(len(data))
    samples = _length(data) if at > 200 and kind in _CHECKED else None
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :], samples


def _length(data):
    return len(_read(data)[0])


def _read(data):
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        return soundfile.read(file.name)


def _zeros(rng, files, case, data, kind):
    case.what = "zeros in it"
    at = rng.randrange(44, len(data))
    return data[:at] + bytes(min(400, len(data) - at)) + data[at + 400 :], None


def _header(rng, files, case, data, kind):
    """A WAV header with odd numbers."""
    rate = rng.choice((0, 1, 8000, 16000, 2**31 - 1, 2**32 - 1, 3))
    channels = rng.choice((0, 1, 2, 3, 255, 1024, 65535))
    bits = rng.choice((0, 8, 16, 24, 32, 64, 7))
    code = rng.choice((1, 3, 6, 7, 2, 17, 49, 85, 0xFFFE, 0))
    size = rng.choice((0, 16000, 16001, 2**31, 2**32 - 1, 0x7FFFF000, 32000))
    case.what = f"WAV: rate {rate}, {channels} channels, {bits} bits, code {code}, {size} bytes"
    body = (signal() * 32767).astype("<i2").tobytes()
    align = channels * bits // 8
    fields = struct.pack(
        "<HHIIHH", code, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits
    )
    riff = b"RIFF" + struct.pack("<I", (36 + size) & 0xFFFFFFFF) + b"WAVEfmt \x10\0\0\0"
    return riff + fields + b"data" + struct.pack("<I", size) + body, None


def _values(rng, files, case, data, kind):
    """Float files with values that no recording has."""
    value = rng.choice((np.nan, np.inf, -np.inf, 1e30, 1e17, 3e38, 1e-40, 0.0, 2.0, 1e4, "offset"))
    samples = np.float32(signal())
    if value == "offset":
        samples = samples + np.float32(0.5)
    elif rng.random() < 0.5 or value == 0.0:
        samples = np.full_like(samples, value)
    else:
        samples[rng.randrange(len(samples))] = value
    case.what = f"float WAV with {value}"
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="WAV", subtype="FLOAT")
    return stream.getvalue(), len(samples)


def _shape(rng, files, case, data, kind):
    channels = rng.choice((1, 2, 5))
    rate = rng.choice((1, 10, 100, 4000, 8000, 16000, 44100, 192000, 655350))
    length = rng.choice((0, 1, 100, 8000))
    samples = np.repeat(np.resize(signal(), length)[:, None], channels, axis=1)
    if channels == 2 and rng.random() < 0.5:
        samples[:, 1] *= -1
    case.what = f"{length} samples, {channels} channels at {rate} Hz"
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue(), None


def _other(rng, files, case, data, kind):
    """What is no audio file at all."""
    case.what, value = rng.choice(
        (
            ("a directory", make_directory),
            ("a named pipe", make_pipe),
            ("a link to itself", make_loop),
            ("missing", None),
            ("empty", b""),
            ("random", rng.randbytes(2000)),
            ("a text", b"ang\n" * 100),
            ("HTML", b"<!DOCTYPE html><html>" + b" " * 500),
            ("a ZIP", b"PK\x03\x04" + rng.randbytes(500)),
        )
    )
    return value, None


def _name(rng, files, case, data, kind):
    """Names that something else than a file may be made of."""
    odd = place(rng.choice(ODD_PATHS), files)
    odd = odd.replace("pickle.ark", "audio_x/pickle.ark")
    case.what = f"the name {odd[:80]!r}"
    payload = b"utt " + rng.choice((b"PKL", b"\0BPKL", b"AUDIO\x04", b"NPY", b"\0BFM "))
    case.changes["audio_x/pickle.ark"] = payload + pickle.dumps(Payload(files.marker))
    options = case.probe.options
    if case.probe.command == "infer":
        option = "enrollment" if rng.random() < 0.3 and "enrollment" in options else "mixture"
        case.argv = type(case.probe)("", "", options | {option: odd}).argv(files.root, files.out)
        case.names = (
            f"--{option}",
            odd[:100],
            odd.strip("| ")[:100],
            odd.partition(":")[0] or ": no",
            odd.encode("unicode_escape").decode()[:100],
        )
        return data, None
    table = {"format_audio": "raw/wav.scp", "recognize": "mix/wav.scp"}.get(case.probe.name)
    table = table or "mix/wav.scp"
    lines = (files.root / table).read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} {odd}"
    case.changes[table] = "".join(f"{line}\n" for line in lines).encode()
    case.argv = case.probe.argv(files.root, files.out)
    case.names = ("wav.scp", odd[:100], "r0-u", odd.strip()[:100], odd.partition(":")[0])
    case.names += (odd.encode("unicode_escape").decode()[:100],)
    return data, None


def _corpus(rng, files, probe):
    """A file more or less in the directory of a corpus."""
    root = files.root / probe.name.removeprefix("prepare_")
    old = rng.choice(sorted(p for p in root.rglob("*") if p.is_file()))
    names = (f"._{old.name}", f"{old.name}.part", f" {old.name}", f"x{old.name}", old.name.upper(),
             f"{old.stem} (1){old.suffix}", ".DS_Store", "Thumbs.db", f"{old.stem}-1{old.suffix}",
             f"a|b{old.suffix}", f"a\nb{old.suffix}", old.name)  # fmt: skip
    name = str((old.parent / rng.choice(names)).relative_to(files.root))
    what, value = rng.choice(
        (("missing", None), ("a directory", make_directory), ("a named pipe", make_pipe),
         ("empty", b""), ("bytes", b"\0\5\x16\7"), ("a copy", old.read_bytes()))
    )  # fmt: skip
    case = Case(probe, f"{name}: {what}", {name: value}, may_differ=True)
    case.names = (str(root), root.name, name.rpartition("/")[2])
    return case


_KINDS = (_whole, _cut, _cut, _cut, _flip, _flip, _flip_anywhere, _zeros, _header, _values, _shape,
          _other, _name, _name)  # fmt: skip
