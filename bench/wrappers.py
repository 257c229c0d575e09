"""What run.pl costs a job: 200 one-line jobs through it and through ``xargs -P``, alternately.

    python bench/wrappers.py [--jobs 200] [--rounds 7]

Prints the medians in ms a job, of the clock, and their difference.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN_PL = Path(__file__).parents[1] / "egs2/TEMPLATE/common/utils/run.pl"


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    return parser


def main():
    args = get_parser().parse_args()
    cores = len(os.sched_getaffinity(0))
    seconds = {"run.pl": [], "xargs": []}
    with tempfile.TemporaryDirectory() as directory:
        commands = {
            "run.pl": [sys.executable, RUN_PL, "--max-jobs-run", str(cores), f"JOB=1:{args.jobs}"]
            + [f"{directory}/JOB.log", "echo", "JOB"],
            "xargs": ["bash", "-c", f"seq {args.jobs} | xargs -P {cores} -I@ bash -c "]
            + ["'echo @ >{directory}/@.txt'"],
        }
        commands["xargs"][2:] = ["".join(commands["xargs"][2:]).replace("{directory}", directory)]
        for _ in range(args.rounds):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, check=True)
                seconds[name].append(time.perf_counter() - start)
    each = {name: 1000 * statistics.median(s) / args.jobs for name, s in seconds.items()}
    print(f"{args.jobs} jobs, {cores} at a time, medians of {args.rounds} rounds, ms a job:")
    for name, ms in each.items():
        print(f"  {name:8} {ms:6.2f}")
    print(f"  run.pl costs {each['run.pl'] - each['xargs']:.2f} ms a job above the commands")


if __name__ == "__main__":
    main()
