"""Audio files that were cut short, in every format that can be written here."""

import struct

import numpy as np
import pytest
import soundfile
from audio_files import FS, NUM_SAMPLES, encode, reader

# What is never recognised by its content, what needs a second file, and what states no length.
NOT_READ = ("RAW", "SD2")
UNKNOWN_LENGTH = ("IRCAM", "PAF", "PVF", "XI")
# Codecs of blocks of samples fill up the last one, as GSM, ADPCM and G.72x do.
BLOCK = 1100


def find_formats():
    """(format, subtype, channels, byte order) of what soundfile writes, but for `NOT_READ`."""
    found = []
    for kind in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(kind) if kind not in NOT_READ else ():
            for channels, order in ((1, "FILE"), (2, "FILE"), (1, "LITTLE"), (1, "BIG")):
                try:
                    encode(kind, subtype, channels, 100, endian=order)
                except soundfile.LibsndfileError:
                    continue
                except ValueError:  # no such combination
                    continue
                found.append((kind, subtype, channels, order))
    return found


FORMATS = find_formats()
LENGTHS_KNOWN = [f for f in FORMATS if f[0] not in UNKNOWN_LENGTH]


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def test_many_formats_are_tried():
    assert {"AIFF", "AU", "CAF", "FLAC", "MP3", "OGG", "RF64", "VOC", "W64", "WAV"} <= {
        kind for kind, *_ in LENGTHS_KNOWN
    }
    assert len(LENGTHS_KNOWN) > 150


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in FORMATS}))
def test_files_of_a_format(read, kind):
    """Whole ones are read, and cut ones refused, with how much was there."""
    for _, subtype, channels, order in (found for found in FORMATS if found[0] == kind):
        content = encode(kind, subtype, channels, endian=order)
        whole, size = read(content), len(content)
        assert NUM_SAMPLES <= whole <= NUM_SAMPLES + BLOCK, (subtype, channels, order)
        if kind in UNKNOWN_LENGTH:
            continue
        for left in (size - 1, size - 2, size - 100, size * 4 // 5, size // 2 + 1, size // 5):
            found = read(content[:left])
            # The last bytes may be none of audio: they fill a block up, or say that this was all.
            is_end = left > size - 3 and kind in ("CAF", "SDS", "VOC", "WAV")
            assert isinstance(found, str) or (is_end and found == whole), (subtype, left)
            if size // 2 < left < size - 2 and kind != "HTK":  # which libsndfile checks itself
                assert "cut short" in found, (subtype, left, found)
                assert any(digit in found for digit in "123456789")
        for left in (90, 44, 12, 4, 1):
            assert isinstance(read(content[:left]), str)


def test_the_message_says_how_much_was_there(read):
    messages = {
        "FLOAT": ("WAV", "AIFF", "AU", "W64", "RF64", "CAF"),
        "PCM_16": ("NIST", "SVX", "AVR", "MPC2K"),
    }
    for subtype, kinds in messages.items():
        for kind in kinds:
            content = encode(kind, subtype)
            declared = 4 * NUM_SAMPLES if subtype == "FLOAT" else 2 * NUM_SAMPLES
            message = f"{declared - 6000} of {declared} bytes of audio are there; fetch it again"
            assert message in read(content[:-6000]), kind
    flac = encode("FLAC", "PCM_16", num_samples=40000)
    message = read(flac[: len(flac) // 2])
    there = int(message.split(" of 40000 samples could be read")[0].rsplit(" ", 1)[1])
    assert 15000 < there < 20000


@pytest.mark.parametrize("place", [0, 1, 3, 126])
def test_a_damaged_packet_of_a_sample_dump(read, capfd, place):
    """libsndfile would print to standard output, among what a command prints."""
    content = bytearray(encode("SDS", "PCM_24"))
    content[21 + 3 * 127 + place] ^= 1
    assert "packet 4 of " in read(bytes(content))
    assert capfd.readouterr() == ("", "")


def riff(*chunks, pad=True):
    body = b"WAVE"
    for name, content, size in chunks:
        body += name + struct.pack("<I", len(content) if size is None else size) + content
        body += b"\0" * (len(content) % 2 if pad else 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORMAT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, FS, 2 * FS, 2, 16), None)
AUDIO = encode("WAV", "PCM_16")[44:]


def test_chunks_around_the_audio(read):
    odd = (b"LIST", b"INFOabc", None)
    for wav in (
        riff(FORMAT, (b"data", AUDIO, None)),
        riff(odd, FORMAT, (b"data", AUDIO, None), odd),
        riff(odd, FORMAT, (b"data", AUDIO, None)) + b"junk",
        riff(FORMAT, odd, (b"data", AUDIO, None), odd, pad=False),
    ):
        found = read(wav)
        assert found == NUM_SAMPLES or "No 'data' chunk" in str(found)  # chunks not filled up
    wav = riff(odd, FORMAT, (b"data", AUDIO, None), odd)
    assert "19900 of 20000" in read(wav[: wav.index(AUDIO) + 19900])
    assert read(wav[: wav.index(AUDIO) + 20000]) == NUM_SAMPLES
    assert read(riff(FORMAT, (b"data", AUDIO[:9], None), odd)) == 4  # odd, and filled up


@pytest.mark.parametrize(
    "size", [0xFFFFFFFF, 0xFFFFFFFF - 44, 0x80000000, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x7FFFF000]
)
def test_what_was_written_to_a_pipe_does_not_know_its_size(read, size):
    assert read(riff(FORMAT, (b"data", AUDIO, size))) == NUM_SAMPLES
    aiff = bytearray(encode("AIFF", "PCM_16"))
    place = aiff.index(b"SSND") + 4
    aiff[place : place + 4] = struct.pack(">I", size)
    assert read(bytes(aiff)) == NUM_SAMPLES
    if size == 0xFFFFFFFF:
        au = encode("AU", "PCM_16")
        assert read(au[:8] + struct.pack(">I", size) + au[12:]) == NUM_SAMPLES


def test_flac_written_to_a_pipe(read):
    flac = bytearray(encode("FLAC", "PCM_16"))
    flac[21] &= 0xF0  # the 36 bits of STREAMINFO for the number of samples
    flac[22:26] = bytes(4)
    assert read(bytes(flac)) == NUM_SAMPLES
    for left in (len(flac) - 1, len(flac) // 2, len(flac) // 5):
        assert "samples could be read" in read(bytes(flac[:left]))


def test_tags_do_not_matter(read):
    flac = encode("FLAC", "PCM_16")
    assert read(b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + flac) == NUM_SAMPLES
    assert read(flac + b"TAG" + bytes(125)) == NUM_SAMPLES


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg(read, subtype):
    first, second = encode("OGG", subtype, num_samples=40000), encode("OGG", subtype)
    assert read(first + second) == read(first + second + b"junk") == 40000 + NUM_SAMPLES
    assert read(first + second + first) == 2 * 40000 + NUM_SAMPLES
    assert "cut short" in read(first + second[:-1])
    pages = [place for place in range(len(first)) if first.startswith(b"OggS", place)]
    assert len(pages) > 4
    for page in pages[2:]:  # cut between two pages
        assert "the end of the stream is not among them" in read(first[:page])
    for other in (encode("OGG", subtype, 2), encode("OGG", subtype, fs=48000)):
        assert "its parts differ in their rate or their channels" in read(first + other)


MAGIC = [
    *(b"", b"\0", bytes(100), b"no audio\n" * 50, "né".encode("utf-16") * 100, b"\xff" * 5000),
    *(b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFX\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVEds64"),
    *(b"riff\x2e\x91\xcf\x11", b"FORM\0\0\0\0AIFF", b".snd", b"dns.", b"caff", b"caff\0\1\0\0data"),
    *(b"Creative Voice File\x1a", b"NIST_1A\n   1024\nsample_count -i 5\n", b"2BIT", b"\1\4"),
    *(b"\xf0\x7e", b"ALawSoundFile**", b"MATLAB 5.0 MAT-file", b"OggS", b"OggS" + bytes(30)),
    *(b"fLaC", b"ID3", b"ID3\3\0\0\x7f\x7f\x7f\x7f", b"\xff\xfb\x90\x64", b"\xff\xfb\x90\x64" * 99),
    b"\0\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\x0b\0\0\0samplerate\0",
]


@pytest.mark.parametrize("content", MAGIC, ids=range(len(MAGIC)))
def test_what_only_begins_like_audio(read, content):
    assert isinstance(read(content), str)
    assert isinstance(read(content + bytes(3)), str)
    assert isinstance(read(content + b"\xff" * 200), str)


@pytest.mark.parametrize("number", [1, 2**31, 2**32 - 1, 2**64 - 1])
def test_sizes_of_any_value(read, number):
    """At every place of a header: an error or samples, nothing else, and soon."""
    for kind in ("WAV", "AIFF", "AU", "CAF", "W64", "RF64", "MAT4", "MAT5", "VOC", "AVR", "XI"):
        whole = encode(kind, num_samples=2000)
        for place in range(0, min(160, len(whole)), 4):
            for order in "<>":
                form = f"{order}{'I' if number < 2**32 else 'Q'}"
                content = bytearray(whole)
                struct.pack_into(form, content, place, number)
                assert isinstance(read(bytes(content)), (int, str))


def test_damaged_headers(read):
    """Random bytes in the first hundred: an error or samples, nothing else, and soon."""
    rng = np.random.default_rng(1)
    for kind in ("WAV", "AIFF", "AU", "CAF", "W64", "RF64", "NIST", "VOC", "FLAC", "OGG", "MP3"):
        whole = encode(kind, num_samples=2000)
        for _ in range(30):
            content = bytearray(whole)
            for place in rng.integers(0, min(100, len(whole)), size=rng.integers(1, 4)):
                content[place] = rng.integers(0, 256)
            assert isinstance(read(bytes(content)), (int, str))
