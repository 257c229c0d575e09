"""The command line of Kaldi's queue wrappers: ``X.pl [options] [JOB=1:N] log command args...``.

Imports nothing outside the standard library: a wrapper has to start at once.
"""

import re
from collections import namedtuple

# Switches that do not take exactly one argument.
_ARGUMENTS = {"-V": 0, "-pe": 2}
_ALIASES = {"tc": "max_jobs_run", "l": "resource"}


class WrapperError(Exception):
    """A wrong command line or environment of a wrapper; the message says what to do."""


class JobArray(namedtuple("_JobArray", "log command name first last options")):  # in no time
    """``command`` for every index in ``first..last``; ``name`` stands for the index.

    ``name`` is None for a single job without an index. ``options`` maps names such as
    ``max_jobs_run`` (dashes made underscores) to their text.
    """

    @property
    def indices(self):
        return range(self.first, self.last + 1)

    def log_of(self, index):
        """Return the log path of job ``index``."""
        return self._substitute(self.log, index)

    def script_of(self, index):
        """Return the bash command line of job ``index``."""
        return " ".join(quote(self._substitute(word, index)) for word in self.command)

    def template(self):
        """Return the bash command line with `name` where the index goes."""
        return " ".join(map(quote, self.command))

    def logs_pattern(self):
        """Return the log path with ``*`` for the index."""
        return self.log.replace(self.name, "*") if self.name else self.log

    def _substitute(self, text, index):
        return text.replace(self.name, str(index)) if self.name else text


def parse_command_line(argv):
    """Parse the words after the wrapper's name into a `JobArray`.

    Options may stand before or after ``JOB=1:N`` (any name, or ``JOB=N``). Unknown ones are
    kept, so that a recipe can pass what only another wrapper understands.

    Raises:
        WrapperError: a word is missing, the range is empty or does not start above 0, or
            several jobs would share one log.
    """
    words = list(argv)
    options = {}
    name, first, last = None, 1, 1
    while words:
        array = re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", words[0])
        if words[0].startswith("-") and words[0] != "-":
            switch = words.pop(0)
            count = _ARGUMENTS.get(switch, 1)
            if len(words) < count:
                raise WrapperError(f"option {switch} needs {count} argument(s)")
            key = switch.lstrip("-").replace("-", "_")
            options[_ALIASES.get(key, key)] = " ".join(words[:count])
            del words[:count]
        elif array and name is None:
            name, first, last = array[1], int(array[2]), int(array[3] or array[2])
            if first < 1:
                raise WrapperError(f"{words[0]}: job numbers start at 1")
            if last < first:
                raise WrapperError(f"{words[0]}: the range is empty")
            words.pop(0)
        else:
            break
    if len(words) < 2:
        raise WrapperError("expected [options] [JOB=1:N] LOG COMMAND [ARGUMENTS...]")
    if "pick" in options:
        raise WrapperError("--pick is not supported: run the failed job numbers as JOB=N instead")
    log, *command = words
    if last > first and name not in log:
        raise WrapperError(
            f"{log}: {last - first + 1} jobs need a log each; put {name} into the log's name"
        )
    return JobArray(log, tuple(command), name, first, last, options)


def quote(word):
    """Quote one word for bash, the way Kaldi does.

    A word without whitespace stays bare, so that ``\\|``, ``\\>`` and ``$x`` act in the job's
    shell. One with whitespace (or an empty one) gets double quotes, or single quotes if it
    contains a double quote.

    >>> print(quote("a b"), quote("$x"), quote(""), quote('say "hi there"'))
    "a b" $x "" 'say "hi there"'
    """
    if re.fullmatch(r"\S+", word):
        return word
    if '"' in word:
        return "'" + word.replace("'", "'\\''") + "'"
    return f'"{word}"'


def number_option(options, name, lowest=0):
    """Return option ``name`` as an int of at least ``lowest``, or None where it is not given.

    Raises:
        WrapperError: it is not such a number.
    """
    text = options.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]+", text) or int(text) < lowest:
        expected = "a number above 0" if lowest else "a number"
        raise WrapperError(f"--{name.replace('_', '-')} {text}: expected {expected}")
    return int(text)
