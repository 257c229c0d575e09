"""MP3: every sample is read, whatever the encoder wrote about the length, or the file is cut."""

import struct

import numpy as np
import pytest
import soundfile
from audio_files import encode, reader

from espnet_tse_ser.audio.reading import read_audio

SAMPLES = 40000
DELAY = 529  # of every decoder, which libsndfile takes off
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
MODES = ("CONSTANT", "AVERAGE", "VARIABLE")
TAGS = {
    "ID3v1": lambda mp3: mp3 + b"TAG" + bytes(125),
    "ID3v2": lambda mp3: b"ID3\3\0\0\0\0\1\0" + bytes(128) + mp3,
    "two ID3v2": lambda mp3: 2 * (b"ID3\4\0\0\0\0\0\5" + b"tag..") + mp3,
    "APE": lambda mp3: mp3 + b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8),
    "padding": lambda mp3: mp3 + bytes(1000),
    "text": lambda mp3: mp3 + b"some words " * 100,
}


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def mp3(fs=16000, mode="VARIABLE", quality=0.5, channels=1):
    options = {"bitrate_mode": mode, "compression_level": quality}
    return encode("MP3", None, channels, SAMPLES, fs, **options)


def split(content):
    """The frames of MPEG audio of layer III, by arithmetic of the test's own."""
    frames, place = [], 0
    while place < len(content):
        version = {0b11: 1, 0b10: 2, 0b00: 2.5}[content[place + 1] >> 3 & 3]
        table = {
            1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
            2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        }[int(version)]
        kilobits = table[content[place + 2] >> 4]
        rate = (44100, 48000, 32000)[content[place + 2] >> 2 & 3] / {1: 1, 2: 2, 2.5: 4}[version]
        samples = 1152 if version == 1 else 576
        size = int(samples / 8 * kilobits * 1000 / rate) + (content[place + 2] >> 1 & 1)
        frames.append(content[place : place + size])
        place += size
    assert place == len(content)
    return frames, samples


def without_header(content):
    """The frames of audio alone, as an encoder writes them to a pipe."""
    frames, samples = split(content)
    has_header = any(name in frames[0][:60] for name in (b"Xing", b"Info"))
    return frames[1:] if has_header else frames, samples


@pytest.mark.parametrize("fs", RATES)
@pytest.mark.parametrize("mode", MODES)
def test_every_sample_is_read(read, fs, mode):
    for channels, quality in ((1, 0.0), (2, 0.5), (1, 0.9)):
        content = mp3(fs, mode, quality, channels)
        frames, samples = without_header(content)
        expected = len(frames) * samples - DELAY
        assert read(content) == (SAMPLES if len(split(content)[0]) > len(frames) else expected)
        assert read(b"".join(frames)) == expected  # libsndfile alone: half in mode VARIABLE
        for tag, add in TAGS.items():
            assert read(add(content)) == read(content), tag
            assert read(add(b"".join(frames))) == expected, tag


@pytest.mark.parametrize("fs", RATES)
@pytest.mark.parametrize("mode", MODES)
def test_a_cut_file(read, fs, mode):
    content = mp3(fs, mode)
    frames, _ = without_header(content)
    bare = b"".join(frames)
    ends = set(np.cumsum([len(frame) for frame in frames]))
    for left in (len(bare) - 1, len(bare) - 2, len(bare) * 4 // 5, len(bare) // 2, len(bare) // 5):
        left -= left in ends  # cut between two frames: it cannot be told
        whole = sum(end <= left for end in ends)
        assert f"cut short: {whole} frames of audio and " in read(bare[:left])
        if len(content) > len(bare):
            cut = len(content) - len(bare) + left
            assert f"cut short: {whole} of {len(frames)} frames of audio" in read(content[:cut])
            exactly = len(content) - len(frames[-1])  # between two frames
            message = f"cut short: {len(frames) - 1} of {len(frames)} frames of audio are there"
            assert message in read(content[:exactly])


def test_files_put_together(read):
    content = mp3()
    frames, samples = without_header(content)
    assert "states 72 frames of audio, but 145 are there" in read(content + content)
    assert read(2 * b"".join(frames)) == 2 * len(frames) * samples - DELAY


def test_a_header_of_vbri(read):
    frames, samples = without_header(mp3(44100, "CONSTANT"))
    header = frames[0][:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, 0, len(frames))
    header = header.ljust(len(frames[0]), b"\0")
    whole = header + b"".join(frames)
    assert read(whole) == len(frames) * samples - DELAY
    assert f"{len(frames) - 1} of {len(frames)} frames" in read(whole[: -len(frames[-1])])


def test_another_layer(read):
    frame = b"\xff\xfd\x80\x00".ljust(144 * 128000 // 44100, b"\0")  # layer II
    assert "MPEG audio of layer I or II" in read(10 * frame)


def test_the_samples_are_those_of_the_audio(read, tmp_path):
    """With and without a header, up to where the decoder begins."""
    content = mp3()
    (tmp_path / "whole.mp3").write_bytes(content)
    (tmp_path / "bare.mp3").write_bytes(b"".join(without_header(content)[0]))
    expected, _ = soundfile.read(tmp_path / "whole.mp3")
    found = read_audio(tmp_path / "bare.mp3")[0][:, 0]
    begin = 576  # what the encoder puts before the audio, and says only in the header
    np.testing.assert_allclose(found[begin : begin + SAMPLES], expected, atol=1e-3)
