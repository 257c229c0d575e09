"""Features of a frozen front-end on disk: computed once a signal, for every fold, epoch and system.

A cache is a directory::

    frontend.json     the front-end, the checksum of its weights, and the precision
    index.tsv         of each id: checksum of its audio, samples, frames, seconds it took, its place
    feats.scp         id -> archive:offset; who can read these is said in data.ark.write_array
    shards/<front-end>/<name>.ark, .tsv    archives, and an index of each

`compute` writes shards, each of which is there whole or not at all, and `combine` the rest. An
entry holds for one signal and one front-end: what was made of another is never read, and is removed
by `combine`. The archives stay where the jobs wrote them, so that no feature is copied.
"""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.audio.ark import open_file, read_array, split_place, write_array
from espnet_tse_ser.audio.id_list import select
from espnet_tse_ser.audio.kaldi_dir import write_table
from espnet_tse_ser.audio.reading import read_audio, read_mono
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import (
    atomic_path,
    find_files,
    read_json,
    read_tsv,
    write_json,
    write_tsv,
)
from espnet_tse_ser.progress import progress
from espnet_tse_ser.recognise.frozen import check_frozen
from espnet_tse_ser.values.ids import check_id

logger = logging.getLogger(__name__)

VERSION = 2  # to be raised when SSLFrontend gives other features for the same weights
DTYPES = ("float32", "float16")
SHARD_UTTERANCES, SHARD_BYTES = 64, 64 * 2**20  # of one shard at most; what an interruption loses

_COLUMNS = ["id", "signal", "samples", "frames", "seconds", "offset", "end"]


@dataclass(frozen=True)
class Entry:
    """The features of one utterance.

    ``signal`` is the checksum of its audio, of ``samples``; ``frames`` are in ``ark`` from byte
    ``offset`` to ``end`` and took ``seconds`` to compute.
    """

    id: str
    signal: str
    samples: int
    frames: int
    seconds: float
    offset: int
    end: int
    ark: Path


class FeatureCache:
    """Features that `combine` has put together.

    Raises:
        UserError: the directory is no cache, or is damaged.
    """

    def __init__(self, directory):
        self.directory = Path(directory)
        if not (self.directory / "index.tsv").is_file():
            raise UserError(f"{directory}: holds no features (index.tsv); run stage 9")
        self.frontend = read_json(self.directory / "frontend.json")
        entries = _read_index(self.directory / "index.tsv", lambda row: self.directory / row["ark"])
        self.entries = {entry.id: entry for entry in entries}

    def check(self, wavs):
        """Check that there are whole features of these very signals.

        Args:
            wavs: dict id -> audio file (or ``file.ark:offset``).

        Raises:
            UserError: an id is missing, its audio has changed, or its archive is cut short.
        """
        entries = select(self.entries, wavs, self.directory / "index.tsv")
        sizes = {ark: _size(ark) for ark in {entry.ark for entry in entries.values()}}
        for entry in entries.values():
            if sizes[entry.ark] < entry.end:
                raise UserError(
                    f"{entry.ark}: the features of '{entry.id}' are missing or cut short (it has "
                    f"{sizes[entry.ark]} bytes of {entry.end}); {self._remedy()}"
                )
        changed = [i for i, path in wavs.items() if checksum(path) != entries[i].signal]
        if changed:
            raise UserError(
                f"{self.directory}: the audio of {len(changed)} of {len(wavs)} id(s) has changed "
                f"since its features were computed, first '{changed[0]}' ({wavs[changed[0]]}); "
                + self._remedy()
            )

    def check_frontend(self, frontend):
        """Raise `UserError` unless the features are those of ``frontend``, weights included."""
        asked = describe(frontend)
        for name, value in asked.items():
            if value != self.frontend.get(name):
                raise UserError(
                    f"{self.directory}: was computed with another front-end than the model's: "
                    f"{name} is {_shortened(self.frontend.get(name))}, the model has "
                    f"{_shortened(value)}; give the features of the model's configuration, or "
                    + self._remedy()
                )

    def place(self, utt):
        """``archive:offset`` of an utterance."""
        return _place(self.entries[utt])

    def load(self, utt):
        """Features ``(frames, size)`` float32 of one utterance.

        Raises:
            UserError: they cannot be read.
        """
        entry, size = self.entries[utt], self.frontend["size"]
        try:
            feats = read_array(_place(entry))
        except UserError as error:
            raise UserError(f"features of '{utt}': {error}: {self._remedy()}") from None
        if feats.shape != (entry.frames, size) or not np.isfinite(feats).all():
            raise UserError(
                f"{_place(entry)}: features of '{utt}' have the shape {feats.shape}, expected "
                f"{(entry.frames, size)}, or are not finite; {self._remedy()}"
            )
        return feats

    def _remedy(self):
        return f"remove {self.directory / '.done'} and run stage 9: it computes what has changed"


def describe(frontend):
    """What the features of a front-end depend on.

    Args:
        frontend: `SSLFrontend`, frozen.

    Returns:
        dict ``version``, ``architecture``, ``layer``, ``fixed_samples``, ``size``, ``weights``
        (their checksum), for JSON.

    Raises:
        UserError: its features change in training, or need none of this.
    """
    kind = "ssl" if hasattr(frontend, "architecture") else type(frontend).__name__
    config = {"finetune": kind == "ssl" and frontend.finetune}
    config |= {"layer": frontend.layer if kind == "ssl" else None}
    check_frozen({"frontend": kind, "frontend_conf": config})
    digest = hashlib.sha256()
    for name, tensor in sorted(frontend.ssl.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    description = {
        "version": VERSION,
        "architecture": frontend.architecture,
        "layer": frontend.layer,
        "fixed_samples": frontend.fixed_samples,
        "size": frontend.output_size(),
        "weights": digest.hexdigest(),
    }
    return json.loads(json.dumps(description))  # as it is read again: lists, no tuples


def checksum(path):
    """SHA-256 of an audio file's bytes, or of the samples of ``file.ark:offset``."""
    if split_place(path)[1] is not None:
        samples, rate = read_audio(path)
        return hashlib.sha256(f"{rate} {samples.shape}\n".encode() + samples.tobytes()).hexdigest()
    with open(open_file(path)[0], "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def compute(directory, frontend, wavs, fs, dtype, label="features"):
    """Write the features that are not there yet, in shards.

    Each utterance is computed by itself, so that neither the jobs nor what is there already changes
    its features.

    Args:
        directory: the cache. frontend: `SSLFrontend`, frozen.
        wavs: dict id -> audio file. fs: their rate in Hz. dtype: one of `DTYPES`.
        label: what the progress is reported as.

    Returns:
        the new `Entry`s.

    Raises:
        UserError: an unusable file, or features that float16 cannot hold.
    """
    shards = _shards(directory, describe(frontend) | {"dtype": dtype})
    signals = {utt: checksum(path) for utt, path in wavs.items()}
    there = _whole_entries(shards)
    todo = [utt for utt in wavs if (utt, signals[utt]) not in there]
    frontend = frontend.eval()
    written, waiting, waiting_bytes = [], [], 0
    for utt in progress(todo, label):
        speech = read_mono(wavs[utt], fs)
        start = time.perf_counter()
        feats = _features(frontend, speech)
        seconds = time.perf_counter() - start
        with np.errstate(over="ignore"):
            feats = feats.astype(dtype)
        if not np.isfinite(feats).all():
            raise UserError(
                f"'{utt}' ({wavs[utt]}): the front-end gives features that {dtype} cannot hold"
                + ("; use float32" if dtype == "float16" else "; are its weights damaged?")
            )
        waiting.append((utt, signals[utt], len(speech), seconds, feats))
        waiting_bytes += feats.nbytes
        if len(waiting) == SHARD_UTTERANCES or waiting_bytes >= SHARD_BYTES:
            written += _write_shard(shards, waiting)
            waiting, waiting_bytes = [], 0
    if waiting:
        written += _write_shard(shards, waiting)
    return written


def combine(directory, frontend, wavs, dtype):
    """Write the index of a cache whose shards are complete, and remove what is of no use any more.

    Args: as in `compute`.

    Returns:
        list of `Entry`, one for each of ``wavs``.

    Raises:
        UserError: an utterance has not been computed.
    """
    directory, description = Path(directory), describe(frontend) | {"dtype": dtype}
    shards = _shards(directory, description)
    there = _whole_entries(shards)
    entries = {utt: there.get((utt, checksum(path))) for utt, path in wavs.items()}
    missing = [utt for utt, entry in entries.items() if entry is None]
    if missing:
        raise UserError(
            f"{directory}: the features of {len(missing)} of {len(wavs)} id(s) are not computed, "
            f"first '{missing[0]}'; run stage 9 again"
        )
    # Without its index it is no cache, whatever happens while the rest is replaced.
    (directory / "index.tsv").unlink(missing_ok=True)
    write_json(directory / "frontend.json", description)
    write_table(directory / "feats.scp", {utt: _place(entry) for utt, entry in entries.items()})
    rows = [
        _row(entry) | {"ark": entry.ark.relative_to(directory)}
        for _, entry in sorted(entries.items())
    ]
    write_tsv(directory / "index.tsv", rows, [*_COLUMNS, "ark"])
    _remove_useless(directory, shards, {entry.ark for entry in entries.values()})
    return list(entries.values())


@torch.no_grad()
def _features(frontend, speech):
    """Features ``(frames, size)`` float32 of ``(num_samples,)``."""
    device = next(frontend.parameters()).device
    speech = torch.from_numpy(speech)[None].to(device)
    feats, num_frames = frontend(speech, torch.tensor([speech.shape[1]], device=device))
    return feats[0, : int(num_frames[0])].cpu().numpy()


def _shards(directory, description):
    text = json.dumps(description, sort_keys=True)
    return Path(directory) / "shards" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_shard(shards, utterances):
    """Write an archive, then its index; the name tells what is in it."""
    text = "".join(f"{utt} {signal}\n" for utt, signal, *_ in utterances)
    ark = shards / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.ark"
    entries = []
    with atomic_path(ark) as temporary, open(temporary, "wb") as stream:
        for utt, signal, samples, seconds, feats in utterances:
            offset = write_array(stream, utt, feats)
            place = {"offset": offset, "end": stream.tell(), "ark": ark}
            entries.append(Entry(utt, signal, samples, len(feats), seconds, **place))
    write_tsv(ark.with_suffix(".tsv"), [_row(entry) for entry in entries], _COLUMNS)
    return entries


def _whole_entries(shards):
    """dict (id, signal) -> `Entry` of all shards, without those beyond an archive's end."""
    entries = {}
    for index in find_files(shards, "*.tsv"):
        ark = index.with_suffix(".ark")
        size = _size(ark)
        found = _read_index(index, lambda row, ark=ark: ark)
        entries |= {(e.id, e.signal): e for e in found if e.end <= size}
    return entries


def _read_index(path, ark_of):
    rows = read_tsv(path, _COLUMNS, {"id": check_id})
    try:
        return [
            Entry(
                id=row["id"],
                signal=row["signal"],
                samples=int(row["samples"]),
                frames=int(row["frames"]),
                seconds=float(row["seconds"]),
                offset=int(row["offset"]),
                end=int(row["end"]),
                ark=ark_of(row),
            )
            for row in rows
        ]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is damaged ({error}); remove it and run stage 9") from None


def _row(entry):
    row = {name: getattr(entry, name) for name in _COLUMNS}
    return row | {"seconds": f"{entry.seconds:.4f}"}


def _place(entry):
    return f"{entry.ark.absolute()}:{entry.offset}"


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _remove_useless(directory, shards, used):
    for other in find_files(directory / "shards", "*"):
        if other != shards:
            shutil.rmtree(other)
    for ark in shards.glob("*.ark"):
        if ark not in used:
            ark.with_suffix(".tsv").unlink(missing_ok=True)
            ark.unlink()
    for left in shards.glob(".tmp.*"):  # of jobs that were killed
        left.unlink()


def _shortened(value):
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
