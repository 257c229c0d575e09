"""Training in several processes, each of which does its part of every batch.

A process is one GPU's. ESPnet starts them with ``--ngpu 2`` on one machine; ``srun`` does with
``--dist_launcher slurm``. The result is that of one process with the same batches, but for rounding
and for what depends on a whole batch: random masks, batch norms, a loss with ``class_weight``, and
one of those examples alone that have an emotion.

If one process ends in an error, the others end in one as soon as they next wait for it (gloo), or
after a timeout (NCCL); on one machine their parent ends them within 30 s, and on several
srun does (SLURM_WAIT, which slurm.pl sets).
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import sys

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.train.distributed_utils import get_rank, get_world_size
from torch.multiprocessing import ProcessExitedException

from espnet_tse_ser.errors import REQUEUE_STATUS, Requeue, UserError, run
from espnet_tse_ser.machine import survive_signals
from espnet_tse_ser.processes import start_server
from espnet_tse_ser.training.interruption import SIGNALS


def is_first_process(options):
    """Whether this process writes what all of them read.

    It is known before they meet, and what the first one writes before that is there for all: none
    gets past the meeting without it.

    Args:
        options: namespace of an ESPnet task.
    """
    try:
        processes = get_world_size(options.dist_world_size, options.dist_launcher)
        return processes == 1 or get_rank(options.dist_rank, options.dist_launcher) == 0
    except RuntimeError as error:
        raise UserError(f"--dist_launcher {options.dist_launcher}: {error}") from None


def part_of_process():
    """``(rank, number of processes)`` of this process; ``(0, 1)`` if it trains alone."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def divisible(batches, processes):
    """Let batches with fewer examples than there are processes join the one before.

    So every example is taken once, and every process has something to do in each step.

    >>> divisible([[1, 2, 3], [4, 5], [6]], 2)
    [[1, 2, 3], [4, 5, 6]]

    Raises:
        UserError: there are fewer examples than processes.
    """
    result = []
    for batch in batches:
        if result and min(len(batch), len(result[-1])) < processes:
            result[-1] = [*result[-1], *batch]
        else:
            result.append(batch)
    if result and len(result[0]) < processes:
        raise UserError(
            f"{len(result[0])} example(s) cannot be divided among {processes} processes; use fewer"
        )
    return result


class DividingIterFactory(AbsIterFactory):
    """The part of one process in the batches of ESPnet's sequence iterator.

    ESPnet divides the batches before it shuffles across them: the processes then have different
    numbers of batches, and the last one of some, in the validation too, is lost.
    """

    def __init__(self, factory, rank, processes):
        self.factory, self.rank, self.processes = factory, rank, processes

    def build_iter(self, epoch, shuffle=None):
        loader = self.factory.build_iter(epoch, shuffle)
        batches = divisible(loader.batch_sampler, self.processes)
        loader.batch_sampler[:] = [batch[self.rank :: self.processes] for batch in batches]
        return loader


class DistributedTask:
    """To be inherited before ESPnet's task: what it needs to run in several processes."""

    @classmethod
    def build_sequence_iter_factory(cls, args, iter_options, mode):
        whole = dataclasses.replace(iter_options, distributed=False)
        factory = super().build_sequence_iter_factory(args, whole, mode)
        if not iter_options.distributed:
            return factory
        return DividingIterFactory(factory, *part_of_process())

    @classmethod
    def main(cls, args):
        """Train, in processes of its own if there are several GPUs; these get our signals."""
        if (args.dist_init_method or "").startswith("file://") and "SLURM_JOB_ID" in os.environ:
            # A job that is submitted again must not meet in the file that the last one has left.
            restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
            args.dist_init_method += f".{os.environ['SLURM_JOB_ID']}.{restarts}"
        if not args.multiprocessing_distributed or args.ngpu <= 1:
            super().main(args=args)
            return
        try:
            with _signals_to_children():
                super().main(args=args)
        except ProcessExitedException as error:  # the child has said why
            status = error.exit_code
            if status in (2, REQUEUE_STATUS):
                raise SystemExit(status) from None
            if -status in SIGNALS:
                raise SystemExit(128 - status) from None
            raise

    @classmethod
    def main_worker(cls, args):
        survive_signals()
        if args.num_workers:
            start_server(["espnet_tse_ser.bin", cls.__module__], SIGNALS)
        worker = super().main_worker
        status, is_child = 0, multiprocessing.parent_process() is not None
        try:
            if is_child:
                status = run(worker, args)
            else:
                worker(args)
        except Requeue as requeue:
            status = requeue.code
        if torch.distributed.is_initialized():
            _leave(status)
        if is_child or status:
            sys.exit(status)


def _leave(status):
    """End this process at once.

    In an orderly end torch's threads may find that those of another process have ended before, and
    abort a training that has just been saved or finished.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def _signals_to_children():
    """Let SIGTERM and SIGUSR1 reach the children, which end in their own time, and we after them.

    Slurm may have sent them to the children as well: twice is the same as once.
    """

    def pass_on(number, _frame):
        children = multiprocessing.active_children()
        if not children:
            raise SystemExit(128 + number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
