"""A pool of recordings, talkers or noise: a formatted data directory with its audio."""

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_tse_ser.audio.decoded import CACHE_BYTES, DecodedAudio
from espnet_tse_ser.audio.kaldi_dir import TALKER, read_groups, read_optional_table, read_table
from espnet_tse_ser.audio.reading import read_mono
from espnet_tse_ser.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One recording of a pool; ``lufs`` is its integrated loudness in dB LUFS.

    ``group`` is what no fold divides: the speaker of a talker, the original recording of noise.
    A piece of a file begins at its sample ``start``; the file has ``of`` samples and the loudness.
    """

    utt: str
    wav: str
    group: str
    gender: str | None  # of a talker
    num_samples: int
    lufs: float
    emotion: str | None = None
    fold: str | None = None
    kind: str = TALKER
    start: int = 0
    of: int | None = None

    @property
    def speaker(self):
        """The group of a talker."""
        return self.group


class Pool:
    """Recordings of one formatted data directory, all of one kind, in the order of their ids.

    Audio is decoded once and kept as 16-bit integers in at most ``cache_bytes`` of memory.
    Utterances that do not fit are decoded each time. Processes that are given a pool after `share`
    have that memory in common.
    """

    def __init__(self, entries, fs=16000, cache_bytes=CACHE_BYTES, name="the pool"):
        self.entries = {e.utt: e for e in sorted(entries, key=lambda e: e.utt)}
        self.fs, self.cache_bytes, self.name = fs, cache_bytes, name
        self._cache = None  # made when it is first needed: the audio of many pools is never read
        self.by_group = defaultdict(list)
        for entry in self.entries.values():
            self.by_group[entry.group].append(entry.utt)
        self.gender = {e.group: e.gender for e in self.entries.values()}

    @classmethod
    def read(cls, directory, fs=16000, cache_bytes=CACHE_BYTES):
        """Read ``directory`` as stage 1 writes it.

        Raises:
            UserError: a file is missing, or an id of ``wav.scp`` is missing in another file.
        """
        directory = Path(directory)
        wavs = read_table(directory / "wav.scp")
        kind, name, groups = read_groups(directory)
        tables = {name: groups}
        tables |= {n: read_table(directory / n) for n in ("utt2num_samples", "utt2lufs")}
        genders = read_table(directory / "spk2gender") if kind == TALKER else {}
        for name in ("utt2emo", "utt2fold"):
            tables[name] = read_optional_table(directory / name)
        for name, table in tables.items():
            missing = sorted(set(wavs) - set(table)) if table is not None else []
            if missing:
                raise UserError(
                    f"{directory / name}: {len(missing)} id(s) of wav.scp are missing, first "
                    f"'{missing[0]}'; run stage 1 again"
                )
        entries = []
        for utt, wav in wavs.items():
            group = groups[utt]
            if kind == TALKER and genders.get(group) not in ("m", "f"):
                raise UserError(
                    f"{directory / 'spk2gender'}: speaker '{group}' has gender "
                    f"'{genders.get(group)}', expected m or f"
                )
            entries.append(
                Entry(
                    utt,
                    wav,
                    group,
                    genders.get(group),
                    int(tables["utt2num_samples"][utt]),
                    float(tables["utt2lufs"][utt]),
                    tables["utt2emo"][utt] if tables["utt2emo"] else None,
                    tables["utt2fold"][utt] if tables["utt2fold"] else None,
                    kind,
                )
            )
        return cls(entries, fs, cache_bytes, str(directory))

    @classmethod
    def read_sources(cls, directory, directory_of_targets, targets):
        """The pool in ``directory``: ``targets`` where it is theirs, None without a directory."""
        if directory is None:
            return None
        if os.path.realpath(directory) == os.path.realpath(directory_of_targets):
            return targets
        return cls.read(directory, targets.fs)

    def __len__(self):
        return len(self.entries)

    @property
    def kind(self):
        """The kind of its recordings, as sources: "talker" or "noise"."""
        return next((e.kind for e in self.entries.values()), TALKER)

    @property
    def seconds(self):
        """Length of all recordings together, in seconds."""
        return sum(e.num_samples for e in self.entries.values()) / self.fs

    def __getitem__(self, utt):
        if utt not in self.entries:
            raise UserError(f"{self.name}: has no utterance '{utt}'; run stages 1 and 2 again")
        return self.entries[utt]

    def with_folds(self, fold_of):
        """The pool with other folds, given as group -> fold; it has its own cache."""
        entries = [replace(e, fold=fold_of[e.group]) for e in self.entries.values()]
        return Pool(entries, self.fs, self.cache_bytes, self.name)

    def subset(self, keep, cache_bytes=None):
        """The pool of the entries for which ``keep(entry)`` is true; it has its own cache."""
        cache_bytes = self.cache_bytes if cache_bytes is None else cache_bytes
        kept = [e for e in self.entries.values() if keep(e)]
        return Pool(kept, self.fs, cache_bytes, self.name)

    def halved(self, least):
        """The pool in which a group of one recording has its halves instead; it has its own cache.

        So one half can be in a mixture and the other one enroll who speaks.

        Args:
            least: samples that a half has at least; what is shorter stays whole.

        Raises:
            UserError: an utterance has the id that a half would have, ``<id>_1`` or ``<id>_2``.
        """
        entries = []
        for entry in self.entries.values():
            half = entry.num_samples // 2
            if len(self.by_group[entry.group]) > 1 or half < least:
                entries.append(entry)
                continue
            for number, start in ((1, 0), (2, half)):
                piece = {"start": start, "num_samples": half, "of": entry.num_samples}
                name = f"{entry.utt}_{number}"
                if name in self.entries:
                    raise UserError(
                        f"{self.name}: half of '{entry.utt}', the only utterance of "
                        f"'{entry.group}', would be called '{name}', which there is already; "
                        "rename one of them"
                    )
                entries.append(replace(entry, utt=name, **piece))
        return Pool(entries, self.fs, self.cache_bytes, self.name)

    def joined(self, other):
        """The pool of the entries of both, of one kind; it has its own cache.

        Raises:
            UserError: an utterance or a group is in both.
        """
        for what, attribute in (("utterance", "entries"), ("group", "by_group")):
            shared = sorted(set(getattr(self, attribute)) & set(getattr(other, attribute)))
            if shared:
                raise UserError(
                    f"{what} '{shared[0]}' is in {self.name} and in {other.name}, and so are "
                    f"{len(shared) - 1} more; keep one of them"
                )
        entries = [*self.entries.values(), *other.entries.values()]
        return Pool(entries, self.fs, self.cache_bytes, f"{self.name} and {other.name}")

    def share(self):
        """Keep what is decoded from now on where processes find it that get this pool later."""
        if self._cache is None:
            lengths = {e.utt: e.num_samples for e in self.entries.values()}
            self._cache = DecodedAudio(lengths, self.cache_bytes)

    def audio(self, utt, start=0, num_samples=None):
        """Samples ``(num_samples,)`` float32 of ``utt`` from sample ``start`` on."""
        stop = None if num_samples is None else start + num_samples
        self.share()
        samples = self._cache.get(utt, start, stop)
        if samples is None:
            try:
                whole = read_mono(self[utt].wav, self.fs)
            except UserError as error:
                raise UserError(f"{error} ('{utt}' of {self.name})") from None
            entry = self.entries[utt]
            expected = entry.num_samples if entry.of is None else entry.of
            if len(whole) != expected:
                raise UserError(
                    f"{entry.wav}: {len(whole)} samples, but utt2num_samples says "
                    f"{expected} for '{utt}'; run stage 1 again"
                )
            whole = whole[entry.start : entry.start + entry.num_samples]
            self._cache.put(utt, whole)
            samples = whole[start:stop]
        return samples
