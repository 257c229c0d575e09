"""Audio that is decoded once: kept in memory that processes share."""

import collections.abc
import mmap
import os
import weakref
from multiprocessing.reduction import DupFd

import numpy as np

from espnet_tse_ser.audio.reading import to_int16

CACHE_BYTES = 2**30  # of decoded audio that is kept, if nothing else is said


class DecodedAudio:
    """Decoded audio as 16-bit integers, in memory that a process shares with those that it starts.

    What one of them decodes is there for all, also for the workers of later epochs. Every
    utterance has a place of its own from the start, so that nothing has to be agreed on: two
    processes that decode the same one write the same.

    Args:
        lengths: id -> samples; those are kept that fit, in this order. cache_bytes: in all.
    """

    def __init__(self, lengths, cache_bytes=CACHE_BYTES):
        self.lengths, self.places, size = lengths, {}, 0
        for utt, num_samples in lengths.items():
            if size + 2 * num_samples <= cache_bytes:
                self.places[utt] = (len(self.places), size // 2)
                size += 2 * num_samples
        # Not in /dev/shm, which may be small; the kernel gives memory only to what is written.
        descriptor = os.memfd_create("decoded")
        os.truncate(descriptor, size + len(self.places) + 1)  # no memory has no bytes
        self._map(descriptor)

    def _map(self, descriptor):
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        memory = np.frombuffer(mmap.mmap(descriptor, 0), np.uint8)
        size = len(memory) - len(self.places) - 1
        self.samples, self.filled = memory[:size].view(np.int16), memory[size:]

    def __getstate__(self):
        """For a process that is started."""
        return self.lengths, self.places, DupFd(self._descriptor)

    def __setstate__(self, state):
        self.lengths, self.places, descriptor = state
        self._map(descriptor.detach())

    def get(self, utt, start=0, stop=None):
        """Samples ``(num_samples,)`` float32 from ``start`` to ``stop``; None if not kept."""
        if utt not in self.places:
            return None
        number, place = self.places[utt]
        if not self.filled[number]:
            return None
        kept = self.samples[place : place + self.lengths[utt]][start:stop]
        return np.multiply(kept, np.float32(1 / 32768), dtype=np.float32)

    def put(self, utt, samples):
        """Keep float ``samples`` that have a place, the length that was said, and only 16 bit."""
        if utt not in self.places or samples.shape != (self.lengths[utt],):
            return
        rounded = to_int16(samples)
        if np.array_equal(rounded, samples * np.float32(32768.0)):
            number, place = self.places[utt]
            self.samples[place : place + len(samples)] = rounded
            self.filled[number] = 1  # only now may others read it


class DecodedOnce(collections.abc.Mapping):
    """A mapping id -> samples ``(num_samples,)`` that asks another one only once for each id.

    Args:
        source: that mapping, e.g. `Signals`. What is longer or
            shorter than ``lengths`` says, or has more than 16 bit, is asked for each time.
        lengths, cache_bytes: as of `DecodedAudio`; ``lengths`` may have further ids.
    """

    def __init__(self, source, lengths, cache_bytes=CACHE_BYTES):
        self.source = source
        self.decoded = DecodedAudio({utt: lengths[utt] for utt in source}, cache_bytes)

    def __getitem__(self, utt):
        samples = self.decoded.get(utt)
        if samples is None:
            samples = self.source[utt]
            self.decoded.put(utt, samples)
        return samples

    def __iter__(self):
        return iter(self.source)

    def __len__(self):
        return len(self.source)
