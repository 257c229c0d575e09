"""Rendering the mixtures of a protocol to FLAC, and the data directory of the result."""

from pathlib import Path

import numpy as np

from espnet_tse_ser.data.audio import write_audio
from espnet_tse_ser.data.kaldi_dir import invert, write_table
from espnet_tse_ser.data.mixing import mix, place
from espnet_tse_ser.data.protocol import write_protocol
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import AtomicFiles, is_written
from espnet_tse_ser.progress import progress


def signal_paths(directory, mixture):
    """Paths of the rendered signals of a `Mixture`: ``{"mix": ..., "spk1": ..., "spk2": ...}``."""
    names = ["mix", *(f"spk{i}" for i in range(1, 2 + len(mixture.interferers)))]
    return {n: Path(directory).absolute() / "audio" / n / f"{mixture.mixture}.flac" for n in names}


def render(mixture, targets, interferers):
    """Render one `Mixture`: dict of float32 signals named like `signal_paths`, of one length."""
    target = targets.audio(mixture.target)
    if mixture.tail:
        target = np.pad(target, (0, mixture.tail))
    placed = [
        place(interferers.audio(utt), offset, len(target))
        for utt, offset in zip(mixture.interferers, mixture.offsets, strict=True)
    ]
    mixed, sources = mix(target, placed, mixture.gains_db)
    return {"mix": mixed} | {f"spk{i}": s for i, s in enumerate(sources, 1)}


def enrollment_audio(mixture, targets):
    """The enrollment of a `Mixture`: ``(num_samples,)`` float32."""
    enrollment = np.concatenate([targets.audio(utt) for utt in mixture.enrollment])
    return enrollment[: mixture.enrollment_samples or None]


def simulate(mixtures, targets, interferers, directory, label="simulate"):
    """Render the mixtures that are not there yet.

    Args:
        mixtures: list of `Mixture` (of one job). targets, interferers: `Pool`.
        directory: receives ``audio/{mix,spk1,spk2,...}/<id>.flac``, 16 bit.

    Returns:
        number of mixtures rendered now.
    """
    rendered = 0
    with AtomicFiles() as files:
        for mixture in progress(mixtures, label):
            paths = signal_paths(directory, mixture)
            if all(map(is_written, paths.values())):
                continue
            for name, signal in render(mixture, targets, interferers).items():
                write_audio(paths[name], signal, targets.fs, files)
            rendered += 1
    return rendered


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
    for name, table in scps.items():
        write_table(directory / name, table)
    write_tables(directory, mixtures)
    enrollments = {m.mixture: targets[m.enrollment[0]].wav for m in mixtures}
    write_table(directory / "enroll_spk1.scp", enrollments)
    samples = {m.mixture: targets[m.target].num_samples for m in mixtures}
    write_table(directory / "utt2num_samples", samples)


def write_tables(directory, mixtures):
    """Write everything of a mixture directory that the protocol alone determines."""
    directory = Path(directory)
    utt2spk = {m.mixture: m.speaker for m in mixtures}
    write_table(directory / "utt2spk", utt2spk)
    write_table(directory / "spk2utt", invert(utt2spk))
    write_table(directory / "spk2gender", {m.speaker: m.gender for m in mixtures})
    write_table(directory / "utt2emo", {m.mixture: m.emotion for m in mixtures})
    write_table(directory / "utt2fold", {m.mixture: m.fold for m in mixtures})
    write_table(directory / "utt2category", {m.mixture: m.gender_state for m in mixtures})
    write_protocol(directory / "protocol.tsv", mixtures)
