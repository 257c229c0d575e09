"""Extraction of readers who are enrolled with other utterances of theirs: LibriSpeech at 0 dB.

    python -m bench.read_speech --corpus LibriSpeech --subset test-other NAME=MODEL...

MODEL is a directory of a front-end (stage 6) or of a joint model (stage 11). Each utterance is the
target once, under one of another speaker that is cut or repeated to its length; the enrollment is
another utterance of the target's speaker. Which, and the rest of it, is drawn by ``--seed``.

Prints a table in Markdown, whose intervals are over speakers; with ``--output`` the figures of each
mixture go to a TSV file as well.
"""

import argparse
import sys

import numpy as np

from bench.obedience import extractor_of, named_models
from espnet_tse_ser.audio.reading import read_mono
from espnet_tse_ser.corpora.librispeech import prepare_librispeech
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.metrics.comparison import mean_over
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.report.markdown import number, percent, table

_COLUMNS = ("model", "target", "interferer", "enrollment", "genders", "si_sdri", "wrong_speaker")


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="the directory LibriSpeech")
    parser.add_argument("--subset", default="test-other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="TSV file of all figures")
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    return parser


def main(argv=None):
    """Extract, and print how well."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    trials = draw(prepare_librispeech(args.corpus, (args.subset,)), args.seed)
    rows, models = [], named_models(args.models)
    for name, path in models.items():
        front_end = extractor_of(path)
        rows += [_measure(name, front_end, *trial) for trial in progress(trials, name)]
    titles = ("model", "mixtures", "SI-SDRi, dB", "wrong speaker, %", "of one gender", "of two")
    print(table(titles, [_summary(name, rows) for name in models]))
    if args.output:
        write_tsv(args.output, [{c: row[c] for c in _COLUMNS} for row in rows], _COLUMNS)


def draw(utterances, seed):
    """Who disturbs whom: (target, interferer, enrollment, start) of each utterance.

    The start is a share of what the interferer has more than the target.

    Raises:
        UserError: there is one speaker only, or one of whom there is one utterance.
    """
    random, trials = np.random.default_rng(seed), []
    for target in utterances:
        others = [u for u in utterances if u.spk != target.spk]
        own = [u for u in utterances if u.spk == target.spk and u is not target]
        if not others or not own:
            raise UserError(f"'{target.utt}' needs another utterance of {target.spk}, and others")
        chosen = [group[random.integers(len(group))] for group in (others, own)]
        trials.append((target, *chosen, random.random()))
    return trials


def mix(target, interferer, start):
    """A mixture at 0 dB, and the interferer in it: cut, or repeated, to the target's length."""
    more = len(interferer) - len(target)
    begin = int(start * (more + 1)) if more > 0 else 0
    interferer = np.resize(interferer[begin:], len(target))
    interferer = interferer * np.sqrt(np.square(target).mean() / np.square(interferer).mean())
    return target + interferer, interferer


def _measure(name, front_end, target, interferer, enrollment, start):
    read = [read_mono(u.wav, front_end.rate) for u in (target, interferer, enrollment)]
    mixture, disturbing = mix(*read[:2], start)
    (estimate,) = extract(front_end, [mixture], [read[2]], names=[target.utt])
    return {
        "model": name,
        "speaker": target.spk,
        "target": target.utt,
        "interferer": interferer.utt,
        "enrollment": enrollment.utt,
        "genders": "same" if target.gender == interferer.gender else "different",
        "si_sdri": si_sdr(read[0], estimate) - si_sdr(read[0], mixture),
        "wrong_speaker": int(is_wrong_speaker(estimate, read[0], [disturbing])),
    }


def _summary(name, rows):
    own = [row for row in rows if row["model"] == name]
    gain, interval = _mean(own, "si_sdri")
    cells = [number(gain, 2, interval), percent(*_mean(own, "wrong_speaker", (0, 1)))]
    for genders in ("same", "different"):
        of = [row for row in own if row["genders"] == genders]
        cells.append(
            f"{np.mean([row['si_sdri'] for row in of]):.2f} dB, "
            f"{100 * np.mean([row['wrong_speaker'] for row in of]):.1f} %"
            if of
            else "n/a"
        )
    return (name, len(own), *cells)


def _mean(rows, column, limits=(-np.inf, np.inf)):
    return mean_over([row[column] for row in rows], [row["speaker"] for row in rows], limits)


if __name__ == "__main__":
    sys.exit(run(main))
