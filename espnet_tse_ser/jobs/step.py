"""A step of a recipe, as a stage declares it.

Imports nothing outside the standard library.
"""

import os

from espnet_tse_ser.configuration import chain
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs.marks import Marks, checksum

JOB = ("python3", "-S", "-m", "espnet_tse_ser.jobs.step_job")


class Step:
    """One step, which writes a directory: ``python -m espnet_tse_ser.bin.COMMAND ARGUMENTS``.

    Args:
        words: its options, the directory, the command and the arguments.

    ==================  ==========================================================================
    --input FILE        it depends on the file's content (may be repeated). It can be another
                        step's .done: then a change upstream is seen everywhere below
    --config FILE       the same of the configuration of a training, and of its bases
    --setting TEXT      a line more that identifies it (may be repeated)
    --writes PATTERNS   files that it leaves in DIR, e.g. "wav.scp utt2*": without one it is done
                        again
    --expects FILES     files without which it has failed, a program's
    --name NAME         tells several steps apart that write into one DIR
    --nj N              ``JOB=1:N`` with ``--job JOB --nj N``, then once ``--combine --nj N``
    --train THREADS     a training: ``cuda_cmd``, --ngpu and --num_threads
    --network           it runs a network: with a GPU, if the recipe has some, by ``cuda_cmd``
    --batch             side by side with those before and after it that are alike
    --unrecorded ARGS   arguments that cannot change the result (jobs, batch size)
    --redo              when the settings differ, simply do it again
    --program           COMMAND is no command of the package but words of a program, which shows
                        what it says and is not run as a job
    --tell PATTERN      show the messages in its log that match this regular expression
    ==================  ==========================================================================

    Raises:
        UserError: an option is not known.
    """

    def __init__(self, words):
        self.options = {
            **{"input": [], "setting": []},
            **dict.fromkeys(("batch", "redo", "network", "program"), False),
            **dict.fromkeys(("writes", "expects", "name", "nj", "train", "unrecorded", "tell"), ""),
        }
        words = list(words)
        while words[0].startswith("--"):
            option = words.pop(0)[2:]
            if option == "config":
                self.options["input"] += chain(words.pop(0))
                continue
            had = self.options.get(option)
            if had is None:
                raise UserError(f"step {' '.join(words)}: there is no option --{option}")
            if isinstance(had, list):
                had.append(words.pop(0))
            else:
                self.options[option] = had is False or words.pop(0)
        self.dir, self.command, *self.arguments = words
        self.marks = Marks(self.dir, self["name"])
        self.mark = self.marks.path("done")
        self.title = f"{self.dir} {self['name']}".rstrip()
        self.log = f"{self.dir}/log/{self.command}"  # without its .log

    def __getitem__(self, option):
        return self.options[option]

    def record(self, stages=""):
        """What identifies it, one option a line.

        Args:
            stages: the table of `stage_that_writes`.

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
                from espnet_tse_ser.jobs.stages import stage_that_writes  # re takes a while

                stage = stage_that_writes(path, stages) or "the stage that makes it"
                raise UserError(f"{path} is missing: run {stage} first")
            lines.append(checksum(path))
        return "\n".join(lines + self["setting"]).rstrip("\n")

    def can_join(self, batch):
        """Whether it can run beside these: it is like them and reads nothing that they write."""
        return all(
            self["batch"]
            and all(self[option] == one[option] for option in ("train", "network"))
            and one.mark not in self["input"]
            for one in batch
        )

    @property
    def job(self):
        """The words that a job does it with, before those of its command."""
        is_training = "true" if self["train"] else "false"
        return [*JOB, "--writes", self["writes"], self.dir, self["name"], is_training]


def read_steps(words):
    """The steps in a list of words: of each the number of its words, then these."""
    words = iter(words)
    for count in words:
        yield Step([next(words) for _ in range(int(count))])
