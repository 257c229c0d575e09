"""Measure this package against its competitors and write bench/RESULTS.md, section by section.

python -m bench.run                     # everything
python -m bench.run --only extractor    # one section; the others stay as they are
"""

import argparse
import importlib
import logging
import sys
from pathlib import Path

from bench.report import provenance, replace_section
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.progress import log_to_stderr

SECTIONS = ("extractor", "asteroid", "joint", "blstm", "simulation", "startup", "data_wait")


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some sections (see --list)")
    parser.add_argument("--list", action="store_true", help="list the sections and stop")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default 7)")
    parser.add_argument("--output", default=str(Path(__file__).parent / "RESULTS.md"))
    return parser


def main(argv=None):
    """Measure and write; a section that fails is reported, left as it was, and makes status 1."""
    args = get_parser().parse_args(argv)
    if args.list:
        for name in SECTIONS:
            print(f"{name:12} {title(name)}")
        return 0
    names = args.only or SECTIONS
    for name in names:
        if name not in SECTIONS:
            raise UserError(f"--only {name}: no such section; there are {', '.join(SECTIONS)}")
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: must be 1 or more")
    log_to_stderr()
    status = 0
    for name in names:
        module = importlib.import_module(f"bench.{name}")
        measured = provenance(args.rounds)
        try:
            text = module.section(args.rounds)
        except UserError as error:
            logging.error("%s: %s; its section stays as it was", name, error)
            status = 1
            continue
        except Exception:  # a defect of one section is no reason to lose hours of others
            logging.exception("%s failed; its section stays as it was", name)
            status = 1
            continue
        about = module.__doc__.strip()
        replace_section(args.output, name, f"{about}\n\n{measured}\n\n{text}", SECTIONS)
        logging.info("%s: wrote %s", name, args.output)
    return status


def title(name):
    """The first line of a module's documentation, without importing it."""
    return (Path(__file__).parent / f"{name}.py").read_text().split('"""')[1].splitlines()[0]


if __name__ == "__main__":
    sys.exit(run(main))
