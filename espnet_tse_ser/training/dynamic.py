"""Dynamic mixing: fresh mixtures every epoch, drawn from pools, the same for the same seed.

Example ``index`` of epoch ``epoch`` depends on ``(seed, epoch, index)`` alone, so neither the
number of workers or processes nor a resumed training changes it.
"""

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.training.collate import pad_collate
from espnet_tse_ser.training.distributed import divisible
from espnet_tse_ser.training.prefetching import PrefetchingLoader
from espnet_tse_ser.values.kinds import Mapping, check_option, check_options


def mixing_options(taker, conf, where="mixing_conf"):
    """``taker`` (a class of options) with what a ``mixing_conf`` says.

    Raises:
        UserError: it is no mapping, has an unknown key or a value that does not fit.
    """
    return taker(**check_options(check_option(conf, Mapping(), where), taker, where))


class MixingIterFactory(AbsIterFactory):
    """ESPnet iterator factory over dynamic mixtures.

    Args:
        draw: ``draw(rng, item) -> (id, arrays)``; with workers it is sent to them.
        batches: ``batches(rng) -> list of lists of items`` for one epoch.
        seed: of the whole training. fixed: the same mixtures every epoch (validation).
        preprocess: ESPnet preprocessor ``(id, arrays) -> arrays``, or None.
        num_workers: processes that mix; 0 mixes in a thread of the training process.
        part: ``(rank, number of processes)`` of a training whose processes divide each batch.
    """

    def __init__(
        self, draw, batches, seed, fixed=False, preprocess=None, num_workers=0, part=(0, 1)
    ):
        self.draw, self.batches, self.seed = draw, batches, seed
        self.fixed, self.preprocess, self.num_workers = fixed, preprocess, num_workers
        self.rank, self.processes = part

    def build_iter(self, epoch, shuffle=None):
        """Return the batches of ``epoch`` as a DataLoader."""
        epoch = 0 if self.fixed else epoch
        batches = self.batches(np.random.default_rng([self.seed, epoch]))
        batches = divisible(batches, self.processes)
        dataset = _EpochMixtures(
            self.draw, self.preprocess, [self.seed, epoch], batches, self.rank, self.processes
        )
        loader = torch.utils.data.DataLoader if self.num_workers else PrefetchingLoader
        return loader(dataset, batch_size=None, num_workers=self.num_workers, collate_fn=_identity)


class _EpochMixtures(torch.utils.data.Dataset):
    """What workers need of a `MixingIterFactory`, which is sent to them."""

    def __init__(self, draw, preprocess, seed, batches, rank, processes):
        self.draw, self.preprocess, self.seed, self.batches_ = draw, preprocess, seed, batches
        self.rank, self.processes = rank, processes
        self.starts = np.cumsum([0, *(len(b) for b in batches)])

    def __len__(self):
        return len(self.batches_)

    def __getitem__(self, number):
        if number >= len(self):
            raise IndexError(number)
        examples = []
        batch = list(enumerate(self.batches_[number], int(self.starts[number])))
        for index, item in batch[self.rank :: self.processes]:
            rng = np.random.default_rng([*self.seed, index])
            uid, arrays = self.draw(rng, item)
            if self.preprocess is not None:
                arrays = self.preprocess(uid, arrays)
            examples.append((uid, arrays))
        return pad_collate(examples)


def _identity(batch):
    return batch


def length_batches(lengths, batch_size, rng=None):
    """Batch ids of similar length; with ``rng``, jitter the order and shuffle the batches.

    Args:
        lengths: dict id -> length. batch_size: ids a batch.

    Returns:
        list of lists of ids.

    Raises:
        UserError: ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size must be 1 or more, got {batch_size}")
    keys = sorted(lengths, key=lambda k: (lengths[k], k))
    if rng is not None:
        jitter = {k: lengths[k] * rng.uniform(0.85, 1.15) for k in keys}
        keys.sort(key=lambda k: jitter[k])
    batches = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
