"""What a usable signal is."""

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from espnet_tse_ser.audio.reading import (
    as_stored,
    read_audio,
    read_mono,
    to_int16,
    to_mono,
    write_audio,
)
from espnet_tse_ser.errors import UserError

FS = 16000


def noise(num_samples=FS, level=0.1):
    return level * np.random.default_rng(0).standard_normal(num_samples).clip(-3, 3)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_round_trip_is_exact_to_16_bit(tmp_path, suffix):
    path = tmp_path / "new" / f"a.{suffix}"
    write_audio(path, noise(), FS)
    assert soundfile.info(path).subtype == "PCM_16"
    samples = read_mono(path, FS)
    assert samples.dtype == np.float32 and samples.shape == (FS,)
    np.testing.assert_allclose(samples, noise(), atol=1 / 32768)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_full_scale_survives(tmp_path, suffix):
    write_audio(tmp_path / f"a.{suffix}", np.array([1.0, -1.0, 0.5]), FS)
    samples = read_mono(tmp_path / f"a.{suffix}", FS)
    np.testing.assert_allclose(samples, [1.0, -1.0, 0.5], atol=2 / 32768)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_that_of_libsndfile(tmp_path, dtype):
    steps = np.array([0, 0.5, 1.5, 2.5, 32766.5, 32767, 32767.49, 32767.5, 32768]) / 32768
    samples = np.concatenate([steps, -steps, noise(5000, 0.33)]).astype(dtype)
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, FS, format="FLAC", subtype="PCM_16")
    write_audio(tmp_path / "a.flac", samples, FS)
    assert (tmp_path / "a.flac").read_bytes() == encoded.getvalue()
    stored = read_mono(tmp_path / "a.flac", FS)
    np.testing.assert_array_equal(to_int16(samples), stored * 32768)
    np.testing.assert_array_equal(as_stored(samples, FS), stored)
    assert as_stored(samples, FS).dtype == np.float32


@pytest.mark.parametrize("value", [1.1, -1.1, np.nan])
def test_clipping_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="a.flac: peak .* is not within 1"):
        write_audio(tmp_path / "a.flac", np.array([0.1, value]), FS)
    assert os.listdir(tmp_path) == []


def test_channels_and_rate_are_kept(tmp_path):
    stereo = np.stack([noise(), -0.5 * noise()], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 8000)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert rate == 8000 and samples.shape == (FS, 2)


def spoiled(samples, **places):
    samples = np.array(samples, np.float32)
    for value, place in places.items():
        samples[place] = float(value)
    return samples


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (np.zeros(0), FS, "holds no samples"),
        (spoiled(noise(), nan=7), FS, "sample 7 is NaN or infinite"),
        (spoiled(noise(), inf=9), FS, "sample 9 is NaN or infinite"),
        (np.zeros(FS), FS, "is silent"),
        (noise(level=1e-6), FS, "is silent"),
        (np.full(FS, 0.25), FS, "is silent"),
        (0.25 + noise(level=1e-6), FS, "is silent"),
        (noise(), 8000, "rate is 8000 Hz, 16000 Hz is needed; run stage 1"),
        (np.stack([noise(), noise()], 1), FS, "has 2 channels but 1 is needed; run stage 1"),
        (noise(1599), FS, r"1599 samples \(0.100 s\) are too short, at least 1600"),
    ],
)
def test_bad_audio(tmp_path, samples, rate, message):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    with pytest.raises(UserError, match=f"a.wav: {message}"):
        read_mono(path, FS, min_samples=1600)


def test_unreadable_audio(tmp_path):
    with pytest.raises(UserError, match="a.wav: no such audio file"):
        read_audio(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"RIFF but no audio")
    with pytest.raises(UserError, match="a.wav: cannot be read as audio"):
        read_audio(tmp_path / "a.wav")
    whole = tmp_path / "b.flac"
    write_audio(whole, noise(), FS)
    whole.write_bytes(whole.read_bytes()[:20])
    with pytest.raises(UserError, match="b.flac"):
        read_audio(whole)
    (tmp_path / "c.raw").write_bytes(bytes(2000))  # headerless
    with pytest.raises(UserError, match="c.raw: cannot be read as audio .samplerate must be"):
        read_audio(tmp_path / "c.raw")


def test_to_mono():
    time = np.arange(48000) / 48000
    sine = np.sin(2 * np.pi * 440 * time)
    mono = to_mono(np.stack([sine, 0 * sine], axis=1), 48000, FS)
    assert mono.dtype == np.float32 and mono.shape == (FS,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(FS) / FS)
    np.testing.assert_allclose(mono[500:-500], expected[500:-500], atol=1e-3)
    assert to_mono(sine, FS, FS).shape == (48000,)


def wav(rate=FS, channels=1, bits=16, kind=1, samples=4000):
    """A WAV file whose header says what it is told to."""
    data = (100 * np.sin(np.arange(samples * max(channels, 1)))).astype("<i2").tobytes()
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width % 2**32, width, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "header, message",
    [
        ({"rate": 0}, "cannot be read as audio|sampling rate in Hz"),
        ({"rate": 1}, "sampling rate in Hz: expected a whole number of 1000 or more"),
        ({"rate": 999}, "sampling rate in Hz: expected"),
        ({"rate": 655351}, "sampling rate in Hz: expected"),
        ({"rate": 2**31}, "cannot be read as audio|sampling rate in Hz"),
        ({"rate": 2**32 - 1}, "cannot be read as audio|sampling rate in Hz"),
        ({"channels": 0}, "cannot be read as audio"),
        ({"channels": 1025}, "cannot be read as audio"),
        ({"bits": 0}, "cannot be read as audio"),
        ({"kind": 0x1234}, "cannot be read as audio"),
        ({"samples": 0}, "holds no samples"),
    ],
)
def test_headers_of_no_recording(tmp_path, header, message):
    (tmp_path / "a.wav").write_bytes(wav(**header))
    with pytest.raises(UserError, match=f"a.wav: ({message})"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("header", [{"rate": 1000}, {"rate": 655350}, {"channels": 64}])
def test_headers_of_odd_recordings(tmp_path, header):
    (tmp_path / "a.wav").write_bytes(wav(**header))
    samples, rate = read_audio(tmp_path / "a.wav")
    assert rate == header.get("rate", FS) and samples.shape == (4000, header.get("channels", 1))


def test_a_header_that_states_too_much(tmp_path):
    """The memory is that of what is there."""
    soundfile.write(tmp_path / "a.flac", noise(), FS)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # 2**36 - 1 samples
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(UserError, match=r"cut short or damaged: 16000 of 68719476735 samples"):
        read_audio(tmp_path / "a.flac")
