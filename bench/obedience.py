"""Whom a model extracts: the target, the interferer where that is enrolled, a target alone.

    python -m bench.obedience --data_dir dump/mix --ids data/mix/splits/fold1/test.lst NAME=MODEL...

MODEL is a directory of a front-end (stage 6) or of a joint model (stage 11). Of each mixture three
outputs are made: with the enrollment of the target; with the interferer's own signal as the
enrollment; and of the target alone, with its enrollment. An extractor that has learned which corpus
a voice is of, and not whose it is, gives the target in the second case too.

Prints a table in Markdown; with ``--output`` the figures of each mixture go to a TSV file as well.
"""

import argparse
import sys

import numpy as np

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.inference.model import front_end_of
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.report.markdown import table

_COLUMNS = ("model", "id", "si_sdri", "wrong_speaker", "disobeys", "own_si_sdr", "alone_si_sdr")
_TITLES = (
    "model",
    "mixtures",
    "SI-SDRi, dB",
    "wrong speaker, %",
    "interferer enrolled: still the target, %",
    "SI-SDR of the interferer then, dB",
    "target alone: SI-SDR, dB",
)


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="rendered mixtures of one interferer")
    parser.add_argument("--ids", required=True, help="the mixtures, an id a line")
    parser.add_argument("--output", help="TSV file of all figures")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    return parser


def main(argv=None):
    """Extract, and print whom."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    rows, ids, models = [], read_ids(args.ids), {}
    for name, path in named_models(args.models).items():
        models[name] = extractor_of(path)
    for name, front_end in models.items():
        mixtures = MixtureDir(args.data_dir, ids, front_end.rate, scored=True)
        rows += [_measure(name, front_end, mixtures, utt) for utt in progress(ids, name)]
    print(table(_TITLES, [_summary(name, rows) for name in models]))
    if args.output:
        write_tsv(args.output, rows, _COLUMNS)


def named_models(texts):
    """Name -> model of ``NAME=MODEL`` each; a `UserError` if one is not, or a name is taken."""
    models = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or name in models:
            raise UserError(f"'{text}': expected NAME=MODEL, each of a name of its own")
        models[name] = path
    return models


def extractor_of(path):
    """The front-end of a model; a `UserError` if it takes no enrollment."""
    front_end = front_end_of(path)
    if not front_end.needs_enrollment:
        raise UserError(f"{path}: takes no enrollment that it could obey; leave it out")
    return front_end


def interferer_of(mixtures, utt):
    """The interferer in one of `MixtureDir`; a `UserError` if there is not one, that is known."""
    interferer, *more = mixtures.interferers(utt) or [None]
    if interferer is None or more:
        raise UserError(f"{mixtures.directory}: '{utt}' needs one interferer, that is known")
    return interferer


def _measure(name, front_end, mixtures, utt):
    mixture, target = mixtures.audio("mix", utt), mixtures.audio("ref", utt)
    interferer = interferer_of(mixtures, utt)
    enrollment, own = mixtures.audio("enroll", utt), np.trim_zeros(interferer)
    inputs, enrollments = [mixture, mixture, target], [enrollment, own, enrollment]
    usual, swapped, alone = extract(front_end, inputs, enrollments, names=[utt] * 3)
    return {
        "model": name,
        "id": utt,
        "si_sdri": si_sdr(target, usual) - si_sdr(target, mixture),
        "wrong_speaker": int(is_wrong_speaker(usual, target, [interferer])),
        "disobeys": int(is_wrong_speaker(swapped, interferer, [target])),
        "own_si_sdr": si_sdr(interferer, swapped),
        "alone_si_sdr": si_sdr(target, alone),
    }


def _summary(name, rows):
    own = [row for row in rows if row["model"] == name]
    mean = {key: np.mean([row[key] for row in own]) for key in _COLUMNS[2:]}
    return (
        name,
        str(len(own)),
        f"{mean['si_sdri']:.2f}",
        f"{100 * mean['wrong_speaker']:.1f}",
        f"{100 * mean['disobeys']:.1f}",
        f"{mean['own_si_sdr']:.2f}",
        f"{mean['alone_si_sdr']:.1f}",
    )


if __name__ == "__main__":
    sys.exit(run(main))
