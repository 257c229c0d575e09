"""Formatting of a clean data directory: mono audio of one rate, lengths and loudness."""

import functools
import itertools
import logging
import os
from pathlib import Path

from espnet_tse_ser.audio.amplitudes import TooQuiet, check_not_silent
from espnet_tse_ser.audio.ark import split_place
from espnet_tse_ser.audio.kaldi_dir import (
    GROUP_TABLES,
    NOISE,
    TALKER,
    invert,
    read_groups,
    read_optional_table,
    read_table,
    write_table,
)
from espnet_tse_ser.audio.loudness import measure_loudness
from espnet_tse_ser.audio.reading import mix_down, read_audio, resample, write_audio
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import AtomicFiles, find_files, read_tsv, write_tsv
from espnet_tse_ser.progress import progress
from espnet_tse_ser.values.ids import check_id
from espnet_tse_ser.values.numbers import Number

logger = logging.getLogger(__name__)

SAVE_EVERY = 500  # utterances between two writes of a part, the most that a killed job repeats
MAX_PEAK = 0.99  # resampling may overshoot full scale; such utterances are scaled to this peak

_SECONDS = Number()
_COLUMNS = ["utt", "source", "wav", "state", "num_samples", "lufs"]


def format_part(data_dir, output_dir, fs=16000, min_duration=0.5, job=1, num_jobs=1):
    """Format the utterances ``[job - 1 :: num_jobs]`` of a data directory.

    Audio that already is a whole mono file of rate ``fs`` stays where it is; other audio goes to
    ``output_dir/audio/<utt>.flac``. The measured length and loudness go to
    ``output_dir/parts/<job>of<num_jobs>.tsv``. Utterances found in any part with an unchanged
    source are not done again, whatever ``num_jobs`` was.

    Args:
        data_dir: Kaldi directory with ``wav.scp``, ``utt2spk`` (of noise ``utt2group``) and
            optionally ``segments``.
        output_dir: directory to write.
        fs: sampling rate in Hz.
        min_duration: seconds; shorter utterances are dropped.
        job, num_jobs: this job, counted from 1, and the number of jobs.

    Raises:
        UserError: audio is missing, unreadable, empty, silent or holds NaN; a segment lies
            outside its recording; an utterance is too short or too quiet for a loudness. Noise
            that is silent or too quiet, as pieces of long recordings may be, is dropped.
    """
    if not 1 <= job <= num_jobs:
        raise UserError(f"--job {job} --nj {num_jobs}: the job must lie in 1 to nj")
    output_dir = Path(output_dir)
    sources, kind = _read_sources(data_dir), read_groups(data_dir)[0]
    utts = sorted(sources)[job - 1 :: num_jobs]
    part = output_dir / "parts" / f"{job}of{num_jobs}.tsv"
    known = _read_parts(output_dir)
    stamps = {utt: _stamp(utt, sources[utt], fs, min_duration) for utt in utts}
    rows = [known[utt, stamps[utt]] for utt in utts if (utt, stamps[utt]) in known]
    todo = [utt for utt in utts if (utt, stamps[utt]) not in known]
    read = functools.lru_cache(maxsize=1)(read_audio)  # segments of one recording come in a row
    left = iter(progress(todo, f"format {data_dir} {job}/{num_jobs}"))
    formatted = True
    while formatted:
        with AtomicFiles() as files:
            formatted = [
                (utt, *_format(utt, sources[utt], kind, read, output_dir, fs, min_duration, files))
                for utt in itertools.islice(left, SAVE_EVERY)
            ]
        for utt, wav, num_samples, lufs in formatted:
            values = (utt, stamps[utt], wav, _file_state(wav), str(num_samples), lufs)
            rows.append(dict(zip(_COLUMNS, values, strict=True)))
        write_tsv(part, rows, _COLUMNS)


def combine_parts(data_dir, output_dir, fs=16000, min_duration=0.5):
    """Combine the parts of all jobs into a formatted data directory; ``wav.scp`` comes last.

    Files: ``wav.scp utt2num_samples utt2lufs``, ``utt2spk spk2utt spk2gender`` of talkers,
    ``utt2group`` of noise and, where ``data_dir`` has them, ``utt2emo`` and ``utt2fold``. The
    dropped utterances are logged.

    Raises:
        UserError: an utterance is in no part, or none is left.
    """
    data_dir, output_dir = Path(data_dir), Path(output_dir)
    known = _read_parts(output_dir)
    rows, missing = [], []
    for utt, source in _read_sources(data_dir).items():
        stamp = _stamp(utt, source, fs, min_duration)
        if (utt, stamp) in known:
            rows.append(known[utt, stamp])
        else:
            missing.append(utt)
    if missing:
        raise UserError(
            f"{output_dir / 'parts'}: {len(missing)} utterances are not formatted yet, the first "
            f"is '{missing[0]}'; run the jobs that failed again with the same --fs and "
            "--min_duration, then --combine"
        )
    dropped = {}
    for row in rows:
        if not row["wav"]:
            is_short = int(row["num_samples"]) < min_duration * fs
            why = f"shorter than {min_duration:g} s" if is_short else "too quiet for a loudness"
            dropped.setdefault(why, []).append(row["utt"])
    kept = {row["utt"]: row for row in rows if row["wav"]}
    if not kept:
        raise UserError(f"{data_dir}: every utterance is {' or '.join(dropped)}")
    for why, utts in dropped.items():
        logger.warning(
            "%s: dropped %d of %d utterances %s: %s",
            *(data_dir, len(utts), len(rows), why, " ".join(utts)),
        )
    kind, table_of_groups, _ = read_groups(data_dir)
    groups = _select(data_dir / table_of_groups, kept)
    tables = dict.fromkeys([*GROUP_TABLES.values(), "spk2utt", "spk2gender", "utt2emo", "utt2fold"])
    tables[table_of_groups] = groups
    if kind == TALKER:
        tables["spk2utt"] = invert(groups)
        tables["spk2gender"] = _select(data_dir / "spk2gender", set(groups.values()))
    for name in ("utt2emo", "utt2fold"):
        if os.path.lexists(data_dir / name):
            tables[name] = _select(data_dir / name, kept)
    for name, table in tables.items():
        if table is None:
            (output_dir / name).unlink(missing_ok=True)
        else:
            write_table(output_dir / name, table)
    for name in ("num_samples", "lufs"):
        write_table(output_dir / f"utt2{name}", {utt: row[name] for utt, row in kept.items()})
    write_table(output_dir / "wav.scp", {utt: row["wav"] for utt, row in kept.items()})
    hours = sum(int(row["num_samples"]) for row in kept.values()) / fs / 3600
    what = "speakers" if kind == TALKER else "recordings of noise"
    count = len(set(groups.values()))
    logger.info("%s: %d utterances, %d %s, %.2f h", output_dir, len(kept), count, what, hours)


def _read_sources(data_dir):
    """Source of every utterance: its path, or (path, start, end) with segments in seconds."""
    data_dir = Path(data_dir)
    wavs = read_table(data_dir / "wav.scp")
    _, table_of_groups, groups = read_groups(data_dir)
    sources = {utt: (wav, None, None) for utt, wav in wavs.items()}
    segments = read_optional_table(data_dir / "segments")
    if segments is not None:
        sources = {
            utt: _parse_segment(data_dir / "segments", utt, line, wavs)
            for utt, line in segments.items()
        }
    for one, other, name in ((sources, groups, table_of_groups), (groups, sources, "wav.scp")):
        lacking = sorted(one.keys() - other.keys())
        if lacking:
            raise UserError(
                f"{data_dir}: {len(lacking)} utterances, such as '{lacking[0]}', are not in "
                f"{name} (or segments); run the data preparation again"
            )
    return sources


def _parse_segment(path, utt, line, wavs):
    try:
        recording, start, end = line.split()
        start, end = _SECONDS(start), _SECONDS(end)
    except ValueError:
        raise UserError(f"{path}: '{utt}': expected 'recording start end', got '{line}'") from None
    if recording not in wavs:
        raise UserError(f"{path}: '{utt}': recording '{recording}' is not in wav.scp")
    if not 0 <= start < end:
        raise UserError(f"{path}: '{utt}': need 0 <= start < end, got {start} and {end}")
    return wavs[recording], start, end


def _select(path, ids):
    """The lines of a Kaldi file for ``ids``; one that is not there is a `UserError`."""
    table = read_table(path)
    lacking = sorted(key for key in ids if key not in table)
    if lacking:
        raise UserError(f"{path}: has no line for '{lacking[0]}'; run the data preparation again")
    return {key: table[key] for key in ids}


def _stamp(utt, source, fs, min_duration):
    """A text that changes whenever the source file or the wanted format does."""
    wav, start, end = source
    path = split_place(wav)[0]
    state = _file_state(path)
    if not state:
        raise UserError(
            f"'{utt}': {wav}: no such audio file; run the data preparation again or fetch it"
        )
    return f"{wav} {start} {end} {state} {fs} {min_duration}"


def _file_state(path):
    """Size and time of change of a file, or '' when there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return ""
    return f"{stat.st_size}/{stat.st_mtime_ns}"


def _read_parts(output_dir):
    """Rows of all parts by (utterance, source), less those whose audio is gone or another."""
    rows = {}
    for path in find_files(output_dir / "parts", "*of*.tsv"):
        for row in read_tsv(path, _COLUMNS, {"utt": check_id}):
            if row["state"] == _file_state(row["wav"]):
                rows[row["utt"], row["source"]] = row
    return rows


def _format(utt, source, kind, read, output_dir, fs, min_duration, files):
    """Format one utterance; return its path ('' when dropped), length and loudness as text."""
    wav, start, end = source
    try:
        samples, rate = read(wav)
        as_wanted = rate == fs and samples.shape[1] == 1
        in_place = as_wanted and start is None and split_place(wav)[1] is None
        if start is not None:
            # Kaldi's segments are rounded to milliseconds: allow for that at the end
            if end > len(samples) / rate + 0.01:
                raise UserError(
                    f"{wav}: segment ends at {end} s but the recording at "
                    f"{len(samples) / rate:.3f} s; fetch it again or run the data preparation again"
                )
            samples = samples[round(start * rate) : round(end * rate)]
        mono = mix_down(samples, wav)
        samples = resample(mono, rate, fs)
        if len(samples) < min_duration * fs:
            return "", len(samples), ""
        check_not_silent(mono, wav)  # resampling gives a constant edges
        peak = float(abs(samples).max())
        if not in_place and peak > 1.0:
            logger.info("%s: peak %.3f after resampling, scaled to %.2f", utt, peak, MAX_PEAK)
            samples = samples * (MAX_PEAK / peak)
        lufs = measure_loudness(samples, fs)
    except UserError as error:
        if kind == NOISE and isinstance(error, TooQuiet):
            return "", len(samples), ""
        raise UserError(f"utterance '{utt}': {error}") from None
    if not in_place:
        wav = os.path.abspath(output_dir / "audio" / f"{utt}.flac")
        write_audio(wav, samples, fs, files)
    return wav, len(samples), f"{lufs:.4f}"
