"""Training that stops at a signal between two steps, and goes on from there as if it never had.

Slurm warns a job before its time is over, or another one takes its place, with SIGUSR1 or SIGTERM
(`man sbatch`: --signal, KillWait). Both make training save its whole state and end with the status
`REQUEUE_STATUS`. The same command then ends with the same weights and the same ``epochs.tsv`` as a
training that was left alone: to the bit, as far as the device computes the same thing twice.
"""

import contextlib
import functools
import logging
import random
import signal
import threading
from pathlib import Path

import espnet2
import numpy as np
import torch
from espnet2.train.reporter import SubReporter, WeightedAverage, to_reported_value
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from espnet_tse_ser.errors import Requeue, UserError, first_line
from espnet_tse_ser.plain_files import DamagedFile, OtherObjects, load_plain
from espnet_tse_ser.processes import end_with_parent
from espnet_tse_ser.training.checkpoints import check_state, check_types, oddity
from espnet_tse_ser.training.prefetching import Prefetched

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
CHECKPOINT, STEP_CHECKPOINT = "checkpoint.pth", "checkpoint.step.pth"


def stamped(states):
    """The states of a training, and which ESPnet they are of."""
    return states | {"espnet": espnet2.__version__}


def read_states(path, remedy):
    """What `stamped` states were saved in a file.

    Args: as `load_plain`.

    Raises:
        UserError: they are of another ESPnet; or as `load_plain`.
    """
    version = "202511 or older"
    try:
        states = load_plain(path, remedy)
        if not isinstance(states, dict) or "reporter" not in states:
            return states  # of no training
        version = states.get("espnet", version)
    except OtherObjects as error:
        if not error.names <= _FORMER:
            raise
    if version != espnet2.__version__:
        raise UserError(
            f"{path}: was saved with ESPnet {version!s:.20}, and the training cannot go on from it "
            f"with {espnet2.__version__}: finish it where it began, or remove {path.parent} to "
            "train from the start (the weights of its epochs, *epoch.pth, can still be used)"
        )
    return states


_FORMER = {  # what ESPnet, and we, saved besides plain values before 202611
    *("datetime.timedelta", "numpy.dtype", "numpy.ndarray"),
    *(f"numpy._core.multiarray.{name}" for name in ("_reconstruct", "scalar")),
    *(f"numpy.core.multiarray.{name}" for name in ("_reconstruct", "scalar")),  # NumPy 1
    *("espnet2.train.reporter.Average", "espnet2.train.reporter.WeightedAverage"),
}


class Interruption:
    """Looks between two steps whether a signal has come, saves the state, and finds it again.

    A step is a batch. Where ``accum_grad`` of them make one update, training stops only after an
    update, because gradients are not saved.

    Args:
        directory: of the experiment. distributed_option: ESPnet's. device: "cpu" or "cuda".
        save: ``save(value, path)``, atomic.
    """

    def __init__(self, directory, distributed_option, device, save):
        self.path = Path(directory) / STEP_CHECKPOINT
        self.distributed = distributed_option.distributed
        self.rank = distributed_option.dist_rank if self.distributed else 0
        self.device, self.save = device, save
        self.signal = None  # name of the one that has come
        self.progress = False  # whether this process has done anything that it need not do again

    @contextlib.contextmanager
    def noted_signals(self):
        """Let signals be noted, not obeyed, in the body; they come to the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number, _frame):
            self.signal = signal.Signals(number).name

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            yield
        except Requeue:
            # The process is about to end; one more signal must not change its status, not even
            # when Python has already taken leave of its handlers.
            before = dict.fromkeys(SIGNALS, signal.SIG_IGN)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def training(self, iterator, accum_grad, reporter, model, optimizers, schedulers, scaler):
        """Give the batches of the epoch that are still to be done, after loading their state.

        What makes them, a thread or processes, ends with the body.

        Raises (here and between two of the batches):
            Requeue: the state is saved. UserError: the state found is of another model.
        """
        self.reporter = reporter
        self.stateful = {"model": getattr(model, "module", model), "scaler": scaler}
        for kind, objects in (("optimizer", optimizers), ("scheduler", schedulers)):
            self.stateful |= {f"{kind}{number}": value for number, value in enumerate(objects)}
        self.stateful = {name: value for name, value in self.stateful.items() if value is not None}
        self.step, trained = 0, False
        saved = self._read()
        if saved is not None:
            self._load(saved)
            self.step, trained = saved["step"], saved["trained"]
            what = f"step {self.step + 1}, once the batches before it are drawn again"
            what = "its validation" if trained else what
            logger.info("%s: going on with epoch %d: %s", self.path, saved["epoch"], what)
        with _started(() if trained else iterator) as batches:
            if saved is not None:
                if not trained:
                    self._skip(batches)
                _set_random_state(saved["random"][self.rank])
            yield self._training_batches(batches, accum_grad)

    @contextlib.contextmanager
    def validation(self, iterator):
        """Give the batches of a validation; a signal between them saves the training before it.

        Raises: as `training`.
        """
        self.random = _random_state()
        with _started(iterator) as batches:
            yield self._validation_batches(batches)

    def _skip(self, batches):
        """Draw the batches that are done, so that samplers and workers are where they were."""
        for number in range(self.step):
            if next(batches, None) is None:
                raise UserError(
                    f"{self.path}: is of step {self.step} of an epoch, which has {number} now: the "
                    "data was changed; remove the file to start the epoch from its beginning"
                )

    def _training_batches(self, batches, accum_grad):
        self._stop_if_asked()
        for number, batch in enumerate(batches, 1):
            yield batch
            self.step += 1
            self.progress = True
            if number % accum_grad == 0:
                self._stop_if_asked()

    def _validation_batches(self, batches):
        # Asked before a batch is fetched: another process may have no further one.
        self._stop_if_asked(trained=True)
        for batch in batches:
            yield batch
            self._stop_if_asked(trained=True)

    def _stop_if_asked(self, trained=False):
        # Whoever is started again must get on: one step at least, or the rest of a validation.
        if not self._anywhere(self.signal is not None) or not self.progress:
            return
        epoch = self.reporter.get_epoch()
        name = self.signal or "a signal to another process"
        if self.step or trained:
            done = "all its steps" if trained else f"step {self.step}"
            self._save(epoch, trained)
            where = f"saved epoch {epoch} after {done} in {self.path}"
        else:
            where = f"epoch {epoch - 1} is saved in {self.path.with_name(CHECKPOINT)}"
        logger.warning("%s: %s; the same command goes on from there", name, where)
        raise Requeue

    def _save(self, epoch, trained):
        state = self.random if trained else _random_state()
        states = [state]
        if self.distributed:
            states = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, state)
        failure = None
        if self.rank == 0:
            state = {
                "epoch": epoch,
                "step": self.step,
                "trained": trained,
                "random": states,
                "reporter": _reporter_state(self.reporter),
            } | {name: value.state_dict() for name, value in self.stateful.items()}
            try:
                self.save(state, self.path)
            except Exception as error:
                failure = error
        # No process ends before the file is there: that could end the one which writes it.
        if self._anywhere(failure is not None):
            raise failure or UserError(f"{self.path}: the first process could not write it")

    def _read(self):
        """The saved state if every process can go on from it in this epoch, or None."""
        self._anywhere(False)  # the first process removes it with the last epoch's checkpoint
        if not self._anywhere(self.path.exists()):
            return None
        saved, reason = None, None
        try:
            saved = read_states(self.path, "remove it to start its epoch from the beginning")
            reason = self._misfit(saved)
        except DamagedFile as error:
            reason = f"is damaged ({error.reason})"
        except UserError:
            raise
        except Exception as error:  # of what is not as it should be
            reason = f"is damaged ({first_line(error)})"
        if not self._anywhere(reason is not None):
            return saved
        if self.rank == 0:
            reason = reason or "cannot be read by another process"
            epoch = self.reporter.get_epoch()
            logger.warning("%s: %s; epoch %d starts from its beginning", self.path, reason, epoch)
            self.path.unlink(missing_ok=True)
        return None

    def _misfit(self, saved):
        """Why the state is not one of this epoch and training, or None."""
        epoch, processes = self.reporter.get_epoch(), len(saved["random"])
        here = torch.distributed.get_world_size() if self.distributed else 1
        checkpoint = self.path.with_name(CHECKPOINT)
        if saved["epoch"] != epoch:
            return f"is of epoch {saved['epoch']}"
        if processes != here:
            return f"is of a training with {processes} process(es), not {here}"
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns > self.path.stat().st_mtime_ns:
            return f"is older than {checkpoint.name}"
        _check_types(saved)
        return None

    def _load(self, saved):
        try:
            for name, value in self.stateful.items():
                restore(value, saved[name])
        except Exception as error:  # of another model's state
            raise UserError(
                f"{self.path}: training cannot go on from it ({first_line(error)}): it is of "
                f"another configuration; remove {self.path.parent} to train from the start"
            ) from error
        _set_reporter_state(self.reporter, saved["reporter"])

    def together(self, check, *args):
        """Call ``check(*args)`` in every process; a `UserError` of one makes all raise one."""
        failure = None
        try:
            check(*args)
        except UserError as error:
            failure = error
        if self._anywhere(failure is not None):
            raise failure or UserError("another process has stopped the training; see its log")

    def _anywhere(self, flag):
        """Whether ``flag`` is true in any of the processes; they all have to ask."""
        if not self.distributed:
            return flag
        flag = torch.tensor(int(flag), device=self.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)


def restore(value, state, name="model", **how):
    """``value.load_state_dict(state, **how)``, of a state that was read from a file.

    Args:
        name: of a model's state, for errors.

    Raises:
        UserError: it is a model's and has other than dense, finite numbers of its types.
        ValueError: the state would replace a method of ``value``, as schedulers let it; or is not
            one of this optimizer, which takes anything and fails in its next step.
    """
    methods = [name for name in state if callable(getattr(type(value), name, None))]
    if methods:
        raise ValueError(f"a state with {methods[0]}")
    if isinstance(value, torch.nn.Module):
        check_state(state, name)
        check_types(value, state, name)
    if isinstance(value, torch.optim.Optimizer):
        _check_moments(value, state)
    value.load_state_dict(state, **how)


def _check_moments(optimizer, state):
    """Raise `ValueError` unless a state has the same for all parameters: dense, finite numbers."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    part = getattr(optimizer, "is_matrix", lambda _: True)  # Muon keeps less for matrices
    names, kinds = {}, {}
    for number, parameter in zip(numbers, parameters, strict=True):
        moments = state["state"].get(number)
        if moments is None:  # it had no gradient yet
            continue
        names.setdefault(part(parameter), set()).add(frozenset(moments))
        for name, value in moments.items():
            kind = _kind_of_moment(value, parameter)
            # Of a parameter that is a number, moments and the count of steps look alike.
            if parameter.dim() and kinds.setdefault(name, kind) != kind:
                raise ValueError(f"{name} is {kind} for a parameter, {kinds[name]} for others")
    for found in names.values():
        if len(found) > 1:
            known = ", ".join(sorted(frozenset.union(*found)))
            raise ValueError(f"{known}: not all parameters have")


def _kind_of_moment(value, parameter):
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    if oddity(value) or not value.is_floating_point() or not value.isfinite().all():
        raise ValueError("an optimizer's state has other than dense tensors of finite numbers")
    if value.dim() and value.shape != parameter.shape:
        raise ValueError("an optimizer's state has tensors of other shapes than its parameters")
    return "a tensor" if value.dim() else "a number"


@contextlib.contextmanager
def _started(iterator):
    """``iter(iterator)``, and the end of the thread or the processes that make its batches.

    Workers ignore the signals that Slurm sends to all processes: they would end, and take the
    training with them before it could save anything.
    """
    if isinstance(iterator, torch.utils.data.DataLoader):
        iterator.worker_init_fn = functools.partial(_init_worker, iterator.worker_init_fn)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # threads inherit this
    try:
        batches = iter(iterator)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield batches
    finally:
        if isinstance(batches, Prefetched):
            batches.close()
        elif isinstance(batches, _MultiProcessingDataLoaderIter):
            # Only when nothing refers to it any more would it do so by itself; until then its
            # thread, which pins memory for a GPU, may be where Python's end finds it.
            batches._shutdown_workers()


def _init_worker(init, number):
    end_with_parent()
    if init is not None:
        init(number)


def _random_state():
    kind, key, *further = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, key.tolist(), *further),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def _set_random_state(state):
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _reporter_state(reporter):
    """What was reported in the epoch: for each name ``(value, weight or None)`` of each step."""
    return {
        "count": reporter.count,
        "total_count": reporter.total_count,
        "stats": {
            name: [(v.value, v.weight if isinstance(v, WeightedAverage) else None) for v in values]
            for name, values in reporter.stats.items()
        },
    }


def _set_reporter_state(reporter, state):
    reporter.count, reporter.total_count = state["count"], state["total_count"]
    for name, values in state["stats"].items():
        reporter.stats[name] = [to_reported_value(value, weight) for value, weight in values]


def _check_types(saved):
    """Raise an error of Python's unless all but the states of objects is as `_save` has put it."""
    for name in ("epoch", "step"):
        if type(saved[name]) is not int or saved[name] < 0:
            raise ValueError(f"{name} {saved[name]}")
    if type(saved["trained"]) is not bool:
        raise ValueError(f"trained {saved['trained']}")
    for state in saved["random"]:
        random.Random().setstate(state["python"])
        np.random.RandomState().set_state(state["numpy"])
        torch.Generator().set_state(state["torch"])
        if state["cuda"] is not None and state["cuda"].dtype != torch.uint8:
            raise ValueError("a random state of a GPU")
    sub = SubReporter("train", saved["epoch"], 0)
    _set_reporter_state(sub, saved["reporter"])
    for name, values in sub.stats.items():
        # The last step has only begun where another process had no further batch.
        steps = len(values) in (sub.count, sub.count - 1)
        if not steps or not all(isinstance(v.value, (int, float)) for v in values):
            raise ValueError(f"what is reported as {name}")
