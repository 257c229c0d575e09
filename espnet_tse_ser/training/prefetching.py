"""Batches made in a thread while the model is at work on those before them."""

import collections
from concurrent.futures import ThreadPoolExecutor

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory


class PrefetchingLoader(torch.utils.data.DataLoader):
    """A DataLoader without workers whose next batches are made in a thread, one after the other.

    A GPU, or a second core, computes while they are made. Making them must not draw from a global
    generator: it would be open who draws first.
    """

    def __iter__(self):
        return Prefetched(super().__iter__())  # this draws from torch's generator: not in a thread


class Prefetched:
    """Iterates over ``batches`` in a thread, `AHEAD` of their use.

    What fails there is raised where the batch is asked for. `close` ends the thread. It must have
    ended before Python does: a thread that PyTorch lets go on only then takes the process with it
    (abort, status 134). So it is one that Python itself waits for, should nobody close this.
    """

    AHEAD = 3  # batches

    def __init__(self, batches):
        self.batches, self.thread = batches, ThreadPoolExecutor(1, "prefetching")
        self.ahead = collections.deque(self._submit() for _ in range(self.AHEAD))

    def __iter__(self):
        return self

    def __next__(self):
        if not self.ahead:
            raise StopIteration
        try:
            batch = self.ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        if batch is _END:
            self.close()
            raise StopIteration
        self.ahead.append(self._submit())
        return batch

    def _submit(self):
        return self.thread.submit(next, self.batches, _END)

    def close(self):
        """End the thread, once the batch that it is at is made, and the iteration."""
        self.ahead.clear()
        self.thread.shutdown(cancel_futures=True)


_END = object()


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
