"""Commands that are run as processes of their own again and again, but import only once.

Each is a fork of a server. It starts as ``python -m`` would and ends as a process does: the whole
of Python's own end belongs to it. Recipes take this file for a Python:

./run.sh --python "python3 -S test/forked_commands.py ADDRESS"

Of their commands only what was registered for the end belongs to it: to tear down all that was
imported takes longer than most of them.
"""

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys

IMPORTS = """
    espnet_tse_ser.bin espnet_tse_ser.inference.recording espnet_tse_ser.tasks.tse_ser torchaudio
    scipy.linalg matplotlib.pyplot
""".split()
PACKAGE = "espnet_tse_ser"
COMMANDS = f"{PACKAGE}.bin."
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class ForkedCommands:
    """The server; it ends with this process, when nobody can write to its input any more.

    Args:
        places: where it looks for modules before it looks where this process does.
    """

    def __init__(self, *places):
        self.address = f"forked_commands.{os.getpid()}.{id(self)}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{self.address}")  # in no directory
            listener.listen()
            path = os.pathsep.join([*places, *sys.path])
            environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
            self.program = subprocess.Popen(
                [sys.executable, "-P", "-c", "import forked_commands as f; f.serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # ESPnet prints something when it is imported
                env=os.environ | environment | {"LISTENER": str(listener.fileno())},
                pass_fds=[listener.fileno()],
            )
        atexit.register(self.end)

    def end(self):
        self.program.stdin.close()
        self.program.wait()

    def python(self):
        """What recipes take for a Python; what is no command of ours is run by a real one."""
        return f"{sys.executable} -S {__file__} {self.address}"

    def start(self, words, log):
        """Start ``python WORDS`` with its output in the file ``log``; returns the process's id."""
        with open(os.devnull) as nothing, open(log, "w") as output:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            self.answers = _ask(self.address, words, files, True)
        return int(next(self.answers))

    def wait(self):
        """The exit status of what was started last, once it has ended; below 0 for a signal."""
        return int(next(self.answers))


@functools.cache
def server():
    """The server of this process's tests."""
    return ForkedCommands()


def python():
    """`ForkedCommands.python` of this process's server."""
    return server().python()


def _ask(address, words, files, whole):
    """Have a command run; gives the lines of the answer: its process's id, then its status.

    ``whole``: the whole of Python's end belongs to it.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"\0{address}")
        request = json.dumps([words, os.getcwd(), dict(os.environ), whole]).encode() + b"\n"
        socket.send_fds(connection, [request[:1]], files)
        connection.sendall(request[1:])
        return connection.makefile()


def main(address, *words):
    """Run a command as if this process were its."""
    if words[0] != "-m" or not (words[1] == PACKAGE or words[1].startswith(COMMANDS)):
        os.execv(sys.executable, [sys.executable, *words])
    answers = _ask(address, words, [0, 1, 2], False)
    process = int(next(answers))
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os.kill(process, number))
    status = int(next(answers))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    sys.exit(status)


def serve():
    """Import what commands do, then fork for each that comes."""
    import gc
    import importlib
    import select

    listener = socket.socket(fileno=int(os.environ["LISTENER"]))
    for module in IMPORTS:
        importlib.import_module(module)
    assert len(os.listdir("/proc/self/task")) == 1
    gc.freeze()
    running = {}  # file that is ready when the process has ended -> the process, whom to tell
    while 0 not in (ready := select.select([0, listener, *running], [], [])[0]):
        for file in ready:
            if file is listener:
                connection, _ = listener.accept()
                process = _fork(connection)
                running[os.pidfd_open(process)] = process, connection
                answer = process
            else:
                process, connection = running.pop(file)
                os.close(file)
                answer = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with contextlib.suppress(OSError):  # who asked has gone
                connection.sendall(b"%d\n" % answer)


def _fork(connection):
    """The process of the command that is asked for."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    words, directory, environment, whole = json.loads("[" + connection.makefile().readline())
    process = os.fork()
    if process == 0:
        _become(words, directory, environment, files, whole)
    for file in files:
        os.close(file)
    return process


def _become(words, directory, environment, files, whole):
    """Be ``python WORDS`` in a directory and an environment."""
    import runpy

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(directory)
    os.environ.update(environment)
    sys.argv[1:] = words[2:]
    try:
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not whole:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(end.code or 0)
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
