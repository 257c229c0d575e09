"""Prepare a Kaldi data directory from a corpus on disk, or make the mini corpora."""

import argparse
import inspect
import re
import sys

from espnet_tse_ser.corpora.registry import CORPORA
from espnet_tse_ser.errors import run
from espnet_tse_ser.progress import log_to_stderr


def get_parser(names=tuple(CORPORA)):
    """The argument parser: one subcommand a corpus, with its options for those of ``names``."""
    parser = argparse.ArgumentParser(description=__doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, corpus in CORPORA.items():
        own = corpora.add_parser(name, help=corpus.about, formatter_class=_Formatter)
        if name in names:
            _add_options(own, corpus)
    return parser


def main(argv=None):
    """Prepare one corpus."""
    argv = sys.argv[1:] if argv is None else argv
    args = vars(get_parser(argv[:1]).parse_args(argv))
    log_to_stderr()
    from espnet_tse_ser.corpora import write_data_dir

    corpus = CORPORA[args.pop("corpus")]
    if corpus.made:
        corpus.function(**args)
        return
    output_dir = args.pop("output_dir")
    write_data_dir(corpus.function(**args), output_dir)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show a default only where there is one."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default is not None else action.help


def _add_options(parser, corpus):
    """The parameters of a corpus' function, and where to write what it returns."""
    meanings = _meanings(inspect.getdoc(corpus.function))
    for name, parameter in inspect.signature(corpus.function).parameters.items():
        required = parameter.default is parameter.empty
        parser.add_argument(
            f"--{name}",
            type=parameter.annotation.option,
            required=required,
            default=None if required else parameter.default,
            help=meanings[name],
        )
    if not corpus.made:
        parser.add_argument("--output_dir", required=True, help="data directory to write")


def _meanings(text):
    """Name -> what the section Args of a docstring says about it."""
    section = re.search(r"^Args:\n((?: .*\n|\n)*)", f"{text}\n", re.MULTILINE)[1]
    found = re.findall(r"^    (\w+): ((?:.*\n)(?:     +.*\n)*)", section, re.MULTILINE)
    return {n: " ".join(m.split()).replace("%", "%%").replace("``", "") for n, m in found}


if __name__ == "__main__":
    sys.exit(run(main))
