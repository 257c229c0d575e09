"""Errors that a user can repair, and how a command line reports them."""

import errno
import sys


class UserError(Exception):
    """A mistake or a state that the user can repair.

    The message says what is wrong, where (file, id, line, value) and what to do about it.
    Command lines print it as one line without a traceback and exit with status 2.
    """


def run(main, argv=None):
    """Run ``main(argv)`` as a command line and return its exit status.

    A `UserError` becomes one ``error:`` line and status 2; so do a full disk and a place that may
    not be written. Ctrl-C becomes one line and status 130. Anything else is a defect and keeps its
    traceback.
    """
    try:
        return main(argv) or 0
    except UserError as error:
        message = str(error)
        if message.startswith("Caught UserError in DataLoader worker"):  # then a traceback
            message = message.rpartition("UserError: ")[2].strip()
        print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted; nothing unfinished was marked as done", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            print(
                f"error: {error.filename}: {error.strerror}; choose another place", file=sys.stderr
            )
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "the output directory"
        print(
            f"error: no space left on the device while writing {where}; "
            "free some space and run the same command again",
            file=sys.stderr,
        )
        return 2
