"""Reading and writing audio, and which of it is usable (with `amplitudes` and `containers`)."""

import functools
import io
import os
from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.amplitudes import (
    Extremes,
    check_amplitudes,
    check_not_cancelled,
    check_not_silent,
    check_rate,
)
from espnet_tse_ser.audio.ark import open_audio_entry, open_file, split_place
from espnet_tse_ser.audio.containers import check_whole
from espnet_tse_ser.audio.formats import remedy
from espnet_tse_ser.errors import UserError, deferred_interrupt
from espnet_tse_ser.files import atomic_path

_MOST_FRAMES = 2**40  # libsndfile names more where a header says nothing
_MOST_VALUES = 2**26  # read at a time: a header may state any length
_FEW = 1024  # samples read at a time to see where a file is damaged


def read_audio(path):
    """Read a whole file as it is.

    Args:
        path: audio file that libsndfile reads, or ``file.ark:offset`` of a Kaldi archive.

    Returns:
        samples ``(num_samples, num_channels)`` float32, full scale is 1, and the rate in Hz.

    Raises:
        UserError: the file is missing, unreadable, cut short or empty, or holds values that no
            recording has.
    """
    with open_audio(path) as audio:
        blocks = list(audio.blocks(audio.num_samples))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), audio.rate


class AudioFile:
    """An open audio file, to be read once, and closed as a context manager.

    Attributes:
        name: what errors call it. rate: in Hz. num_channels. num_samples: as its header states
            them; None where it does not.
    """

    def __init__(self, streams, name, closing=()):
        """Take the `soundfile.SoundFile` of a file, or those of its parts.

        Args:
            closing: what else is to be closed with it.
        """
        for stream in streams:
            # Without seeking, which soundfile does after every read: it takes time, some codecs
            # cannot do it, and soundfile would not read on where a header states no length.
            stream.seekable = lambda: False
        self._streams, self._number, self._closing = streams, 0, closing
        self.name, first = name, streams[0]
        self.rate, self.num_channels = check_rate(first.samplerate, name), first.channels
        num_samples = first.frames
        for stream in streams[1:]:
            num_samples += stream.frames
            if (stream.samplerate, stream.channels) != (self.rate, self.num_channels):
                raise UserError(
                    f"{name}: its parts differ in their rate or their channels; convert it, e.g. "
                    "with ffmpeg"
                )
        self.num_samples = num_samples if num_samples < _MOST_FRAMES else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for opened in (*self._streams, *self._closing):
            opened.close()

    def blocks(self, size=None):
        """Yield the samples, ``size`` at most at a time, ``(num_samples, num_channels)`` float32.

        Raises:
            UserError: the file cannot be decoded or is cut short, which may show at its end only;
                it is empty, or holds values that no recording has.
        """
        most = _MOST_VALUES // self.num_channels
        size, position = min(size or most, most), 0
        while self.num_samples is None or position < self.num_samples:
            block = self._read(size, position)
            if len(block) == 0:
                break
            check_amplitudes(block, self.name, position)
            position += len(block)
            yield block
        if position < (self.num_samples or 0):
            raise self._cut_short(position)
        if position == 0:
            raise UserError(f"{self.name}: holds no samples; fetch it again or leave it out")

    def count(self):
        """The number of samples; of a file that states none it is what all blocks have."""
        return self.num_samples or sum(len(block) for block in self.blocks())

    def _read(self, size, position):
        import soundfile

        if self.num_samples is not None:
            size = min(size, self.num_samples - position)
        try:
            block = self._streams[self._number].read(size, dtype="float32", always_2d=True)
            while len(block) == 0 and self._number + 1 < len(self._streams):
                self._number += 1
                block = self._streams[self._number].read(size, dtype="float32", always_2d=True)
            return block
        except soundfile.LibsndfileError as error:
            if size > _FEW:  # how far it goes shows in small steps only
                with open_audio(self.name) as again:
                    for _ in again.blocks(_FEW):
                        pass
            raise self._cut_short(position, error.error_string) from None

    def _cut_short(self, position, reason=None):
        of = "" if self.num_samples is None else f" of {self.num_samples}"
        reason = "" if reason is None else f" ({reason})"
        return UserError(
            f"{self.name}: the file is cut short or damaged: {position}{of} samples could be "
            f"read{reason}; fetch it again"
        )


def open_audio(path):
    """Open audio to read.

    Returns:
        `AudioFile`.

    Raises:
        UserError: the file is missing, cut short, or cannot be read.
    """
    path = str(path)
    if split_place(path)[1] is not None:
        part = open_audio_entry(path)
        sources = check_whole(part.read_at, part.size, path) or [part]
        return AudioFile(_open_streams(sources, path), path, [part])
    descriptor, size = open_file(path)
    if size == 0:
        os.close(descriptor)
        raise UserError(f"{path}: is empty; fetch it again or leave it out")
    try:
        sources = check_whole(functools.partial(os.pread, descriptor), size, path)
    finally:
        os.close(descriptor)
    return AudioFile(_open_streams(sources or [path], path), path)


def _open_streams(sources, path):
    import soundfile

    try:
        return [soundfile.SoundFile(source) for source in sources]
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw has no header
        raise UserError(
            f"{path}: cannot be read as audio ({getattr(error, 'error_string', error)}); "
            f"{remedy(path)}"
        ) from None


def read_mono(path, fs, min_samples=1):
    """Read a file that must already be mono, of rate ``fs``, long enough and not silent.

    Returns:
        samples ``(num_samples,)`` float32 in [-1, 1].

    Raises:
        UserError: as `read_audio`, and for a wrong rate, several channels, too few samples or
            a silent signal.
    """
    samples, rate = read_audio(path)
    if rate != fs:
        raise UserError(f"{path}: rate is {rate} Hz, {fs} Hz is needed; run stage 1 (it resamples)")
    if samples.shape[1] != 1:
        raise UserError(
            f"{path}: has {samples.shape[1]} channels but 1 is needed; run stage 1 (it mixes down)"
        )
    samples = samples[:, 0]
    if len(samples) < min_samples:
        raise UserError(
            f"{path}: {len(samples)} samples ({len(samples) / fs:.3f} s) are too short, at least "
            f"{min_samples} ({min_samples / fs:.3f} s) are needed; leave it out"
        )
    check_not_silent(samples, path)
    return samples


def to_mono(samples, rate, fs, name="the signal"):
    """Mix down ``(num_samples, num_channels)`` to mono and resample from ``rate`` to ``fs`` Hz.

    Returns:
        ``(num_samples',)`` float32; several channels are averaged; the resampler is soxr.

    Raises:
        UserError: as `mix_down`.
    """
    return resample(mix_down(samples, name), rate, fs)


def mix_down(samples, name):
    """Average the channels of ``(num_samples, num_channels)``, or of ``(num_samples,)``.

    Returns:
        ``(num_samples,)`` float32.

    Raises:
        UserError: the channels cancel each other; the error calls the signal ``name``.
    """
    if samples.ndim == 1 or samples.shape[1] == 1:
        return np.ascontiguousarray(samples.reshape(-1), np.float32)
    mono = samples.mean(axis=1, dtype=np.float32)
    check_not_cancelled(Extremes(mono), [Extremes(c) for c in samples.T], name)
    return mono


def resample(mono, rate, fs):
    """Resample ``(num_samples,)`` float32 from ``rate`` to ``fs`` Hz with soxr."""
    if rate != fs:
        import soxr

        mono = soxr.resample(mono, rate, fs)
    return np.ascontiguousarray(mono, np.float32)


def peak(samples):
    """The largest magnitude in an array, in its type; 0 of an empty one."""
    return max(samples.max(initial=0.0), -samples.min(initial=0.0))


def write_audio(path, samples, fs, files=None):
    """Write mono ``samples`` (float, [-1, 1]) as 16-bit FLAC or WAV by suffix, atomically.

    Args:
        files: `AtomicFiles` to write many files with; None: the file is there on return.

    Raises:
        UserError: a sample lies outside [-1, 1] (it would be clipped) or is NaN.
    """
    highest = float(peak(samples))
    if not highest <= 1.0:
        raise UserError(
            f"{path}: peak {highest:.3f} is not within 1, it would clip; lower the gain"
        )
    # Encoded in memory: libsndfile does not always notice that the disk is full.
    encoded = _encode(samples, fs, Path(path).suffix[1:]).getbuffer()
    if files is not None:
        files.write(path, encoded)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def as_stored(samples, fs):
    """What `read_mono` would return had `write_audio` written ``samples`` to a FLAC file."""
    return to_int16(samples).astype(np.float32) / 32768.0


def to_int16(samples):
    """Round float samples in [-1, 1] to 16 bit, as libsndfile does for FLAC."""
    return np.clip(np.rint(samples * 32768.0), -32768.0, 32767.0).astype(np.int16)


def _encode(samples, fs, kind):
    import soundfile

    if kind == "flac":  # a sixth faster than rounding in libsndfile, which gives the same bytes
        samples = to_int16(samples)
    encoded = io.BytesIO()
    with deferred_interrupt():
        soundfile.write(encoded, samples, fs, format=kind, subtype="PCM_16")
    return encoded
