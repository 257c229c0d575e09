"""Locks: files that say who works on a directory, so that nobody else does.

The first line is "HOST PID START" (see `lifetime.identity`), perhaps with more after a ``|``.
Imports nothing outside the standard library.
"""

import contextlib
import os
import time

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.jobs.lifetime import is_gone


def take(path, content, find_holder, seconds=0, tell=None):
    """Make the lock ``path``, unless somebody has it.

    Args:
        content: str, of the lock. find_holder: function of the content of one that is in the way;
            returns who works there, or None if nobody does any more: that lock is replaced.
        seconds: to wait for the holder to end. tell: called with the holder, once, when waiting.

    Returns:
        None, or who has it.

    Raises:
        UserError: it cannot be written.
    """
    mine = f"{path}.{os.getpid()}"
    end = time.monotonic() + seconds
    try:
        with open(mine, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(content)
        while not _link(mine, path):
            found = _read(path)
            if found is None:  # it has just gone
                continue
            holder = find_holder(found)
            if holder is None:
                _drop(path, found)
                continue
            if time.monotonic() >= end:
                return holder
            if tell is not None:
                tell(holder)
                tell = None
            time.sleep(1)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be made ({error.strerror}): make room, or choose another place"
        ) from None
    finally:
        release(mine)
    clear_stale(path)
    return None


def release(path):
    """Remove a lock of one's own."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def clear_stale(path):
    """Remove what processes that were killed have left of a lock."""
    directory, own = os.path.split(path)
    for name in os.listdir(directory or "."):
        if name != own and not name.startswith(f"{own}."):
            continue
        left = os.path.join(directory, name)
        content = _read(left)
        if content is not None and is_gone(holder_of(content)):
            release(left)


def holder_of(content):
    """ "HOST PID START" of a lock's content."""
    return content.partition("\n")[0].partition("|")[0]


def _link(mine, path):
    """Whether ``mine`` has become ``path`` too: of several who try one succeeds."""
    try:
        os.link(mine, path)
    except FileExistsError:
        return False
    return True


def _drop(path, content):
    """Remove a lock that was seen to be stale.

    Of several who see that one moves it; what is not stale any more is put back.
    """
    stale = f"{path}.{os.getpid()}.stale"
    try:
        os.rename(path, stale)
    except FileNotFoundError:
        return
    if _read(stale) != content:
        with contextlib.suppress(OSError):
            os.link(stale, path)
    release(stale)


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
