"""A pool of utterances: a formatted data directory with its speakers, levels and audio."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_tse_ser.data.audio import read_mono
from espnet_tse_ser.data.decoded import CACHE_BYTES, DecodedAudio
from espnet_tse_ser.data.kaldi_dir import read_optional_table, read_table
from espnet_tse_ser.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One utterance of a pool; ``lufs`` is its integrated loudness in dB LUFS."""

    utt: str
    wav: str
    speaker: str
    gender: str
    num_samples: int
    lufs: float
    emotion: str | None = None
    fold: str | None = None


class Pool:
    """Utterances of one formatted data directory, in the order of their ids.

    Audio is decoded once and kept as 16-bit integers in at most ``cache_bytes`` of memory.
    Utterances that do not fit are decoded each time. Processes that are given a pool after `share`
    have that memory in common.
    """

    def __init__(self, entries, fs=16000, cache_bytes=CACHE_BYTES):
        self.entries = {e.utt: e for e in sorted(entries, key=lambda e: e.utt)}
        self.fs, self.cache_bytes = fs, cache_bytes
        self._cache = None  # made when it is first needed: the audio of many pools is never read
        self.by_speaker = defaultdict(list)
        for entry in self.entries.values():
            self.by_speaker[entry.speaker].append(entry.utt)
        self.gender = {e.speaker: e.gender for e in self.entries.values()}

    @classmethod
    def read(cls, directory, fs=16000, cache_bytes=CACHE_BYTES):
        """Read ``directory`` as stage 1 writes it.

        Raises:
            UserError: a file is missing, or an id of ``wav.scp`` is missing in another file.
        """
        directory = Path(directory)
        wavs = read_table(directory / "wav.scp")
        tables = {n: read_table(directory / n) for n in ("utt2spk", "utt2num_samples", "utt2lufs")}
        genders = read_table(directory / "spk2gender")
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
            speaker = tables["utt2spk"][utt]
            if genders.get(speaker) not in ("m", "f"):
                raise UserError(
                    f"{directory / 'spk2gender'}: speaker '{speaker}' has gender "
                    f"'{genders.get(speaker)}', expected m or f"
                )
            entries.append(
                Entry(
                    utt,
                    wav,
                    speaker,
                    genders[speaker],
                    int(tables["utt2num_samples"][utt]),
                    float(tables["utt2lufs"][utt]),
                    tables["utt2emo"][utt] if tables["utt2emo"] else None,
                    tables["utt2fold"][utt] if tables["utt2fold"] else None,
                )
            )
        return cls(entries, fs, cache_bytes)

    def __len__(self):
        return len(self.entries)

    @property
    def seconds(self):
        """Speech in all utterances, in seconds."""
        return sum(e.num_samples for e in self.entries.values()) / self.fs

    def __getitem__(self, utt):
        if utt not in self.entries:
            raise UserError(f"utterance '{utt}' is not in the pool; run stages 1 and 2 again")
        return self.entries[utt]

    def with_folds(self, fold_of):
        """The pool with other folds, given as speaker -> fold; it has its own cache."""
        entries = [replace(e, fold=fold_of[e.speaker]) for e in self.entries.values()]
        return Pool(entries, self.fs, self.cache_bytes)

    def subset(self, keep, cache_bytes=None):
        """The pool of the entries for which ``keep(entry)`` is true; it has its own cache."""
        cache_bytes = self.cache_bytes if cache_bytes is None else cache_bytes
        return Pool([e for e in self.entries.values() if keep(e)], self.fs, cache_bytes)

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
            whole = read_mono(self[utt].wav, self.fs)
            if len(whole) != self.entries[utt].num_samples:
                raise UserError(
                    f"{self.entries[utt].wav}: {len(whole)} samples, but utt2num_samples says "
                    f"{self.entries[utt].num_samples} for '{utt}'; run stage 1 again"
                )
            self._cache.put(utt, whole)
            samples = whole[start:stop]
        return samples
