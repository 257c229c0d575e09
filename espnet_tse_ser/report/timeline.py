"""The picture of a timeline: waveform, presence of the target, and its emotions."""

import numpy as np

from espnet_tse_ser.inference.frames import FRAME_SECONDS
from espnet_tse_ser.inference.timeline import presence
from espnet_tse_ser.report.plots import COLOURS, new_figure, save

_LEAST = {"target_present": "least_present", "similarity": "least_similarity"}
_COLUMNS = 2000  # of the picture; of more frames the extremes are drawn


def plot_timeline(path, parts, frames, found, labels, thresholds, title=""):
    """Draw the peaks of a recording and of its target, its presence, and a band for each emotion.

    Args:
        parts, frames, found: what `find_parts` gives. labels: emotions. thresholds: dict with
            "presence_db", "least_present" and "least_similarity".
    """
    figure, _ = new_figure(12, 7, axes=False)
    waveform, voices, level, bands = figure.subplots(
        4, 1, sharex=True, height_ratios=(2, 1.5, 1.2, 1.5)
    )
    (mixture, speech), time = _reduce(frames.peaks.T, np.max)
    waveform.fill_between(time, -mixture, mixture, color="lightgrey", label="mixture")
    waveform.fill_between(time, -speech, speech, color=COLOURS[0], label="target")
    waveform.set_ylabel("amplitude")
    waveform.legend(loc="upper right", ncols=2, fontsize=8)
    against_mixture, _ = presence(frames.energies, 1 / FRAME_SECONDS)
    (shown,), time = _reduce(against_mixture[None], np.mean)
    level.plot(time, np.maximum(shown, -40), color="grey", linewidth=0.8)
    level.axhline(thresholds["presence_db"], color="black", linestyle=":", linewidth=0.8)
    for axes in (voices, level):
        for part in parts:
            axes.axvspan(part.start, part.end, color=COLOURS[0], alpha=0.25, linewidth=0)
    for number, (name, least) in enumerate(_LEAST.items(), 1):
        track = getattr(found, name, None)
        if track is None:
            continue
        (shown,), time = _reduce(track[None], _mean_of_windows)
        voices.plot(time, shown, color=COLOURS[number], label=name.replace("_", " "))
        if thresholds[least] is not None:
            voices.axhline(thresholds[least], color=COLOURS[number], linestyle=":", linewidth=0.8)
    if found is not None:
        voices.legend(loc="lower right", ncols=2, fontsize=8)
    voices.set_ylabel("voice")
    voices.set_ylim(0, 1)
    level.set_ylabel("target / mixture, dB")
    level.set_ylim(-41, 5)
    for place, label in enumerate(labels):
        spoken = [(p.start, p.end - p.start) for p in parts if p.label == label]
        colour = COLOURS[place % len(COLOURS)]
        bands.broken_barh(spoken, (place - 0.4, 0.8), color=colour)
    bands.set_yticks(range(len(labels)), labels)
    bands.set_ylim(len(labels) - 0.5, -0.5)
    bands.set_xlabel("time, s")
    bands.set_xlim(0, len(frames.peaks) * FRAME_SECONDS)
    waveform.set_title(title)
    save(figure, path)


def _mean_of_windows(rows, axis):
    """The mean of what is not 0, where no window is; NaN of nothing else."""
    count = (rows != 0).sum(axis)
    return np.where(count > 0, rows.sum(axis) / np.maximum(count, 1), np.nan)


def _reduce(rows, of):
    """Rows ``(k, num_frames)`` in at most `_COLUMNS` columns, and the times of these in s."""
    step = -(-rows.shape[1] // _COLUMNS)
    starts = range(0, rows.shape[1], step)
    columns = [of(rows[:, start : start + step], axis=1) for start in starts]
    return np.stack(columns, axis=1), (np.array(starts) + step / 2) * FRAME_SECONDS
