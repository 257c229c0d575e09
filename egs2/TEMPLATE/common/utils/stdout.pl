#!/usr/bin/env python3
"""Like run.pl, with the jobs' output on stdout as well as in their logs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
from espnet_tse_ser.jobs.local import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "stdout.pl", echo=True))
