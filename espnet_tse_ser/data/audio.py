"""Reading and writing audio: the one place that decides what a usable signal is."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

from espnet_tse_ser.errors import UserError, deferred_interrupt
from espnet_tse_ser.files import atomic_path

SILENCE_DBFS = -80.0  # a signal whose peak stays below this is taken for silence
_MOST_FRAMES = 2**40  # libsndfile names more where a FLAC header says nothing
UNKNOWN_SIZE = 0x7FFFF000  # bytes: WAV headers written to a pipe name this (SoX) or more


def read_audio(path):
    """Read a whole file as it is.

    Args:
        path: audio file that libsndfile reads, or ``file.ark:offset`` of a Kaldi archive.

    Returns:
        samples ``(num_samples, num_channels)`` float32 in [-1, 1], and the rate in Hz.

    Raises:
        UserError: the file is missing, unreadable, cut short or empty, or holds NaN or infinite
            values.
    """
    path = str(path)
    if ".ark:" in path:
        import kaldiio

        try:
            rate, samples = kaldiio.load_mat(path)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read from a Kaldi archive of audio ({error}); write it again"
            ) from None
        if np.issubdtype(samples.dtype, np.integer):
            samples = samples / np.float32(np.iinfo(samples.dtype).max + 1)
        samples = np.asarray(samples, np.float32).reshape(len(samples), -1)
    else:
        with open_audio(path) as stream:
            samples, rate = stream.read(dtype="float32", always_2d=True), stream.samplerate
    if len(samples) == 0:
        raise UserError(f"{path}: holds no samples; fetch the file again or drop its id")
    check_finite(samples, path)
    return samples, rate


@contextlib.contextmanager
def open_audio(path):
    """Open an audio file to read: yields its ``soundfile.SoundFile``.

    Raises:
        UserError: the file is missing or cut short, or cannot be read, then or in the body.
    """
    import soundfile

    if not Path(path).is_file():
        raise UserError(f"{path}: no such audio file")
    try:
        with soundfile.SoundFile(path) as stream:
            if stream.frames > _MOST_FRAMES:
                raise UserError(
                    f"{path}: its header does not say how long it is; convert the file, e.g. with "
                    "`flac -d` and `flac`, or ffmpeg"
                )
            _check_whole(path, stream)
            yield stream
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: .raw has no header
        raise UserError(
            f"{path}: cannot be read as audio ({getattr(error, 'error_string', error)}); "
            "fetch or convert the file again"
        ) from None


def check_finite(samples, path, start=0):
    """Raise `UserError` if a block ``(num_samples, num_channels)`` has NaN or infinite values."""
    if not np.isfinite(samples).all():
        first = start + int(np.argmin(np.isfinite(samples).all(axis=1)))
        raise UserError(f"{path}: sample {first} is NaN or infinite; repair or drop the file")


def _check_whole(path, stream):
    """Raise `UserError` for a WAV with less data than its header says: libsndfile only logs it."""
    if stream.format not in ("WAV", "WAVEX"):
        return
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", stream.extra_info, re.MULTILINE)
    if sizes and int(sizes[2]) < int(sizes[1]) < UNKNOWN_SIZE:
        raise UserError(
            f"{path}: the file is cut short: {sizes[2]} of {sizes[1]} bytes of audio are there; "
            "fetch it again"
        )


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
            f"{min_samples} ({min_samples / fs:.3f} s) are needed; drop its id"
        )
    check_not_silent(samples, path)
    return samples


def to_mono(samples, rate, fs):
    """Mix down ``(num_samples, num_channels)`` to mono and resample from ``rate`` to ``fs`` Hz.

    Returns:
        ``(num_samples',)`` float32; several channels are averaged; the resampler is soxr.
    """
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if rate != fs:
        import soxr

        mono = soxr.resample(mono, rate, fs)
    return np.ascontiguousarray(mono, np.float32)


def peak(samples):
    """The largest magnitude in an array, in its type; 0 of an empty one."""
    return max(samples.max(initial=0.0), -samples.min(initial=0.0))


def check_not_silent(samples, name):
    """Raise `UserError` when the peak of ``samples`` is below `SILENCE_DBFS`."""
    highest = float(peak(samples))
    if highest < 10 ** (SILENCE_DBFS / 20):
        raise UserError(f"{name}: is silent (peak {highest:.1e}); drop its id or fetch it again")


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
