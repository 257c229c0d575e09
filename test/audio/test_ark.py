"""Kaldi archives: what kaldiio writes is read the same, and nothing of it runs."""

import io
import os
import pickle
import struct
from pathlib import Path

import kaldiio
import numpy as np
import omniio
import pytest
import soundfile
from evil_files import Payload

import espnet_tse_ser
from espnet_tse_ser.audio.ark import open_file, read_array, split_place, write_array
from espnet_tse_ser.audio.reading import read_audio, read_mono
from espnet_tse_ser.errors import UserError

FS = 16000
RNG = np.random.default_rng(0)
INTEGERS = np.round(0.1 * 32768 * RNG.standard_normal(FS)).astype(np.int16)
MATRIX = RNG.standard_normal((7, 5)).astype(np.float32)


def save(path, entries, **options):
    """Have kaldiio write an archive: dict id -> place."""
    kaldiio.save_ark(str(path), entries, scp=f"{path}.scp", **options)
    return dict(line.split() for line in open(f"{path}.scp", encoding="utf-8"))


@pytest.mark.parametrize(
    "options",
    [{}, {"write_function": "soundfile"}]
    + [{"write_function": "soundfile", "write_kwargs": {"format": f}} for f in ("flac", "ogg")],
)
def test_audio(tmp_path, options):
    entries = {"a": (FS, INTEGERS), "b": (FS, np.stack([INTEGERS, -INTEGERS // 2], 1))}
    places = save(tmp_path / "a.ark", entries, **options)
    mono = read_mono(places["a"], FS)
    if options.get("write_kwargs") != {"format": "ogg"}:
        np.testing.assert_array_equal(mono, INTEGERS.astype(np.float32) / 32768)
    samples, rate = read_audio(places["b"])
    assert rate == FS and samples.shape == (FS, 2) and len(mono) == FS


@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_24", "FLOAT"])
def test_audio_of_other_types(tmp_path, kind):
    path = tmp_path / "a.wav"
    soundfile.write(path, INTEGERS / 32768, FS, subtype=kind)
    (tmp_path / "a.ark").write_bytes(b"a " + path.read_bytes() + b"b " + path.read_bytes())
    for offset in (2, 4 + path.stat().st_size):
        found = read_audio(f"{tmp_path}/a.ark:{offset}")[0]
        np.testing.assert_array_equal(found, read_audio(path)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (0, 5), (35,)])
def test_arrays(tmp_path, dtype, shape):
    array = RNG.standard_normal(shape).astype(dtype)
    options = {"write_function": "numpy"} if dtype == np.float16 else {}
    places = save(tmp_path / "a.ark", {"a": array, "b": array}, **options)
    for place in places.values():
        found = read_array(place)
        assert found.dtype == np.float32 and found.flags.writeable
        np.testing.assert_array_equal(found, array.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_is_written_is_what_kaldiio_writes(tmp_path, dtype):
    entries = {"one": MATRIX.astype(dtype), "zwei-ä": MATRIX[::2].astype(dtype)}
    options = {"write_function": "numpy"} if dtype == np.float16 else {}
    places = save(tmp_path / "kaldiio.ark", entries, **options)
    with open(tmp_path / "own.ark", "wb") as stream:
        offsets = {key: write_array(stream, key, array) for key, array in entries.items()}
    assert (tmp_path / "own.ark").read_bytes() == (tmp_path / "kaldiio.ark").read_bytes()
    assert offsets == {key: int(place.rpartition(":")[2]) for key, place in places.items()}


def test_what_is_written_and_espnet_reads(tmp_path):
    with open(tmp_path / "a.ark", "wb") as stream:
        single, half = (write_array(stream, k, MATRIX.astype(k)) for k in ("float32", "float16"))
    found = omniio.kaldi.load_mat(f"{tmp_path}/a.ark:{single}")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MATRIX)
    with pytest.raises(omniio.kaldi.ReadError, match="Not a Kaldi object"):
        omniio.kaldi.load_mat(f"{tmp_path}/a.ark:{half}")


def hostile(path):
    """Entries that run code when they are read carelessly, and other refused ones."""
    numpy = io.BytesIO()
    np.save(numpy, np.array([Payload(path)], dtype=object), allow_pickle=True)
    numpy = numpy.getvalue()
    compressed = io.BytesIO()
    kaldiio.save_mat(compressed, MATRIX, compression_method=2)
    text = io.BytesIO()
    kaldiio.save_ark(text, {"a": MATRIX}, text=True)
    return {
        "a pickle": (b"PKL" + pickle.dumps(Payload(path)), "a pickle, which can run code"),
        "a bare pickle": (pickle.dumps(Payload(path)), "no known header"),
        "objects": (b"NPY\x02" + struct.pack("<H", len(numpy)) + numpy, "damaged|a matrix"),
        "compressed": (compressed.getvalue(), "a compressed matrix"),
        "text": (text.getvalue()[2:], "no known header"),
        "integers": (b"\0B\4" + struct.pack("<ibi", 1, 4, 5), "no known header"),
        "a shell command": (b"|mkdir", "no known header"),
        "HDF5": (b"\x89HDF\r\n\x1a\n", "no known header"),
        "nothing": (b" ", "no known header"),
    }


@pytest.mark.parametrize("kind", hostile(""))
@pytest.mark.parametrize("read", [read_audio, read_array])
def test_what_is_refused(tmp_path, kind, read):
    content, message = hostile(tmp_path / "ran")[kind]
    (tmp_path / "a.ark").write_bytes(b"a " + content)
    with pytest.raises(UserError, match=f"a.ark:2: (holds|the entry is) .*({message})"):
        read(f"{tmp_path}/a.ark:2")
    assert not (tmp_path / "ran").exists()


def test_audio_is_no_matrix_and_a_matrix_no_audio(tmp_path):
    audio = save(tmp_path / "a.ark", {"a": (FS, INTEGERS)})["a"]
    matrix = save(tmp_path / "b.ark", {"a": MATRIX})["a"]
    with pytest.raises(UserError, match="a.ark:2: holds audio, not a matrix of floats"):
        read_array(audio)
    with pytest.raises(UserError, match="b.ark:2: holds a matrix or vector, not audio"):
        read_audio(matrix)


@pytest.mark.parametrize("suffix", ["", ".ark:0", ".wav", " ", ".ark"])
@pytest.mark.parametrize("name", ["mkdir RAN; cat a.ark |", "| mkdir RAN", "mkdir RAN |", "|"])
def test_pipes(tmp_path, monkeypatch, name, suffix):
    monkeypatch.chdir(tmp_path)
    name = name + suffix if name.startswith("|") else suffix + name
    for read in (read_audio, read_array, open_file):
        with pytest.raises(UserError, match="pipes are not supported: write a file"):
            read(name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "place",
    ["a.ark", "a.ark:", "a.ark:-2", "a.ark:+2", "a.ark:2.0", "a.ark:0x2", "a.ark:2[0:10]"]
    + ["a.ark:2[0]", "a.ark:two", "a.ark:²", f"a.ark:{'9' * 5000}", "a.ark:2:3"],
)
def test_places_that_are_none(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.ark", {"a": (FS, INTEGERS)})
    for read in (read_audio, read_array, split_place):
        with pytest.raises(UserError, match="one entry is read, as file.ark:offset"):
            read(place)


@pytest.mark.parametrize("offset", [99999999, 10**17])
def test_beyond_the_end(tmp_path, offset):
    save(tmp_path / "a.ark", {"a": (FS, INTEGERS)})
    size = (tmp_path / "a.ark").stat().st_size
    for read in (read_audio, read_array):
        for place in (offset, size):
            with pytest.raises(UserError, match=f"a.ark:{place}: the archive ends at byte {size}"):
                read(f"{tmp_path}/a.ark:{place}")


ENTRIES = {
    "RIFF": ((FS, INTEGERS), {}, read_audio),
    "AUDIO": ((FS, INTEGERS), {"write_function": "soundfile"}, read_audio),
    "FM": (MATRIX, {}, read_array),
    "DV": (MATRIX[0].astype(float), {}, read_array),
    "NPY": (MATRIX.astype(np.float16), {"write_function": "numpy"}, read_array),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_cut_archive(tmp_path, kind):
    entry, options, read = ENTRIES[kind]
    place = save(tmp_path / "a.ark", {"a": entry}, **options)["a"]
    whole = (tmp_path / "a.ark").read_bytes()
    read(place)
    for left in (len(whole) - 1, len(whole) // 2, len(whole) // 5, 20, 14, 8, 5, 3):
        (tmp_path / "a.ark").write_bytes(whole[: max(left, 3)])
        with pytest.raises(UserError, match="a.ark:2: "):
            read(place)


def test_headers_that_ask_for_too_much(tmp_path):
    huge = struct.pack("<bi", 4, 2**31 - 1)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
    numpy = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode()
    for content in (
        *(b"\0BFM " + 2 * huge, b"\0BDV " + huge, b"\0BFM " + struct.pack("<bibi", 4, -1, 4, 5)),
        *(b"NPY\x01" + bytes([len(numpy)]) + numpy, b"NPY\xff" + b"\xff" * 300, b"AUDIO\x08"),
        b"AUDIO\x08" + b"\xff" * 8,
    ):
        (tmp_path / "a.ark").write_bytes(b"a " + content + bytes(100))
        for read in (read_audio, read_array):
            with pytest.raises(UserError, match="a.ark:2: "):
                read(f"{tmp_path}/a.ark:2")


def test_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo.wav")
    os.mkfifo(tmp_path / "fifo.ark")
    os.symlink("/dev/zero", tmp_path / "zero.wav")
    os.symlink("loop.wav", tmp_path / "loop.wav")
    messages = {
        **dict.fromkeys(["fifo.wav", "fifo.ark:3", "zero.wav", "/dev/null"], "is a pipe or a dev"),
        **dict.fromkeys([".", "/", str(tmp_path)], "is a directory"),
        **dict.fromkeys(["-", "", "none.wav", "http://a/b.wav", "a\0b", "loop.wav"], "no such"),
        **dict.fromkeys(["none.ark:3", "x" * 5000], "no such"),
    }
    for name, message in messages.items():
        for read in (read_audio, open_file):
            with pytest.raises(UserError, match=message):
                read(name)


def test_nothing_but_the_tests_needs_kaldiio():
    package = Path(espnet_tse_ser.__file__).parent
    users = [p for p in package.rglob("*.py") if "import kaldiio" in p.read_text("utf-8")]
    assert users == [] and len(list(package.rglob("*.py"))) > 100
