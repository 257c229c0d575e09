#!/usr/bin/env python3
"""Run jobs on a Slurm cluster: utils/slurm.pl [options] [JOB=1:N] LOG COMMAND [ARGUMENTS...]"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
from espnet_tse_ser.jobs.slurm import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "slurm.pl"))
