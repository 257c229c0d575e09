"""One HTML page of an experiment: its tables, its plots, and every test utterance to listen to."""

import math
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.id_list import select
from espnet_tse_ser.audio.kaldi_dir import read_optional_table, read_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_json, read_text
from espnet_tse_ser.metrics.breakdown import FACTORS
from espnet_tse_ser.metrics.tables import MADE_WITH, read_scores
from espnet_tse_ser.report.html import as_html
from espnet_tse_ser.systems.system import Row, System
from espnet_tse_ser.systems.tags import split_tag

TEMPLATE = Path(__file__).with_name("page.html")
DOCUMENTS = (
    "RESULTS.md",
    "RESULTS_SWEEPS.md",
    "tse_*/scoring/SIGNALS.md",
    "scores/*/*/signals/SIGNALS.md",
    "refinement/*/*.md",
    "preservation/*/*.md",
)

_OLD = "is of an older version; run stage 14 again"
_WINDOW = 0.032  # s
_HOP = 0.01  # s
_BINS = 256  # of 1 / _WINDOW Hz: up to 8 kHz
_COLUMNS = 600  # of a spectrogram at most
_RANGE = 70  # dB below the loudest of an utterance's signals


@dataclass(frozen=True)
class Experiment:
    """What a page shows of an experiment.

    Args:
        directory: of RESULTS.md. base: where trainings and scores are. results: of results.json.
        labels: the classes. scores: name of a row -> its utterances (see `tables.read_scores`).
        signals: name -> (directory for its audio, id -> path).
    """

    directory: Path
    base: Path
    results: dict
    labels: list
    scores: dict
    signals: dict

    @property
    def ids(self):
        return list(dict.fromkeys(row["id"] for row in next(iter(self.scores.values()))))


def read_experiment(directory, dump_dir=None):
    """Read what a recipe has left: the directory of its RESULTS.md, and its audio.

    Args:
        directory: ``exp`` of a recipe, or ``exp/results_<mix_tag>``.
        dump_dir: None: ``dump`` beside ``exp``.

    Raises:
        UserError: there are no results, they are of other scores than there are now, or a list of
            audio is missing or lacks an utterance.
    """
    directory = Path(directory)
    path = directory / "results.json"
    if not path.is_file():
        raise UserError(
            f"{directory}: no results.json in it; give the directory exp of a recipe whose stage "
            "14 (results) is done"
        )
    results = read_json(path)
    is_other = directory.absolute().name.startswith("results_")  # another set of mixtures
    suffix = directory.absolute().name.removeprefix("results") if is_other else ""
    base = directory.absolute().parent if is_other else directory
    dump = Path(dump_dir) if dump_dir else base.absolute().parent / "dump"
    labels, scores, extracted = results.get("labels"), {}, {}
    if not results.get("made_with") or not results.get("scheme"):
        raise UserError(f"{path}: {_OLD}")
    for made in results["made_with"]:
        row = _row(made, path)
        scores_dir = base / f"scores{suffix}" / row.directory
        labels_there, rows = read_scores(scores_dir / "score_utt.tsv")
        if labels_there != labels or any(rows[0][c] != made.get(c) for c in MADE_WITH):
            raise UserError(f"{path}: is not of {scores_dir}/score_utt.tsv; run stage 14 again")
        scores[row.name] = rows
        extracted |= _extracted(row, scores_dir, dump, suffix)
    mix = dump / f"mix{suffix}"
    signals = {"mixture": ("mixture", read_table(mix / "wav.scp")), **extracted}
    signals["clean speech"] = "clean", read_table(mix / "spk1.scp")
    if enrollments := read_optional_table(mix / "enroll_spk1.scp"):
        signals["enrollment"] = "enrollment", enrollments
    experiment = Experiment(directory, base, results, labels, scores, signals)
    for name, (_, table) in signals.items():
        select(table, experiment.ids, f"the audio of {name}")
    return experiment


def _row(made, path):
    """The `Row` of a part of ``made_with``."""
    try:
        name, tag = made["system"], made["tag"]
        system = System(
            name.removesuffix(f" ({tag})"), made["label"], 0, made["train"], made["test"]
        )
        split_tag(tag, len(system.parts))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{path}: {_OLD}") from None
    return Row(name, system, tag)


def _extracted(row, scores_dir, dump, suffix):
    """The signal that is a row's extracted speech; several rows may have the same."""
    own = sorted(scores_dir.glob("fold*/audio/wav.scp"))
    if own:
        table = {utt: path for scp in own for utt, path in read_table(scp).items()}
        return {f"extracted speech ({row.name})": (f"{row.system.name}@{row.tag}", table)}
    if row.system.test != "denoised":
        return {}
    name = f"denoised_{row.parts['tse']}"
    table = read_table(dump / f"{name}{suffix}" / "wav.scp")
    return {f"extracted speech ({name})": (name, table)}


def write_audio_of(experiment, output_dir, nj=1):
    """Write the audio and the spectrograms of all utterances beside a page.

    Spectrograms are pictures: a page that is opened as a file may play what is beside it, but a
    browser does not let it read the samples.

    Returns:
        id -> seconds of the longest signal.
    """
    from espnet_tse_ser.progress import map_progress

    (output_dir / "spectrograms").mkdir(parents=True, exist_ok=True)
    for name, _ in experiment.signals.values():
        (output_dir / "audio" / name).mkdir(parents=True, exist_ok=True)
    items = [
        (utt, {name: table[utt] for name, table in experiment.signals.values()})
        for utt in experiment.ids
    ]
    seconds = map_progress(partial(_write_utterance, output_dir), items, "utterances", nj)
    return dict(zip(experiment.ids, seconds, strict=True))


def _write_utterance(output_dir, item):
    from matplotlib.image import imsave

    from espnet_tse_ser.audio.reading import read_audio, write_audio

    utt, paths = item
    signals = {}
    for name, source in paths.items():
        samples, rate = read_audio(source)
        signals[name] = samples.mean(axis=1), rate
        target = output_dir / "audio" / name / f"{utt}.flac"
        if Path(source).suffix == ".flac":
            shutil.copyfile(source, target)  # a link would let edits of the copy reach the data
        else:
            write_audio(target, *signals[name])
    seconds = max(len(samples) / rate for samples, rate in signals.values())
    pictures = [spectrogram(*signal, seconds) for signal in signals.values()]
    levels = np.concatenate(pictures)
    imsave(
        output_dir / "spectrograms" / f"{utt}.webp",
        np.clip(levels, levels.max() - _RANGE, None),
        cmap="magma",
        pil_kwargs={"quality": 60, "method": 2},
    )
    return round(seconds, 3)


def spectrogram(samples, rate, seconds):
    """The levels of a signal in dB, from 8 kHz down to 0, over the first ``seconds``.

    Args:
        samples: ``(num_samples,)``. rate: in Hz. seconds: silence follows a shorter signal.

    Returns:
        ``(128, num_frames)``.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)
    >>> levels = spectrogram(tone, 16000, 1.0)
    >>> levels.shape, int(levels[:, 10].argmax()), bool(levels[:, 90].max() < -90)
    ((128, 100), 111, True)
    """
    size, step = round(_WINDOW * rate), max(_HOP, seconds / _COLUMNS)
    num_frames = max(1, int(seconds / step))
    padded = np.zeros(int(seconds * rate) + size + 1, np.float32)
    padded[size // 2 : size // 2 + len(samples)] = samples[: len(padded) - size // 2]
    starts = (np.arange(num_frames) * step * rate).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[starts] * np.hanning(size)
    power = np.zeros((num_frames, _BINS))
    found = np.abs(np.fft.rfft(frames))[:, :_BINS] ** 2 / size
    power[:, : found.shape[1]] = found
    pairs = power.reshape(num_frames, _BINS // 2, 2).mean(axis=2)
    return 10 * np.log10(pairs.T[::-1] + 1e-10)


def page_data(experiment, seconds):
    """What the script of the page gets.

    Args:
        seconds: of `write_audio_of`.
    """
    level_of, first = FACTORS["snr_db"], next(iter(experiment.scores.values()))
    made_with = experiment.results["made_with"]
    rows_of = {utt: [[] for _ in experiment.scores] for utt in experiment.ids}
    for number, rows in enumerate(experiment.scores.values()):
        for row in rows:
            rows_of[row["id"]][number].append(row)
    return {
        "labels": experiment.labels,
        "systems": [{"name": m["system"], "label": m["label"]} for m in made_with],
        "signals": [
            {"name": name, "directory": directory}
            for name, (directory, _) in experiment.signals.items()
        ],
        "levels": sorted({level_of.cell(row) for row in first}, key=level_of.order),
        "utterances": [
            _utterance(utt, rows, experiment.labels, seconds[utt]) for utt, rows in rows_of.items()
        ],
    }


def _utterance(utt, systems, labels, seconds):
    """An utterance as a list, which is shorter than a mapping."""
    row = systems[0][0]
    return [
        utt,
        *(row[column] for column in ("fold", "speaker", "gender_state")),
        FACTORS["snr_db"].cell(row),
        row["snr_db"],
        labels.index(row["reference"]),
        row["interferer_emotions"] or "none",
        seconds,
        [_recognised(rows, labels) for rows in systems],
    ]


def _recognised(rows, labels):
    """Hypotheses of all seeds, mean probabilities in 1/1000, and SI-SDRi and whose speech it is of
    the first."""
    known = all(row[f"p_{label}"] for row in rows for label in labels)
    means = [np.mean([float(row[f"p_{label}"]) for row in rows]) for label in labels * known]
    values = [rows[0][column] for column in ("si_sdri", "wrong_speaker")]
    return [
        [labels.index(row["hypothesis"]) for row in rows],
        [round(1000 * mean) for mean in means],
        *(None if math.isnan(value) else round(value, 2) for value in values),
    ]


def documents(experiment, output_dir):
    """The reports of an experiment as HTML, with copies of their pictures beside the page."""
    found = [p for pattern in DOCUMENTS for p in sorted(experiment.directory.glob(pattern))]
    for path in found:
        place = path.parent.relative_to(experiment.directory)
        text = read_text(path)
        for name in re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE):
            for source in (path.parent / name, (path.parent / name).with_suffix(".pdf")):
                if source.is_file():
                    target = output_dir / place / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target.with_suffix(source.suffix))
        yield as_html(text, place.as_posix())


def render(**shown):
    """The text of the page; ``shown``: the variables of the template."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(shown)
