"""The fuzz: seeded inputs of every family, each run in a process of its own and judged.

PYTHONPATH=.:test python test/fuzz/fuzz_run.py --cases 5000 --save failures    counts outcomes
PYTHONPATH=.:test python test/fuzz/fuzz_run.py --only tables:1234    one of them, with its output
"""

import argparse
import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import fuzz_audio
import fuzz_options
import fuzz_tables
import fuzz_weights
import fuzz_world
import fuzz_yaml
from fuzz_set import FileSet
from fuzz_verdict import FAILURES, judge

FAMILIES = {
    "tables": fuzz_tables.draw,
    "yaml": fuzz_yaml.draw,
    "weights": fuzz_weights.draw,
    "audio": fuzz_audio.draw,
    "options": fuzz_options.draw,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=400, help="inputs, of all families")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--probes", nargs="+", help="only these")
    parser.add_argument("--only", nargs="+", default=[], metavar="FAMILY:NUMBER")
    parser.add_argument("--save", type=Path, help="directory for the failures")
    parser.add_argument("--report", type=Path, help="JSON file for the counts and failures")
    parser.add_argument("--verbose", action="store_true", help="a line for each case")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz.") as directory:
        files = FileSet(Path(directory))
        files.make()
        made = time.monotonic() - start
        probes = [p for p in fuzz_world.PROBES if not args.probes or p.name in args.probes]
        files.know(probes)
        if args.verbose:
            for name, known in files.known.items():
                print(f"{name}: {known.cpu:.2f} s, reads {' '.join(known.reads)}", file=sys.stderr)
        print(f"made in {made:.1f} s, {len(probes)} probes known in "
              f"{time.monotonic() - start - made:.1f} s", file=sys.stderr)  # fmt: skip
        report = run_cases(files, probes, args)
    report["seconds"] = round(time.monotonic() - start, 1)
    if args.report:
        args.report.write_text(json.dumps(report, indent=1))
    for family, counts in report["counts"].items():
        print(f"{family}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    print(f"{len(report['failures'])} failures, {report['seconds']} s")
    return int(bool(report["failures"]))


def run_cases(files, probes, args):
    """Run all cases: counts by family and outcome, and the failures."""
    counts, failures = collections.defaultdict(collections.Counter), []
    spent = collections.defaultdict(list)
    for family, number in _wanted(args):
        rng = random.Random(f"{args.seed}:{family}:{number}")
        case = FAMILIES[family](rng, files, probes)
        files.prepare(case.probe)
        with files.changed(case.changes):
            argv = case.argv or case.probe.argv(files.root, files.out)
            ending = files.run(case.probe, argv, case.stdin, case.environment)
            outcome, why = judge(case, ending, files.known[case.probe.name], files)
        counts[family][outcome] += 1
        spent[case.probe.name].append(ending.cpu)
        failed = outcome in FAILURES
        if failed:
            failures.append(
                {
                    **{"case": f"{family}:{number}", "seed": args.seed, "outcome": outcome},
                    **{"why": why, "probe": case.probe.name, "what": case.what},
                }
            )
            if args.save:
                _save(args.save / f"{family}.{number}", case, argv, ending, outcome, why)
        if failed or args.verbose or args.only:
            why = why.encode("unicode_escape").decode()
            print(f"{family}:{number} {outcome} | {case.probe.name} | {case.what} | {why} | "
                  f"{ending.cpu:.2f} s", file=sys.stderr)  # fmt: skip
        if args.only:
            print(argv, ending.out, ending.err, sep="\n")
    if args.verbose:
        spent = sorted(spent.items(), key=lambda item: -sum(item[1]))
        for name, seconds in spent:
            print(f"{name}: {len(seconds)} cases, {sum(seconds):.1f} s", file=sys.stderr)
    return {"counts": {f: dict(c) for f, c in counts.items()}, "failures": failures}


def _wanted(args):
    if args.only:
        return [(f, int(n)) for f, _, n in (word.partition(":") for word in args.only)]
    share = args.cases // len(args.families)
    return [(family, number) for number in range(share) for family in args.families]


def _save(directory, case, argv, ending, outcome, why):
    directory.mkdir(parents=True, exist_ok=True)
    text = f"{outcome}: {why}\n{case.what}\npython -m espnet_tse_ser.bin.{case.probe.command} "
    (directory / "case.txt").write_text(
        text + " ".join(map(repr, argv)) + "\n", errors="surrogateescape"
    )
    (directory / "stderr").write_text(ending.err)
    (directory / "stdout").write_text(ending.out)
    for name, value in case.changes.items():
        if isinstance(value, bytes):
            (directory / name.replace("/", "+")).write_bytes(value)


if __name__ == "__main__":
    sys.exit(main())
