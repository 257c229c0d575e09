"""Rendering the mixtures of a table, to memory or FLAC, and the data directory of the result."""

from pathlib import Path

import numpy as np

from espnet_tse_ser.audio.kaldi_dir import NOISE, TALKER, invert, write_table
from espnet_tse_ser.audio.reading import as_stored, read_audio, write_audio
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import AtomicFiles, is_written
from espnet_tse_ser.mixtures.mixing import mix, place
from espnet_tse_ser.mixtures.table import read_mixtures, write_mixtures
from espnet_tse_ser.progress import progress

ENROLL = "enroll_spk1"  # an enrollment that is no whole utterance


def signal_names(mixture):
    """Names of the signals in a `Mixture`: the mixture, the target, its sources as they are in it.

    Talkers are ``spk2``, ``spk3``, ..., noise is ``noise1``, ... .
    """
    counts, names = {TALKER: 1, NOISE: 0}, ["mix", "spk1"]
    for source in mixture.sources:
        counts[source.kind] += 1
        names.append(f"{'spk' if source.kind == TALKER else 'noise'}{counts[source.kind]}")
    return names


def signal_paths(directory, mixture):
    """Paths of the rendered signals of a `Mixture`: ``{"mix": ..., "spk1": ..., "spk2": ...}``."""
    names = signal_names(mixture) + [ENROLL] * is_composed(mixture)
    return {n: Path(directory).absolute() / "audio" / n / f"{mixture.mixture}.flac" for n in names}


def render(mixture, targets, sources):
    """Render one `Mixture`: dict of float32 signals, named by `signal_names`, of one length.

    Args:
        targets, sources: `Pool`; sources may be None for a mixture without any.

    Raises:
        UserError: the pool lacks an utterance, or is of another kind of sources.
    """
    target = targets.audio(mixture.target)
    if mixture.tail:
        target = np.pad(target, (0, mixture.tail))
    placed = []
    for source in mixture.sources:
        if sources is None or source.kind != sources.kind:
            raise UserError(
                f"mixture '{mixture.mixture}': its source '{source.utt}' is of the kind "
                f"{source.kind}, the pool is not; give the pool that stage 2 had (--sources)"
            )
        audio = sources.audio(source.utt)
        placed.append(place(audio, source.offset, len(target), source.kind))
    gains = [mixture.gain_db, *(source.gain_db for source in mixture.sources)]
    mixed, scaled = mix(target, placed, gains)
    return dict(zip(signal_names(mixture), [mixed, *scaled], strict=True))


def is_composed(mixture):
    """Whether the enrollment of a `Mixture` is anything else than one whole utterance."""
    return len(mixture.enrollment) > 1 or mixture.enrollment_samples > 0


def enrollment_audio(mixture, targets):
    """The enrollment of a `Mixture` that has one: ``(num_samples,)`` float32."""
    enrollment = np.concatenate([targets.audio(utt) for utt in mixture.enrollment])
    return enrollment[: mixture.enrollment_samples or None]


def simulate(mixtures, targets, sources, directory, label="simulate", other=None):
    """Render the mixtures that are not there yet.

    Args:
        mixtures: list of `Mixture` (of one job). targets, sources: `Pool`, see `render`.
        directory: receives ``audio/{mix,spk1,spk2,...}/<id>.flac``, 16 bit.
        other: directory of another set of mixtures: those that are the same in its table are copied
            from it. The first is rendered all the same, and compared.

    Returns:
        numbers of mixtures rendered and copied now.

    Raises:
        UserError: what was rendered in ``other`` differs.
    """
    known = {m.mixture: m for m in read_mixtures(Path(other) / "mixtures.tsv")} if other else {}
    rendered = copied = 0
    with AtomicFiles() as files:
        for mixture in progress(mixtures, label):
            paths = signal_paths(directory, mixture)
            if all(map(is_written, paths.values())):
                continue
            others = signal_paths(other, mixture) if known.get(mixture.mixture) == mixture else {}
            if others and all(map(is_written, others.values())):
                if not copied:
                    _check_same(mixture, _render_all(mixture, targets, sources), others, targets.fs)
                for name, path in others.items():
                    files.write(paths[name], path.read_bytes())
                copied += 1
                continue
            for name, signal in _render_all(mixture, targets, sources).items():
                write_audio(paths[name], signal, targets.fs, files)
            rendered += 1
    return rendered, copied


def _render_all(mixture, targets, sources):
    signals = render(mixture, targets, sources)
    if is_composed(mixture):
        signals[ENROLL] = enrollment_audio(mixture, targets)
    return signals


def _check_same(mixture, signals, paths, fs):
    for name, path in paths.items():
        if not np.array_equal(read_audio(path)[0][:, 0], as_stored(signals[name], fs)):
            raise UserError(
                f"{path}: is not what the row of '{mixture.mixture}' gives now; speech or noise "
                "has changed since: remove that set of mixtures and render it again"
            )


def write_mixture_dir(directory, mixtures, targets):
    """Write the data directory of rendered mixtures.

    Raises:
        UserError: a signal has not been rendered.
    """
    directory = Path(directory)
    scps = {}
    for mixture in mixtures:
        for name, path in signal_paths(directory, mixture).items():
            if not is_written(path):
                raise UserError(f"{path}: not rendered; run stage 4 (simulate) again")
            scp = "wav.scp" if name == "mix" else f"{name}.scp"
            scps.setdefault(scp, {})[mixture.mixture] = path
        if mixture.enrollment and not is_composed(mixture):
            whole = targets[mixture.enrollment[0]].wav
            scps.setdefault(f"{ENROLL}.scp", {})[mixture.mixture] = whole
    for name, table in scps.items():
        write_table(directory / name, table)
    write_tables(directory, mixtures)
    samples = {m.mixture: targets[m.target].num_samples + m.tail for m in mixtures}
    write_table(directory / "utt2num_samples", samples)


def write_tables(directory, mixtures):
    """Write everything of a mixture directory that its table alone determines."""
    directory = Path(directory)
    utt2spk = {m.mixture: m.speaker for m in mixtures}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "spk2gender", {m.speaker: m.gender for m in mixtures})
    write_table(directory / "utt2emo", {m.mixture: m.emotion for m in mixtures})
    write_table(directory / "utt2fold", {m.mixture: m.fold for m in mixtures})
    write_table(directory / "utt2category", {m.mixture: m.gender_state for m in mixtures})
    write_mixtures(directory / "mixtures.tsv", mixtures)
