"""Errors that a user can repair, and how a command line reports them."""

import contextlib
import errno
import os
import select
import signal
import sys
import threading

_REMEDIES = {  # of trouble with a path
    errno.EACCES: "choose another place",
    errno.EPERM: "choose another place",
    errno.EROFS: "choose another place",
    errno.EEXIST: "a directory is needed there; move the file or choose another place",
    errno.ENOTDIR: "a part of the path is a file; move it or choose another place",
    errno.EISDIR: "a file is needed there; choose another name",
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOENT: "check the path",
    errno.ELOOP: "the links lead nowhere; correct or remove them",
}


class UserError(Exception):
    """A mistake or a state that the user can repair.

    The message says what is wrong, where (file, id, line, value) and what to do about it.
    Command lines print it as one line without a traceback and exit with status 2. ``details`` are
    further messages, each for a line of its own.
    """

    def __init__(self, message, details=()):
        super().__init__(message)
        self.details = tuple(details)

    def __str__(self):
        return "\n  ".join([super().__str__(), *self.details])


# EX_TEMPFAIL of <sysexits.h>. A job that ends with it is to be put into the queue again.
REQUEUE_STATUS = 75
REQUEUE_HELP = (
    f"SIGTERM and SIGUSR1 end training with status {REQUEUE_STATUS} once its state is saved; the "
    "same command goes on from there."
)


class Requeue(SystemExit):
    """A signal asked the process to end, and the same command will go on from what is saved."""

    def __init__(self):
        super().__init__(REQUEUE_STATUS)


def first_line(error):
    """The first line of an exception's text, or the name of its class where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextlib.contextmanager
def named(names):
    """Let a `UserError` of the body say a name instead of a temporary path.

    Args:
        names: name -> path.
    """
    try:
        yield
    except UserError as error:
        texts = error.args[0], *error.details
        for name, path in names.items():
            texts = [text.replace(str(path), str(name)) for text in texts]
        raise UserError(texts[0], texts[1:]) from None


@contextlib.contextmanager
def deferred_interrupt():
    """Let Ctrl-C wait for the end of the body.

    In a library that calls Python back from C, as libsndfile does to write, it would be lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted = []
    before = signal.signal(signal.SIGINT, lambda *args: noted.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted and callable(before):
            before(*noted[0])
        elif noted:
            signal.raise_signal(signal.SIGINT)


def run(main, argv=None):
    """Run ``main(argv)`` as a command line and return its exit status.

    A `UserError` becomes one ``error:`` line and status 2; so do a full disk and a path that cannot
    be read or written. Ctrl-C becomes one line and status 130. What nobody reads any more
    (``| head -1``) ends it quietly, with the status of SIGPIPE. Anything else is a defect and keeps
    its traceback. `Requeue` ends the process with `REQUEUE_STATUS`.
    """
    try:
        try:
            return main(argv) or 0
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # not when Python ends: there it would be a traceback
    except BrokenPipeError:
        if not any([_nobody_reads(sys.stdout), _nobody_reads(sys.stderr)]):
            raise
        return 128 + signal.SIGPIPE
    except UserError as error:
        message, *details = error.args[0], *error.details
        if message.startswith("Caught UserError in DataLoader worker"):  # then a traceback
            message = message.rpartition("UserError: ")[2].strip()
        _report(message, details)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; nothing unfinished was marked as done", file=sys.stderr)
        return 130
    except OSError as error:
        trouble = explain(error)
        if trouble is None:
            raise
        _report(trouble)
        return 2


def explain(error):
    """What an `OSError` says to a user, in one line; None if it is a defect."""
    if error.errno in _REMEDIES and error.filename is not None:
        return f"{error.filename}: {error.strerror}; {_REMEDIES[error.errno]}"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = error.filename or "the output directory"
    return (
        f"no space left on the device while writing {where}; free some space and run the same "
        "command again"
    )


def _report(message, details=()):
    """Print a line, and one for each of the details, whatever characters names have in them."""
    lines = [
        "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
        for text in (message, *details)
    ]
    print("\n  ".join([f"error: {lines[0]}", *lines[1:]]), file=sys.stderr)


def _nobody_reads(stream):
    """Whether a stream's other end is closed; then what is left for it is thrown away."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError):  # there is no stream, or no file behind it
        return False
    poll = select.poll()
    poll.register(number, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return True
