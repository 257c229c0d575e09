"""Run a module as a command until a PyTorch data loader is asked for its first batch.

python -m bench.until_data espnet_tse_ser.bin.tse_train --config ...
"""

import os
import runpy
import sys


def main():
    """Status 0 once data is asked for, 1 if the command ends without."""
    # Every training imports it anyway; the time to do so counts.
    from torch.utils.data import DataLoader

    def stop(loader):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    DataLoader.__iter__ = stop
    sys.argv = sys.argv[1:]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        print(f"{sys.argv[0]} ended with {error.code} before it read data", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
