"""Recordings of hours, from file to file in the memory of one window.

The file is read twice, in blocks: to learn its length, offset and level and whether it can be used,
and to extract (`espnet_tse_ser.frontends.windows`). What was extracted waits in a file without a
name beside the output, since its level (`Frames`) is known at the end only. Emotions are
those of segments of equal length, about as long as the utterances that a recogniser is trained on.
"""

import contextlib
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.audio.amplitudes import Extremes, check_not_cancelled, check_not_silent
from espnet_tse_ser.audio.levels import LEAST, Level
from espnet_tse_ser.audio.quality import Quality
from espnet_tse_ser.audio.reading import open_audio
from espnet_tse_ser.errors import UserError, deferred_interrupt
from espnet_tse_ser.files import atomic_path
from espnet_tse_ser.frontends import windows
from espnet_tse_ser.frontends.extraction import (
    Embeddings,
    Extraction,
    check_output,
    device_of,
    extract,
    pad_signals,
    rescale,
)
from espnet_tse_ser.frontends.td_speakerbeam.cpu_block import NormStatistics
from espnet_tse_ser.inference.frames import Frames
from espnet_tse_ser.mixtures.checks import MIN_SAMPLES
from espnet_tse_ser.progress import progress

_BLOCK_SECONDS = 10  # read at a time
_EDGE_SECONDS = 1.0  # of a window of a front-end from elsewhere, left to its neighbour


@dataclass(frozen=True)
class Segment:
    """A part of a recording from ``start`` to ``end`` in s.

    ``probabilities`` is a dict label -> probability, None where the recording is silent;
    ``target_present`` is that of `Recognition`.
    """

    start: float
    end: float
    probabilities: dict | None
    target_present: float | None = None

    @property
    def label(self):
        """The most probable emotion, or None."""
        return self.probabilities and max(self.probabilities, key=self.probabilities.get)


class Recording:
    """An audio file that is mixed down and resampled while it is read, as `to_mono` would.

    Without its offset, though: samples have a mean of 0.

    Args:
        path: as of `read_audio`. rate: wanted, in Hz.

    Attributes:
        num_samples: at ``rate``. seconds: the length of the file. rms: the root mean square.
        quality: `Quality` of the file.

    Raises:
        UserError: as `read_audio`, and for a recording that is silent throughout or whose channels
            cancel each other.
    """

    def __init__(self, path, rate):
        self.path, self.rate, self._offset = path, rate, 0.0
        mono, channels = Extremes(), {}
        with open_audio(path) as audio:
            self.quality = Quality(audio.rate)

        def observe(block, mixed):
            self.quality.add(block)
            mono.add(mixed)
            for number, channel in enumerate(block.T):
                channels.setdefault(number, Extremes()).add(channel)

        self.num_samples = total = energy = 0
        for block in self.blocks(observe):
            self.num_samples += len(block)
            total += float(block.sum(dtype=np.float64))
            energy += float(np.square(block, dtype=np.float64).sum())
        check_not_cancelled(mono, channels.values(), path)
        check_not_silent(mono, path)
        self._offset = total / self.num_samples
        self.rms = max(energy / self.num_samples - self._offset**2, LEAST**2) ** 0.5

    def blocks(self, observe=None):
        """Yield the samples, ``(n,)`` float32 at a time.

        Args:
            observe: called with each block of the file ``(m, num_channels)`` and its mean over the
                channels.
        """
        with open_audio(self.path) as audio:
            position, resampler, first = 0, None, None
            if audio.rate != self.rate:
                import soxr

                resampler = soxr.ResampleStream(audio.rate, self.rate, 1, dtype="float32")
            for block in audio.blocks(_BLOCK_SECONDS * audio.rate):
                position += len(block)
                mono = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
                if observe is not None:
                    observe(block, mono)
                if first is None:
                    first = float(mono.mean(dtype=np.float64))
                # Before the resampler, which goes on with zeros: an offset would be a step to them.
                mono = mono - first
                if resampler is not None:
                    mono = resampler.resample_chunk(mono)
                yield mono - self._offset
            if resampler is not None:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True) - self._offset
            self.seconds = position / audio.rate


def check_window(tse_model, rate, seconds):
    """Samples of a window of ``seconds``.

    Raises:
        UserError: it is too short for the receptive field of the model.
    """
    least = 2 * windows.overlap(tse_model, rate) + 1
    if round(seconds * rate) < least:
        raise UserError(
            f"--window_seconds {seconds:g}: windows of this model must be {least / rate:.2f} s or "
            "more: they overlap by twice its receptive field"
        )
    return round(seconds * rate)


def recognize_recording(
    model, recording, enrollment, output, frames=None, *, window_seconds, segment_seconds
):
    """Recognise the emotions of a recording, and extract the target if the model does.

    Args:
        model: `TSESER`. recording: `Recording` at its rate.
        enrollment: ``(num_samples,)`` of the target at its rate; None where it is no input.
        output: WAV or FLAC file to write the extracted target to, or None.
        frames: `Frames` that take in what is extracted; None: nobody wants to know.
        window_seconds: of a window at most. segment_seconds: of a segment at most.

    Returns:
        list of `Segment`.

    Raises:
        UserError: a window too short for the model, a segment too short, or audio that cannot be
            read.
    """
    if not segment_seconds * model.rate >= 2 * MIN_SAMPLES:
        least = 2 * MIN_SAMPLES / model.rate
        raise UserError(f"--segment_seconds must be {least:g} or more, got {segment_seconds:g}")
    if not model.extracts and model.front_end is None and model.inputs != ("speech",):
        raise UserError(
            f"{recording.path}: is longer than --window_seconds {window_seconds:g} or "
            f"--segment_seconds, and this model recognises from {', '.join(model.inputs)}: that is "
            "not cut into segments; give more"
        )
    segments = _Segments(model, recording, enrollment, segment_seconds)
    if model.front_end is None and not model.extracts:
        for block in recording.blocks():
            segments.add(block, block)
        return segments.all()
    stream = extracted_pieces(model, recording, enrollment, window_seconds)
    frames = frames or Frames(model.rate, model.sets_level)
    with contextlib.nullcontext() if output is None else _Output(output, frames) as writer:
        for mixture, estimate in stream:
            frames.add(mixture, estimate)
            segments.add(mixture, estimate)
            if writer is not None:
                writer.add(estimate)
    return segments.all()


def overall(segments):
    """Mean probabilities, dict label -> probability, of the segments that are not silent.

    >>> overall([Segment(0, 5, {"a": 0.4, "b": 0.6}), Segment(5, 10, None)])
    {'a': 0.4, 'b': 0.6}
    """
    found = [s.probabilities for s in segments if s.probabilities is not None]
    return {label: sum(p[label] for p in found) / len(found) for label in found[0]}


def _denoise(front_end, recording, enrollment, seconds):
    """Yield pieces of the mixture and what a front-end makes of them, ``(n,)`` float32 both."""
    if isinstance(front_end, Extraction):
        window = check_window(front_end.model, front_end.rate, seconds)
        embedding = Embeddings(front_end.model, front_end.rate)([enrollment])
        yield from _extract(front_end.model, recording, embedding, window)
        return
    # The receptive field of another network is not known.
    edge = round(_EDGE_SECONDS * front_end.rate)
    overlap = 2 * edge + round(windows.FADE_SECONDS * front_end.rate)
    window = round(seconds * front_end.rate)
    if window <= 2 * overlap:
        raise UserError(
            f"--window_seconds {seconds:g}: windows of this front-end must be longer than "
            f"{2 * overlap / front_end.rate:g} s"
        )
    plan = windows.plan(recording.num_samples, window, overlap)
    enrolled = [[enrollment]] if front_end.needs_enrollment else []

    def estimate(mixture):
        return extract(front_end, [mixture], *enrolled, names=[recording.path])[0]

    yield from _pieces(recording, plan, edge, estimate, "denoise")


def extracted_pieces(model, recording, enrollment, window_seconds):
    """Yield pieces of the mixture and what a model or its front-end extracts of them.

    Args: as of `recognize_recording`, of a model that extracts or has a front-end.

    Returns:
        iterator of ``(n,)`` float32, and as much again; at any level, the same for all of it.
    """
    if model.front_end is not None:
        return _denoise(model.front_end, recording, enrollment, window_seconds)
    window = check_window(model.model.tse_model, model.rate, window_seconds)
    embedding = model.embeddings()([enrollment])
    return _extract(model.model.tse_model, recording, embedding, window)


def extract_recording(front_end, recording, enrollment, output, window_seconds):
    """Extract the target of a recording to a WAV or FLAC file; see `recognize_recording`.

    Args:
        front_end: `FrontEnd`.

    Returns:
        `Frames` that are finished.
    """
    frames = Frames(front_end.rate, front_end.sets_level)
    with _Output(output, frames) as writer:
        for mixture, estimate in _denoise(front_end, recording, enrollment, window_seconds):
            frames.add(mixture, estimate)
            writer.add(estimate)
    return frames


@torch.no_grad()
def _extract(model, recording, embedding, window):
    """Yield pieces of the mixture and what is extracted of them, ``(n,)`` float32 both."""
    edge = windows.receptive_field(model)
    overlap = windows.overlap(model, recording.rate)
    stride = model.encoder.stride
    plan = windows.plan(recording.num_samples, window, overlap, stride)
    device, statistics = device_of(model), None
    level = Level(*torch.tensor([[0.0], [recording.rms]], dtype=torch.double, device=device))

    def estimate(mixture):
        padded = pad_signals([mixture], device)
        estimated = model.extract_embedded(*padded, embedding, statistics, level)[0].cpu().numpy()
        check_output(estimated, recording.path)
        return estimated

    if len(plan) > 1 and model.extractor.has_global_norms:
        statistics = NormStatistics()
        for mixture in _windows(recording, plan, "measure"):
            estimate(mixture)
        statistics.collected()
    yield from _pieces(recording, plan, edge, estimate, "extract")


def _windows(recording, plan, label):
    """The mixture in each window of a plan."""
    return progress(windows.cut(recording.blocks(), plan), label, len(plan))


def _pieces(recording, plan, edge, estimate, label):
    """Yield pieces of the mixture and their estimates: of windows, joined."""
    held = []

    def estimates():
        for mixture in _windows(recording, plan, label):
            held[:] = [mixture]
            yield estimate(mixture)

    joined = windows.join(plan, estimates(), edge)
    for (begin, end), (start, _), estimated in zip(
        windows.pieces(plan, edge), plan, joined, strict=True
    ):
        yield held[0][begin - start : end - start], estimated


class _Segments:
    """Classifies what is added, a segment at a time, as soon as it is complete."""

    def __init__(self, model, recording, enrollment, seconds):
        num_samples = recording.num_samples
        count = -(-num_samples // round(min(seconds * model.rate, num_samples)))
        self.model, self.name, self.found = model, recording.path, []
        self._bounds = [num_samples * k // count for k in range(count + 1)]
        self._enrollment, self._position, self._embedding = enrollment, 0, None
        if model.calibration is not None:
            self._embedding = model.embeddings()([enrollment])
        self._begin()

    def _begin(self):
        self._signals, self._mixture = {"speech": [], "mixture": []}, Extremes()

    def add(self, mixture, speech):
        """Add ``(n,)`` samples of the recording and the speech in them that is classified."""
        while len(speech):
            take = self._bounds[len(self.found) + 1] - self._position
            self._signals["speech"].append(speech[:take])
            self._signals["mixture"].append(mixture[:take])
            self._mixture.add(mixture[:take])
            self._position += len(speech[:take])
            mixture, speech = mixture[take:], speech[take:]
            if self._position == self._bounds[len(self.found) + 1]:
                self._classify()

    def all(self):
        """All segments, when all is added; a `UserError` if each of them is silent."""
        if all(segment.probabilities is None for segment in self.found):
            raise UserError(f"{self.name}: each of its segments is silent; record it again")
        return self.found

    def _classify(self):
        start, end = (n / self.model.rate for n in self._bounds[len(self.found) :][:2])
        probabilities = present = None
        if not self._mixture.is_silent:
            name = f"{self.name}: {start:.3f} to {end:.3f} s"
            signals = {stream: np.concatenate(parts) for stream, parts in self._signals.items()}
            pair = signals["mixture"], signals["speech"]
            if self.model.front_end is not None:  # as `extract` has it
                signals["speech"] = rescale(*pair[::-1], name, self.model.sets_level)
            if self._embedding is not None:
                pairs = [[signal] for signal in pair]
                measured = self.model.measure(*pairs, self._embedding, [self._enrollment])
                (present,) = self.model.calibration.target_present(measured)
            row = self.model.classify(signals | {"enrollment": self._enrollment}, name)
            probabilities = dict(zip(self.model.labels, row, strict=True))
        self.found.append(Segment(start, end, probabilities, present))
        self._begin()


class _Output:
    """Writes what is added, when all of it is in ``frames`` and its level is known, atomically."""

    def __init__(self, path, frames):
        self.path, self.frames = Path(path), frames

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def __exit__(self, kind, error, traceback):
        with self._scratch:
            if error is None:
                self._write()

    def add(self, estimate):
        self._scratch.write(np.ascontiguousarray(estimate, np.float32).data)

    def _write(self):
        import soundfile

        level = self.frames.finish()
        form = {"format": self.path.suffix[1:].upper(), "subtype": "PCM_16"}
        self._scratch.seek(0)
        size = 4 * _BLOCK_SECONDS * self.frames.rate
        with atomic_path(self.path) as temporary, open(temporary, "w+b") as stream:
            checked = _Checked(stream)
            with soundfile.SoundFile(checked, "w", self.frames.rate, 1, **form) as audio:
                for data in iter(functools.partial(self._scratch.read, size), b""):
                    with deferred_interrupt():
                        audio.write((level * np.frombuffer(data, np.float32)).astype(np.float32))
                    checked.raise_error()
                with deferred_interrupt():
                    audio.close()
            checked.raise_error()


class _Checked:
    """A file that keeps the error of a write: libsndfile would go on without a word."""

    def __init__(self, stream):
        self._stream, self._error = stream, None
        self.seek, self.tell, self.read = stream.seek, stream.tell, stream.read

    def write(self, data):
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            self._error = self._error or error
        return len(data)

    def raise_error(self):
        """Raise what went wrong so far."""
        if self._error is not None:
            raise self._error
