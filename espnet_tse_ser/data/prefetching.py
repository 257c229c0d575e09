"""Batches made in a thread while the model is at work on those before them."""

import contextlib
import queue
import threading

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory


class PrefetchingLoader(torch.utils.data.DataLoader):
    """A DataLoader without workers whose next batches are made in a thread, one after the other.

    A GPU, or a second core, computes while they are made. Making them must not draw from a global
    generator: nobody could tell any more who draws first.
    """

    def __iter__(self):
        return _Prefetched(super().__iter__())  # this draws from torch's generator: not in a thread


class _Prefetched:
    """Iterates over ``batches`` in a thread, `AHEAD` of whoever asks for them.

    What fails there is raised where the batch is asked for. The thread ends with this object.
    """

    AHEAD = 2  # batches

    def __init__(self, batches):
        self.ready, self.stop = queue.Queue(self.AHEAD), threading.Event()
        arguments = (batches, self.ready, self.stop)  # not self, which would then never end
        self.thread = threading.Thread(target=_fetch, args=arguments, daemon=True)
        self.thread.start()

    def __iter__(self):
        return self

    def __next__(self):
        if self.stop.is_set():
            raise StopIteration
        batch, error = self.ready.get()
        if error is None:
            return batch
        self.stop.set()
        raise error

    def __del__(self):
        self.stop.set()
        with contextlib.suppress(queue.Empty):
            while True:  # it may be waiting for room
                self.ready.get_nowait()


def _fetch(batches, ready, stop):
    """Put ``(batch, None)`` for every batch and at the end ``(None, error)``."""
    try:
        for batch in batches:
            ready.put((batch, None))
            if stop.is_set():
                return
        ready.put((None, StopIteration()))
    except BaseException as error:
        ready.put((None, error))


class PrefetchingIterFactory(AbsIterFactory):
    """ESPnet's sequence iterator whose batches, without workers, are made in a thread.

    The preprocessor of its dataset is told the epoch.

    Args:
        factory: builds `torch.utils.data.DataLoader`.
    """

    def __init__(self, factory):
        self.factory = factory

    def build_iter(self, epoch, shuffle=None):
        """Return the batches of ``epoch``."""
        loader = self.factory.build_iter(epoch, shuffle)
        loader.dataset.preprocess.epoch = epoch  # before workers take copies of it
        if loader.num_workers:
            return loader
        return PrefetchingLoader(
            loader.dataset,
            batch_sampler=loader.batch_sampler,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
        )
