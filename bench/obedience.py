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
from pathlib import Path

import numpy as np
import torch

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.frontends.extraction import Extraction, load_extraction_model
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.metrics.signal import si_sdr
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.report.markdown import table
from espnet_tse_ser.training.checkpoints import read_config

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
    rows, ids = [], read_ids(args.ids)
    for text in args.models:
        name, equals, path = text.partition("=")
        if not equals:
            raise UserError(f"'{text}': expected NAME=MODEL")
        front_end = _load(path)
        mixtures = MixtureDir(args.data_dir, ids, front_end.rate, scored=True)
        rows += [_measure(name, front_end, mixtures, utt) for utt in progress(ids, name)]
    print(table(_TITLES, [_summary(name, rows) for name in dict.fromkeys(r[0] for r in rows)]))
    if args.output:
        write_tsv(args.output, (dict(zip(_COLUMNS, row, strict=True)) for row in rows), _COLUMNS)


def _load(path):
    config = read_config(path)
    if "ser" in config:
        joint = TSESER.from_pretrained(path)
        return Extraction(joint.model.tse_model, joint.rate)
    return Extraction(*load_extraction_model(Path(path)))


def _measure(name, front_end, mixtures, utt):
    mixture, target = mixtures.audio("mix", utt), mixtures.audio("ref", utt)
    interferer, *more = mixtures.interferers(utt) or [None]
    if interferer is None or more:
        raise UserError(f"{mixtures.directory}: '{utt}' needs one interferer, that is known")
    enrollment = mixtures.audio("enroll", utt)
    active = np.flatnonzero(interferer)
    own = interferer[active[0] : active[-1] + 1]
    usual = _extract(front_end, mixture, enrollment)
    swapped = _extract(front_end, mixture, own)
    alone = _extract(front_end, target, enrollment)
    scores = [si_sdr(reference, usual) for reference in (target, interferer)]
    other = [si_sdr(reference, swapped) for reference in (target, interferer)]
    return (
        name,
        utt,
        scores[0] - si_sdr(target, mixture),
        int(scores[1] > scores[0]),
        int(other[0] > other[1]),
        other[1],
        si_sdr(target, alone),
    )


def _extract(front_end, mixture, enrollment):
    length = torch.tensor([len(mixture)])
    mixtures = torch.from_numpy(mixture)[None]
    return front_end.enhance(mixtures, length, [enrollment])[0].numpy()


def _summary(name, rows):
    values = np.array([row[2:] for row in rows if row[0] == name], np.float64)
    mean = values.mean(axis=0)
    shares = [f"{100 * value:.1f}" for value in mean[1:3]]
    return (
        name,
        str(len(values)),
        f"{mean[0]:.2f}",
        *shares,
        f"{mean[3]:.2f}",
        f"{mean[4]:.1f}",
    )


if __name__ == "__main__":
    sys.exit(run(main))
