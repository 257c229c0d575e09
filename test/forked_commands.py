"""Commands that are run as processes of their own again and again, but import only once.

Each is a fork of this program, `ForkedCommands` its parent. It ends as a command does that Python
was started for: the whole of Python's own end belongs to it.
"""

import importlib
import json
import os
import subprocess
import sys


class ForkedCommands:
    """Runs ``main`` of a module of `espnet_tse_ser.bin`, as often as it is asked to.

    Args:
        name: of the module. imports: names of modules that are imported before.
    """

    def __init__(self, name, *imports):
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.program = subprocess.Popen(
            [sys.executable, __file__, name, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.program.stdin.close()
        self.program.wait()
        self.program.stdout.close()

    def start(self, argv, log):
        """Start the command with its output in the file ``log``; returns the process's id."""
        print(json.dumps([str(log), argv]), file=self.program.stdin, flush=True)
        return int(self.program.stdout.readline())

    def wait(self):
        """The exit status of what was started last, once it has ended; below 0 for a signal."""
        return int(self.program.stdout.readline())


def main():
    """Run what is read, one after the other."""
    name, *imports = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # ESPnet prints something when it is imported
    command = importlib.import_module(f"espnet_tse_ser.bin.{name}")
    for module in imports:
        importlib.import_module(module)
    from espnet_tse_ser.errors import run

    # Not by a buffer: a child would have its own, and read on in it.
    for line in iter(sys.stdin.readline, ""):
        log, argv = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.exit(run(command.main, argv))
        print(child, file=answers, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, file=answers, flush=True)


if __name__ == "__main__":
    main()
