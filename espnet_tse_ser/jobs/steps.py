"""Steps that are done once: what a stage of a recipe declares is done here, in its order.

``utils/steps.sh`` starts this as a process beside the recipe's script and sends it the words of
each ``step [options] DIR COMMAND [ARGUMENTS...]``, see `Step`; it answers when they are done.
What a step has done is told by marks in DIR (see `marks`): one that is done with the same settings
is skipped, unless something that it wrote is gone; then it is done again, which goes on from what
is there. One that was done, or begun, with other settings stops the script, unless ``--redo``. It
is the job itself that marks a step as done (see `step_job`), so that what is done stays done
whatever happens to this process. While a step is worked on, ``DIR/.lock[.NAME]`` says who does: a
second script refuses to.

Imports nothing outside the standard library: a stage that is done is to take no time.
"""

import os
import select
import signal
import sys
import time

from espnet_tse_ser.errors import UserError, explain
from espnet_tse_ser.jobs import locks
from espnet_tse_ser.jobs.groups import Stopped, Waiter, end_rest
from espnet_tse_ser.jobs.lifetime import identity, is_gone
from espnet_tse_ser.jobs.marks import Marks, checksum, read_record

ANSWERS = 9  # the descriptor that the script reads from
JOB = ("python3", "-S", "-m", "espnet_tse_ser.jobs.step_job")


class Step:
    """One step, which writes a directory: ``python -m espnet_tse_ser.bin.COMMAND ARGUMENTS``.

    Args:
        words: its options, the directory, the command and the arguments.

    ==================  ==========================================================================
    --input FILE        it depends on the file's content (may be repeated). It can be another
                        step's .done: then a change upstream is seen everywhere below
    --setting TEXT      a line more that identifies it (may be repeated)
    --writes PATTERNS   files that it leaves in DIR, e.g. "wav.scp utt2*": without one it is done
                        again
    --expects FILES     files without which it has failed, a program's
    --name NAME         tells several steps apart that write into one DIR
    --nj N              ``JOB=1:N`` with ``--job JOB --nj N``, then once ``--combine --nj N``
    --train THREADS     a training: ``cuda_cmd``, --ngpu and --num_threads
    --batch             side by side with those before and after it that are alike
    --unrecorded ARGS   arguments that cannot change the result (jobs, batch size)
    --redo              when the settings differ, simply do it again
    --program           COMMAND is no command of the package but words of a program, which shows
                        what it says and is not run as a job
    --tell TEXT         show what its log says in lines with this text
    ==================  ==========================================================================

    Raises:
        UserError: an option is not known.
    """

    def __init__(self, words):
        self.options = {
            **{"input": [], "setting": [], "batch": False, "redo": False, "program": False},
            **dict.fromkeys(("writes", "expects", "name", "nj", "train", "unrecorded", "tell"), ""),
        }
        words = list(words)
        while words[0].startswith("--"):
            option = words.pop(0)[2:]
            had = self.options.get(option)
            if had is None:
                raise UserError(f"step {' '.join(words)}: there is no option --{option}")
            if isinstance(had, list):
                had.append(words.pop(0))
            else:
                self.options[option] = had is False or words.pop(0)
        self.dir, self.command, *self.arguments = words
        self.marks = Marks(self.dir, self["name"])
        self.title = f"{self.dir} {self['name']}".rstrip()
        self.log = f"{self.dir}/log/{self.command}"  # without its .log

    def __getitem__(self, option):
        return self.options[option]

    def record(self):
        """What identifies it, one option a line.

        Raises:
            UserError: an input is missing.
        """
        lines = [self.command]
        for word in self.arguments:
            if word.startswith("--"):
                lines.append(word)
            else:
                lines[-1] += f" {word}"
        for path in self["input"]:
            if not os.path.isfile(path):
                raise UserError(f"{path} is missing: run the stage that makes it first")
            lines.append(checksum(path))
        return "\n".join(lines + self["setting"]).rstrip("\n")

    def can_join(self, batch):
        """Whether it can run beside these: it is like them and reads nothing that they write."""
        alike = self["batch"] and all(self["train"] == other["train"] for other in batch)
        return alike and not any(other.marks.path("done") in self["input"] for other in batch)


def main(argv):
    """Do the steps that are declared on standard input, until its end, and return an exit status.

    A request is a number of words and these, each with a NUL after it: of each step the number of
    its words and these. A line answers to ``ANSWERS`` when its steps are done.

    Args:
        argv: the recipe's settings, NAME=VALUE, see `_Recipe`.
    """
    settings = dict(word.split("=", 1) for word in argv)
    recipe = _Recipe(**settings)
    name = os.path.basename(settings["script"])
    os.set_inheritable(ANSWERS, False)
    try:
        for words in _requests(recipe.waiter):
            recipe.do(_steps(words))
            os.write(ANSWERS, b"done\n")
    except Stopped:
        return 130
    except BrokenPipeError:  # nobody reads what is said
        return 128 + signal.SIGPIPE
    except (UserError, OSError) as error:
        trouble = explain(error) if isinstance(error, OSError) else error
        if trouble is None:
            raise
        print(f"{name}: {trouble}", file=sys.stderr)
        return 1
    finally:
        recipe.leave()
    return 0


def _requests(waiter):
    """The words of each request."""
    words, rest = [], b""
    while True:
        while words and len(words) > int(words[0]):
            count = int(words.pop(0))
            yield [os.fsdecode(word) for word in words[:count]]
            del words[:count]
        while not select.select([0], [], [], 0.5)[0]:
            waiter.pause(0)
        block = os.read(0, 65536)
        if not block:
            return
        *more, rest = (rest + block).split(b"\0")
        words += more


def _steps(words):
    words = iter(words)
    for count in words:
        yield Step([next(words) for _ in range(int(count))])


def _log(text):
    line = f"[{time.strftime('%H:%M:%S')}] {text}\n"
    os.write(1, os.fsencode(line))  # at once, and without a rest if nobody reads


class _Recipe:
    """Does the steps of a recipe.

    Args:
        script: path of the recipe's script. pid: the id of its process, the parent of this one.
        python, train_cmd, cuda_cmd, ngpu, num_nodes, max_jobs, expdir: as in the script.
        on_cluster: "true" or "false".
    """

    def __init__(
        self,
        *,
        script,
        pid,
        python,
        train_cmd,
        cuda_cmd,
        ngpu,
        num_nodes,
        max_jobs,
        expdir,
        on_cluster,
    ):
        self.script = script
        self.python = python.split()
        self.train_cmd, self.cuda_cmd = train_cmd, cuda_cmd
        self.ngpu, self.num_nodes = ngpu, num_nodes
        self.is_distributed = int(num_nodes) > 1 or int(ngpu) > 1
        self.max_jobs, self.on_cluster = max_jobs, on_cluster == "true"
        self.me = identity()
        self.host, _, mark = self.me.partition(" ")
        self.waiter = Waiter(int(pid), mark)
        self.batch_dir = f"{expdir}/.batch.{self.host}.{os.getpid()}"
        self.batch = []  # steps that are begun and wait to run side by side
        self.locks = []

    def do(self, steps):
        """Do those that are to be done."""
        for step in steps:
            if self.batch and not step.can_join(self.batch):
                self._run_batch()
            if self._begin(step):
                if step["program"]:
                    self._run_program(step)
                elif step["nj"]:
                    self._run_array(step)
                else:
                    self._put_off(step)
                    if not step["batch"]:
                        self._run_batch()
            if step["tell"]:
                _tell(f"{step.log}.combine.log" if step["nj"] else f"{step.log}.log", step["tell"])
        self._run_batch()

    def leave(self):
        """Remove what only this process needs."""
        self._release_locks()
        _remove_directory(self.batch_dir)

    # --- whether a step is to be done --------------------------------------------------------

    def _begin(self, step):
        """Lock a step that is to be done and mark it as begun; whether it is."""
        record, marks = step.record(), step.marks
        if marks.state(record)[0] == "done":
            _log(f"  {step.title}: done already")
            locks.clear_stale(marks.path("lock"))
            return False
        os.makedirs(step.dir, exist_ok=True)
        self._lock(step)
        state, path = marks.state(record)
        if state == "done":
            _log(f"  {step.title}: done by another script meanwhile")
            locks.release(self.locks.pop())
            return False
        if state == "gone":
            _log(f"  {step.title}: again, as {path} is gone or empty")
        elif state == "begun":
            _log(f"  {step.title}: going on with what was begun")
        elif state == "other" and step["redo"]:
            _log(f"  {step.title}: again, as its settings or inputs changed")
        elif state == "other":
            raise UserError(
                f"{step.dir} was made with other settings ('<' what it has, '>' what is asked):\n"
                + "".join(f"    {line}\n" for line in _differences(read_record(path), record))
                + f"Remove {step.dir} to make it again, or use another tag or directory, or "
                f"remove only\n{path} to keep what is there and go on from it."
            )
        marks.begin(record)
        return True

    def _lock(self, step):
        path = step.marks.path("lock")
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        content = f"{self.me}\nsince {since} by: {self.script}\n"
        holder = locks.take(path, content, self._find_holder)
        if holder is not None:
            raise UserError(
                f"{step.dir}: {holder}; wait for it or stop it. If it has ended (or its machine), "
                f"remove {path}"
            )
        self.locks.append(path)

    def _find_holder(self, content):
        """Who has a lock with this content.

        The jobs of a script that was killed are ending; they save their work: that takes a while.
        """
        holder = locks.holder_of(content)
        if is_gone(holder):
            for line in content.splitlines()[1:]:
                if line.startswith("group "):
                    end_rest(int(line.split()[1]), holder.partition(" ")[2])
            return None
        host, pid, *_ = [*holder.split(), "?", "?"]
        return f"process {pid} on {host} is working on it ({content.rstrip().split(chr(10))[-1]})"

    def _release_locks(self):
        while self.locks:
            locks.release(self.locks.pop())

    # --- running -----------------------------------------------------------------------------

    def _run(self, words):
        """Run a command to its end and return its status; who finds a lock can end it."""

        def note(group):
            for path in self.locks:
                with open(path, "a", encoding="utf-8") as stream:
                    stream.write(f"group {group}\n")

        return self.waiter.run(words, note)

    def _run_program(self, step):
        program = step.command.split()
        try:
            status = self._run(program)
        except OSError as error:
            raise UserError(f"{program[0]}: {error.strerror}") from None
        if status != 0:
            raise UserError(f"{program[0]} failed")
        for name in step["expects"].split():
            path = f"{step.dir}/{name}"
            if not os.path.isfile(path) or os.path.getsize(path) == 0:
                raise UserError(f"{program[0]} wrote no {path}")
        step.marks.finish(step["writes"])
        self._release_locks()

    def _command(self, step):
        words = [*self.python, "-m", f"espnet_tse_ser.bin.{step.command}", *step.arguments]
        return words + step["unrecorded"].split()

    # The wrappers let the job's shell expand words, as Kaldi's do: they get only names of scripts.

    def _run_array(self, step):
        """N jobs and one that puts together what they wrote."""
        nj = step["nj"]
        _log(f"  {step.dir}: {step.command}, {nj} job(s), log in {step.log}.*.log")
        os.makedirs(f"{step.dir}/log", exist_ok=True)
        command = self._command(step)
        job = [*JOB, "--writes", step["writes"], step.dir, step["name"], "false"]
        _write_script(f"{step.log}.sh", command)
        _write_script(f"{step.log}.combine.sh", job + command)
        array = [f"JOB=1:{nj}", f"{step.log}.JOB.log", "bash", f"{step.log}.sh", "--job", "JOB"]
        combine = [f"{step.log}.combine.log", "bash", f"{step.log}.combine.sh", "--combine"]
        for words in (array, combine):
            if self._run([*self.train_cmd.split(), *words, "--nj", nj]) != 0:
                raise UserError(f"{step.dir}: failed ({step.command})")
        self._release_locks()
        _log(f"  {step.dir}: written")

    def _put_off(self, step):
        """Note a step for `_run_batch`."""
        # What an interrupted run wrote is worth keeping.
        if os.path.isfile(f"{step.log}.log"):
            os.replace(f"{step.log}.log", f"{step.log}.previous.log")
        os.makedirs(f"{step.dir}/log", exist_ok=True)
        _log(f"  {step.dir}: {step.command}, log in {self._log_of(step)}")
        self.batch.append(step)

    def _log_of(self, step):
        return f"{step.log}{'.launch' if self._is_launched(step) else ''}.log"

    def _is_launched(self, step):
        return self.is_distributed and bool(step["train"])

    def _run_batch(self):
        """Run what was put off, at most ``max_jobs`` at a time, as one job array."""
        if not self.batch:
            return
        _remove_left_batches(self.batch_dir)
        os.makedirs(self.batch_dir)
        for number, step in enumerate(self.batch, 1):
            self._write_job(f"{self.batch_dir}/{number}", step)
            os.symlink(os.path.abspath(self._log_of(step)), f"{self.batch_dir}/{number}.log")
        array = [f"JOB=1:{len(self.batch)}", f"{self.batch_dir}/JOB.log"]
        self._run([*self._batch_cmd(), *array, "bash", f"{self.batch_dir}/JOB.sh"])
        failed = []
        for step in self.batch:  # its mark tells
            _remove_rendezvous(step.dir)
            if os.path.isfile(step.marks.path("done")):
                _log(f"  {step.dir}: written")
            else:
                failed.append(f"{step.dir} (log in {self._log_of(step)})")
        self.batch = []
        self.leave()
        if failed:
            raise UserError(f"failed: {'; '.join(failed)}")

    def _write_job(self, path, step):
        """Write PATH.sh, which does a step."""
        training = "true" if step["train"] else "false"
        job = [*JOB, "--writes", step["writes"], step.dir, step["name"], training]
        command = self._command(step)
        if step["train"]:
            # Threads are set beside the command, not here: a queue's job script sources path.sh.
            command = ["env", f"OMP_NUM_THREADS={step['train']}", *command]
        if self._is_launched(step):
            _write_script(f"{path}.train.sh", command)
            job += [*self.python, "-m", "espnet2.bin.launch", "--cmd", self.cuda_cmd]
            job += ["--log", f"{step.log}.log", "--ngpu", self.ngpu, "--num_nodes", self.num_nodes]
            job += ["--init_file_prefix", f"{step.dir}/.dist_init_"]
            command = ["--", "bash", f"{path}.train.sh"]
        elif step["train"]:
            # What launch would issue for one process, without the seconds of its import.
            command += ["--ngpu", self.ngpu]
        _write_script(f"{path}.sh", job + command)

    def _batch_cmd(self):
        """The wrapper that runs the batch, with its options."""
        limit = ["--max-jobs-run", self.max_jobs] if self.max_jobs else []
        first = self.batch[0]
        if not first["train"]:
            return [*self.train_cmd.split(), *limit]
        if not self._is_launched(first):
            gpus = ["--gpu", self.ngpu, "--num_threads", first["train"]]
            return [*self.cuda_cmd.split(), *limit, *gpus]
        # launch itself calls cuda_cmd, on this machine, once for each training
        if self.on_cluster:
            limit = ["--max-jobs-run", self.max_jobs or str(len(self.batch))]
        else:
            limit += ["--gpu", self.ngpu]
        return ["run.pl", "--grace", "120", *limit]


def _write_script(path, words):
    """Write a script that becomes this command, with its own arguments after it."""
    import shlex  # takes a while

    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(f'exec {shlex.join(words)} "$@"\n')


def _tell(log, text):
    """Show what the program said in the lines of a log with this text."""
    try:
        with open(log, encoding="utf-8", errors="surrogateescape") as stream:
            lines = [line for line in stream if text in line and " INFO: " in line]
    except OSError:
        return
    for line in lines:
        os.write(1, os.fsencode(f"    {line.partition(' INFO: ')[2]}"))


def _differences(had, asked):
    import difflib  # takes a while

    lines = difflib.unified_diff(had.split("\n"), asked.split("\n"), n=0, lineterm="")
    for line in list(lines)[2:]:  # without its head
        if line[0] in "-+":
            yield f"{'<' if line[0] == '-' else '>'} {line[1:]}"


def _remove_left_batches(mine):
    """Remove the directories of batches whose processes were killed."""
    parent, name = os.path.split(mine)
    os.makedirs(parent, exist_ok=True)
    stem = name.rpartition(".")[0]
    for entry in os.listdir(parent):
        owner, _, pid = entry.rpartition(".")
        if owner == stem and (entry == name or not os.path.isdir(f"/proc/{pid}")):
            _remove_directory(f"{parent}/{entry}")


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
