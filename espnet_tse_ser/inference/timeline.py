"""When the target of a long recording speaks, and with which emotion.

The recording is extracted by windows (`espnet_tse_ser.inference.recording`), and what is extracted
waits with the mixture in a file without a name, as its level is known at the end only. Then the
target is present in a frame of 20 ms if, both smoothed over 0.2 s,

* what is extracted has no less than ``presence_db`` of the energy of the mixture, and
* it is no more than ``floor_db`` below what is loud in it (its 95th percentile),

and, with an enrollment, if by `presence.present_by_frame` the probability (of a model with a
calibration) is ``least_present`` or more, and the similarity of voices ``least_similarity``.

Gaps of less than 0.3 s are closed, then what is shorter than that is left out. Each stretch that
remains is divided into equal parts of ``segment_seconds`` at most, which get an emotion.
"""

import tempfile
from dataclasses import dataclass

import numpy as np

from espnet_tse_ser.audio.reading import open_audio
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.frontends.extraction import rescale
from espnet_tse_ser.inference.calibration import LEAST_PRESENT
from espnet_tse_ser.inference.frames import Frames
from espnet_tse_ser.inference.presence import present_by_frame
from espnet_tse_ser.inference.recording import extracted_pieces
from espnet_tse_ser.progress import progress

SMOOTH_SECONDS = 0.2
LEAST_SECONDS = 0.3  # of a gap, and of a stretch

_LOUD = 95  # percentile
_LEAST = 1e-12  # energy of a sample: -120 dBFS


@dataclass(frozen=True)
class Part:
    """A part of a recording in which the target speaks, from ``start`` to ``end`` in s.

    ``presence_db`` is the level of the extracted speech against the mixture, ``target_present`` the
    mean probability or None, ``similarity`` the mean of the voices' or None, ``probabilities`` a
    dict label -> probability.
    """

    start: float
    end: float
    presence_db: float
    target_present: float | None
    similarity: float | None
    probabilities: dict

    @property
    def label(self):
        """The most probable emotion."""
        return max(self.probabilities, key=self.probabilities.get)


def presence(energies, rate):
    """Levels of what is extracted, smoothed: against the mixture, and against what is loud in it.

    Args:
        energies: ``(num_frames, 2)``, of the mixture and of what is extracted.
        rate: frames a second.

    Returns:
        two arrays ``(num_frames,)`` in dB.

    >>> energies = np.array([[1.0, 1.0]] * 50 + [[1.0, 1e-4]] * 50)
    >>> [level.round()[[10, 90]].tolist() for level in presence(energies, 50)]
    [[0.0, -40.0], [0.0, -40.0]]
    """
    size = min(max(round(SMOOTH_SECONDS * rate), 1), len(energies))
    smooth = [np.convolve(e, np.ones(size) / size, "same") for e in energies.T]
    mixture, speech = (10 * np.log10(np.maximum(e, _LEAST)) for e in smooth)
    return speech - mixture, speech - np.percentile(speech, _LOUD)


def stretches(is_present, rate):
    """Where frames are True: a list of ``(first, end)``, without short gaps and short stretches.

    Args:
        is_present: ``(num_frames,)`` bool. rate: frames a second.

    >>> stretches(np.array([0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0], bool), 10)
    [(1, 6)]
    """
    least = LEAST_SECONDS * rate
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_present, [0]]).astype(int)))
    joined = []
    for first, end in edges.reshape(-1, 2).tolist():
        if joined and first - joined[-1][1] < least:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((first, end))
    return [(first, end) for first, end in joined if end - first >= least]


def default_thresholds(model):
    """``presence_db``, ``least_present`` and ``least_similarity`` that fit a `TSESER`, a dict.

    Of a model with a calibration the level is a part of the probability. The similarity, and that
    low levels do no harm, were chosen on emotional dialogues of two dev speakers. None: there is no
    such measure.
    """
    is_calibrated = model.calibration is not None
    return {
        "presence_db": -30.0 if is_calibrated else -10.0,
        "least_present": LEAST_PRESENT if is_calibrated else None,
        "least_similarity": 0.5 if model.needs_enrollment else None,
    }


def settled(model, settings):
    """Settings, a dict, with `default_thresholds` in the place of None."""
    defaults = default_thresholds(model)
    return {k: defaults.get(k) if value is None else value for k, value in settings.items()}


def find_parts(
    model,
    recording,
    enrollment,
    directory,
    *,
    window_seconds,
    segment_seconds,
    presence_db,
    floor_db,
    least_present,
    least_similarity,
):
    """Find the target in a recording and recognise its emotions.

    Args:
        model: `TSESER` that extracts, or has a front-end. recording: `Recording` at its rate.
        enrollment: ``(num_samples,)`` of the target at its rate, or None.
        directory: for the file that waits, 8 bytes a sample.
        the others: see above, `default_thresholds`, and `recording.recognize_recording`; None of
            ``least_present`` and ``least_similarity`` takes all.

    Returns:
        list of `Part`, `Frames`, and `Presence`, or None without an enrollment.

    Raises:
        UserError: as `recognize_recording`; the model does not extract; ``least_present`` of a
            model without a calibration; or ``least_similarity`` without an enrollment.
    """
    _check(model, enrollment, segment_seconds, least_present, least_similarity)
    frames = Frames(model.rate, model.sets_level)
    with tempfile.TemporaryFile(dir=directory) as file:
        pairs = _Pairs(file)
        for pair in extracted_pieces(model, recording, enrollment, window_seconds):
            frames.add(*pair)
            pairs.add(*pair)
        level, rate = frames.finish(), model.rate / frames.size
        against_mixture, against_loud = presence(frames.energies, rate)
        is_present = (against_mixture >= presence_db) & (against_loud >= -floor_db)
        found = None
        if enrollment is not None:
            how = enrollment, pairs.read, is_present, frames.size
            found = present_by_frame(model, *how)
            for track, least in zip(found, (least_present, least_similarity), strict=False):
                if least is not None:
                    is_present &= track >= least
        bounds = [
            (a * frames.size, b * frames.size)
            for first, end in stretches(is_present, rate)
            for a, b in _divide(first, end, segment_seconds * rate)
        ]
        parts, tracks = [], (None, None) if found is None else found[:2]
        for first, end in progress(bounds, "recognise"):
            mixture, speech = pairs.read(first, end)
            name = f"{recording.path}: {first / model.rate:.2f} to {end / model.rate:.2f} s"
            speech = speech * np.float32(level)
            inside = slice(first // frames.size, end // frames.size)
            if model.front_end is not None:  # as `extract` has it
                speech = rescale(speech, mixture, name, model.sets_level)
            signals = {"speech": speech, "mixture": mixture, "enrollment": enrollment}
            row = model.classify(signals, name)
            part = Part(
                first / model.rate,
                end / model.rate,
                _decibels(frames.energies[inside]),
                *(None if x is None else float(x[inside].mean()) for x in tracks),
                dict(zip(model.labels, row, strict=True)),
            )
            parts.append(part)
    return parts, frames, found


def overall(parts):
    """Mean probabilities, dict label -> probability, over the time of the parts; None of none.

    >>> overall([Part(0, 3, 0, 1, 1, {"a": 1.0, "b": 0.0}), Part(5, 6, 0, 1, 1, {"a": 0, "b": 1})])
    {'a': 0.75, 'b': 0.25}
    """
    total = sum(part.end - part.start for part in parts)
    return {
        label: sum((part.end - part.start) * part.probabilities[label] for part in parts) / total
        for label in (parts[0].probabilities if parts else ())
    } or None


def read_stretch(path, start, end):
    """What ``start`` to ``end`` in s of an audio file has, and its rate in Hz.

    Returns:
        ``(num_samples, num_channels)`` float32, and the rate.

    Raises:
        UserError: as `read_audio`, or the recording ends before.
    """
    with open_audio(path) as audio:
        first, last, position, found = round(start * audio.rate), round(end * audio.rate), 0, []
        for block in audio.blocks(10 * audio.rate):
            found.append(block[max(first - position, 0) : max(last - position, 0)].copy())
            position += len(block)
            if position >= last:
                return np.concatenate(found), audio.rate
    raise UserError(
        f"{path}: ends at {position / audio.rate:.2f} s, before {end:g} s; give another stretch"
    )


def _check(model, enrollment, segment_seconds, least_present, least_similarity):
    if model.front_end is None and not model.extracts:
        raise UserError(
            "a timeline is of what a target says: give a joint model (stage 11), or a --front_end"
        )
    if segment_seconds < LEAST_SECONDS:
        raise UserError(f"--segment_seconds must be {LEAST_SECONDS:g} or more")
    if model.calibration is None and least_present is not None:
        raise UserError(
            "--least_present needs a model with a calibration (tse-ser calibrate); leave it out, "
            "or give --least_similarity"
        )
    if enrollment is None and least_similarity is not None:
        raise UserError("--least_similarity: the model takes no enrollment; leave it out")


class _Pairs:
    """Samples of a mixture and of what is extracted of it, in a file: 8 bytes a pair."""

    def __init__(self, file):
        self._file = file

    def add(self, mixture, speech):
        """Append ``(n,)`` each."""
        self._file.write(np.stack([mixture, speech], axis=1).astype(np.float32).data)

    def read(self, first, end):
        """Mixture and speech from one sample to another: ``(2, end - first)`` float32."""
        self._file.seek(8 * first)
        pairs = np.fromfile(self._file, np.float32, 2 * (end - first)).reshape(-1, 2)
        return np.ascontiguousarray(pairs.T)


def _divide(first, end, most):
    """Equal parts of a stretch, in frames."""
    count = int(-(-(end - first) // most))
    cuts = [first + round((end - first) * k / count) for k in range(count + 1)]
    return zip(cuts, cuts[1:], strict=False)


def _decibels(energies):
    mixture, speech = np.maximum(energies.mean(axis=0), _LEAST)
    return float(10 * np.log10(speech / mixture))
