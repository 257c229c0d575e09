"""``conf/slurm.conf``: how a wrapper's options become options of sbatch.

The grammar is that of Kaldi's slurm.pl, one entry a line, ``#`` starts a comment:

    command sbatch --export=ALL      the submission, once
    option mem=* --mem $0            --mem 4G becomes --mem 4G; * is any value, $0 stands for it
    option mem=0                     a certain value goes before *; nothing after it: accepted
    default gpu=0                    as if --gpu 0 had been given
"""

import re
import shlex
from pathlib import Path

from espnet_tse_ser.jobs.command_line import WrapperError

# Options of the wrapper itself; the file need not have them.
BUILT_IN = ("config", "max_jobs_run", "retries", "sync")
_ENTRY = re.compile(r"(command|option|default)\s+(\S.*)")
_SETTING = re.compile(r"([A-Za-z_]\w*)=(\S+)\s*(.*)")


class SlurmConf:
    """The entries of one file.

    Raises:
        WrapperError: the file is missing, or a line is not of the grammar.
    """

    def __init__(self, path):
        self.path = path
        self.command = None
        self.flags = {}  # (option, value or *) -> words
        self.defaults = {}
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise WrapperError(
                f"{path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8')}); copy "
                "conf/slurm.conf from egs2/TEMPLATE/common, or give --config FILE"
            ) from None
        for number, line in enumerate(lines, 1):
            text = re.sub(r"(^|\s)#.*", "", line).strip()
            if text:
                try:
                    self._read(text)
                except ValueError as error:
                    raise WrapperError(f"{path}:{number}: {error}: '{line.strip()}'") from None
        if self.command is None:
            raise WrapperError(f"{path}: no line 'command sbatch ...' says how to submit")

    def _read(self, text):
        entry = _ENTRY.fullmatch(text)
        if not entry:
            raise ValueError("expected 'command', 'option NAME=VALUE' or 'default NAME=VALUE'")
        keyword, rest = entry.groups()
        if keyword == "command":
            if self.command is not None:
                raise ValueError("a second 'command' line")
            self.command = shlex.split(rest)
            return
        setting = _SETTING.fullmatch(rest)
        if not setting or (keyword == "default" and setting[3]):
            raise ValueError(f"expected '{keyword} NAME=VALUE'")
        name, value, flags = setting.groups()
        if keyword == "default":
            self.defaults[name] = value
        else:
            self.flags[name, value] = shlex.split(flags)

    def submission(self, options):
        """Return the words of the submission for ``options``, {name: value}.

        Raises:
            WrapperError: an option, or its value, is not in the file.
        """
        words = list(self.command)
        for name, value in {**self.defaults, **options}.items():
            if (name, value) in self.flags:
                words += self.flags[name, value]
            elif (name, "*") in self.flags:
                words += [word.replace("$0", value) for word in self.flags[name, "*"]]
            elif name not in BUILT_IN:
                raise WrapperError(
                    f"option --{name.replace('_', '-')} {value} is not known to {self.path}; add a "
                    f"line 'option {name}=* --the-flag-of-sbatch $0' (without a flag: ignored)"
                )
        return words
