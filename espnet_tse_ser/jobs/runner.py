"""How steps are run: through the recipe's wrappers, side by side where they can be.

The wrappers let the job's shell expand words, as Kaldi's do: they get only names of scripts.
Imports nothing outside the standard library.
"""

import os
import time

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs import locks
from espnet_tse_ser.jobs.groups import Waiter
from espnet_tse_ser.jobs.lifetime import identity


def say(text):
    """One line on standard output, with the time, at once and with no rest if nobody reads."""
    os.write(1, os.fsencode(f"[{time.strftime('%H:%M:%S')}]   {text}\n"))


class Runner:
    """Runs the steps of a recipe, each after it was locked and marked as begun.

    Args:
        settings: of the recipe, a dict of str: path (``script``) and ``pid`` of its script, which
            is this process' parent; ``python``, ``train_cmd``, ``cuda_cmd``, ``ngpu``,
            ``num_nodes``, ``max_jobs``, ``expdir`` and ``on_cluster`` as there; ``stages``, see
            `stage_that_writes`.
        me: `identity` of this process.

    ``locks`` are the paths of the locks of the steps that are not yet run, ``batch`` those of them
    that wait to be run side by side.
    """

    def __init__(self, settings, me):
        self.settings, self.me = settings, me
        self.script = identity(int(settings["pid"]))
        self._python = settings["python"].split()
        self._on_cluster = settings["on_cluster"] == "true"
        self.locks = []
        host, _, mark = me.partition(" ")
        self.waiter = Waiter(int(settings["pid"]), mark)
        self._stem = f"{settings['expdir']}/.batch.{host}"
        self._directory = f"{self._stem}.{os.getpid()}"
        self.batch = []

    def run(self, step):
        """Run a step, or let it wait for `run_batch`.

        Raises:
            UserError: it fails. Stopped: this process is to end; the step's has.
        """
        if step["program"]:
            self._run_program(step)
        elif step["nj"]:
            self._run_array(step)
        else:
            # What an interrupted run wrote is worth keeping.
            if os.path.isfile(f"{step.log}.log"):
                os.replace(f"{step.log}.log", f"{step.log}.previous.log")
            say(f"{step.dir}: {step.command}, log in {self._log_of(step)}")
            self.batch.append(step)
            if not step["batch"]:
                self.run_batch()

    def run_batch(self):
        """Run the steps that wait, at most ``max_jobs`` at a time, as one job array.

        Raises:
            UserError: one has failed; the others are done. Stopped: as `run`.
        """
        if not self.batch:
            return
        self._remove_left_batches()
        _remove_directory(self._directory)  # of a process whose id is ours now
        os.makedirs(self._directory)
        for number, step in enumerate(self.batch, 1):
            os.makedirs(f"{step.dir}/log", exist_ok=True)
            self._write_job(f"{self._directory}/{number}", step)
            log = os.path.abspath(self._log_of(step))
            os.symlink(log, f"{self._directory}/{number}.log")
        words = [*self._wrapper(self.batch[0]), *self._limit(), f"JOB=1:{len(self.batch)}"]
        self._call([*words, f"{self._directory}/JOB.log", "bash", f"{self._directory}/JOB.sh"])
        failed = []
        for step in self.batch:
            _remove_rendezvous(step.dir)
            if os.path.isfile(step.mark):  # that tells
                say(f"{step.dir}: written")
            else:
                failed.append(f"{step.dir} (log in {self._log_of(step)})")
        self.batch = []
        self.leave()
        if failed:
            raise UserError(f"failed: {'; '.join(failed)}")

    def leave(self):
        """Remove what only this process needs."""
        self._release_locks()
        _remove_directory(self._directory)

    def _run_program(self, step):
        program = step.command.split()
        try:
            status = self._call(program)
        except OSError as error:
            raise UserError(f"{program[0]}: {error.strerror}") from None
        if status != 0:
            raise UserError(f"{program[0]} failed")
        for name in step["expects"].split():
            path = f"{step.dir}/{name}"
            if not os.path.isfile(path) or os.path.getsize(path) == 0:
                raise UserError(
                    f"{program[0]} wrote no {path}; {program[0]} --help lists its options"
                )
        step.marks.finish(step["writes"])
        self._release_locks()

    def _run_array(self, step):
        """Run N jobs and one that puts together what they wrote."""
        nj, log = step["nj"], step.log
        say(f"{step.dir}: {step.command}, {nj} job(s), log in {log}.*.log")
        os.makedirs(f"{step.dir}/log", exist_ok=True)
        command = self._command(step)
        _write_script(f"{log}.sh", command + self._device(step))
        _write_script(f"{log}.combine.sh", step.job + command)
        array = [f"JOB=1:{nj}", f"{log}.JOB.log", "bash", f"{log}.sh", "--job", "JOB"]
        combine = [f"{log}.combine.log", "bash", f"{log}.combine.sh", "--combine"]
        train_cmd = self.settings["train_cmd"].split()
        for words in (self._wrapper(step) + array, train_cmd + combine):
            if self._call([*words, "--nj", nj]) != 0:
                raise UserError(f"{step.dir}: failed ({step.command})")
        self._release_locks()
        say(f"{step.dir}: written")

    def _call(self, words):
        """Run a command to its end and return its status; who finds a lock can end it."""

        def note(group):
            for path in self.locks:
                with open(path, "a", encoding="utf-8") as stream:
                    stream.write(f"group {group}\n")

        return self.waiter.run(words, note)

    def _command(self, step):
        words = [*self._python, "-m", f"espnet_tse_ser.bin.{step.command}", *step.arguments]
        return words + step["unrecorded"].split()

    def _write_job(self, path, step):
        """Write PATH.sh, which does a step."""
        job, command = step.job, self._command(step) + self._device(step)
        ngpu = ["--ngpu", self.settings["ngpu"]]
        if step["train"]:
            # Threads are set beside the command, not here: a queue's job script sources path.sh.
            command = ["env", f"OMP_NUM_THREADS={step['train']}", *command]
        if self._is_launched(step):
            _write_script(f"{path}.train.sh", command)
            job += [*self._python, "-m", "espnet2.bin.launch", *ngpu]
            job += ["--cmd", self.settings["cuda_cmd"], "--log", f"{step.log}.log"]
            job += ["--num_nodes", self.settings["num_nodes"]]
            job += ["--init_file_prefix", f"{step.dir}/.dist_init_"]
            command = ["--", "bash", f"{path}.train.sh"]
        elif step["train"]:
            # What launch would issue for one process, without the seconds of its import.
            command += ngpu
        _write_script(f"{path}.sh", job + command)

    def _device(self, step):
        return ["--device", "cuda"] if self._on_gpu(step) else []

    def _on_gpu(self, step):
        return step["network"] and int(self.settings["ngpu"]) > 0

    def _wrapper(self, step):
        """The wrapper that runs a step, with its options."""
        ngpu, cuda_cmd = self.settings["ngpu"], self.settings["cuda_cmd"].split()
        if self._is_launched(step):
            # launch itself calls cuda_cmd, on this machine, once for each training
            gpus = [] if self._on_cluster else ["--gpu", ngpu]
            return ["run.pl", "--grace", "120", *gpus]
        if step["train"]:
            return [*cuda_cmd, "--gpu", ngpu, "--num_threads", step["train"]]
        if self._on_gpu(step):
            return [*cuda_cmd, "--gpu", "1"]
        return self.settings["train_cmd"].split()

    def _limit(self):
        """How many jobs of the batch run at a time: what the wrapper allows if nothing is said."""
        limit = self.settings["max_jobs"]
        if not limit and self._on_cluster and self._is_launched(self.batch[0]):
            limit = str(len(self.batch))
        return ["--max-jobs-run", limit] if limit else []

    def _is_launched(self, step):
        several = int(self.settings["num_nodes"]) > 1 or int(self.settings["ngpu"]) > 1
        return several and bool(step["train"])

    def _log_of(self, step):
        return f"{step.log}{'.launch' if self._is_launched(step) else ''}.log"

    def _release_locks(self):
        while self.locks:
            locks.release(self.locks.pop())

    def _remove_left_batches(self):
        """Remove the directories of batches whose processes were killed."""
        parent = os.path.dirname(self._stem)
        os.makedirs(parent, exist_ok=True)
        for path in (f"{parent}/{entry}" for entry in os.listdir(parent)):
            stem, _, pid = path.rpartition(".")
            if stem == self._stem and pid not in os.listdir("/proc"):
                _remove_directory(path)


def _write_script(path, words):
    """Write a script that becomes this command, with its own arguments after it."""
    import shlex  # takes a while

    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(f'exec {shlex.join(words)} "$@"\n')


def _remove_directory(path):
    if os.path.isdir(path):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def _remove_rendezvous(directory):
    """Remove the files by which the processes of a training have found each other."""
    for name in os.listdir(directory):
        if name.startswith(".dist_init_"):
            os.unlink(f"{directory}/{name}")
