"""Processes that are started by one which has threads: no copies of it, which might never end.

A copy (`os.fork`) has the locks of all threads but not the threads, so what one of them held when
it was made stays locked for ever. PyTorch, NumPy and our loaders have threads. A fork server
(`multiprocessing`) has none: it imports once what processes need, and copies itself.
"""

import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker

METHOD = "forkserver"


def start_server(modules, blocked=()):
    """Let all processes that this one starts from now on come from a server, which is started.

    Args:
        modules: names of those that the server imports. blocked: signals that neither it nor any of
            its processes are ended by.
    """
    multiprocessing.set_start_method(METHOD, force=True)
    multiprocessing.set_forkserver_preload(list(modules))
    # The tracker first, which the server would start: Python 3.12 lets signals through again then.
    for ensure_running in (resource_tracker.ensure_running, forkserver.ensure_running):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # processes inherit this
        try:
            ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent():
    """Let this process end when the one that started it has ended or sends it a SIGTERM.

    SIGTERMs of others are not obeyed. For the operating system its parent is the server, which
    stays as long as one of its processes does.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end():
    parent = multiprocessing.parent_process()
    while parent.is_alive():
        received = signal.sigtimedwait([signal.SIGTERM], 1.0)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)
