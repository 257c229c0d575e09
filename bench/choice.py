"""What a choice between both talkers by their voices would be worth, and where it would err.

    python -m bench.choice --data_dir dump/mix --table_dir data/mix --folds "1 2" NAME=MODEL...

MODEL is a directory of a front-end (stage 6), or of joint models (stage 11) with {fold} in it. Of
each mixture of one interferer two estimates are made: with the enrollment of the target, and with
what the first has left of the mixture as the enrollment. Which of them is the target is decided by
the truth, by the pretrained speaker encoder, and by its embeddings after within-class covariance
normalisation (Hatch et al., Interspeech 2006) by the fold's training targets: what emotions and
sentences do to the embeddings of a speaker then counts less.

Prints a table in Markdown, with the errors of the encoder between clean target and interferer too.
"""

import argparse
import functools
import sys

import numpy as np

from bench.obedience import extractor_of, interferer_of, named_models
from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.errors import run
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.inference.voices import Voices
from espnet_tse_ser.metrics.signal import is_wrong_speaker, si_sdr
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.report.markdown import table

_CHOICES = ("no choice", "the truth", "the encoder", "the encoder, normalised")
_TITLES = (
    *("model", "mixtures"),
    *(f"wrong speaker, SI-SDRi: {name}" for name in _CHOICES),
    "clean voices: errors of the encoder, and normalised",
)


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="rendered mixtures of one interferer")
    parser.add_argument("--table_dir", required=True, help="has splits/foldN/{train,dev,test}.lst")
    parser.add_argument("--folds", default="1 2 3 4 5", help="folds to pool")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument(
        "--shrinkage",
        type=float,
        default=0.6,
        help="share of the covariance that is the same in all directions",
    )
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    return parser


def main(argv=None):
    """Extract both talkers, choose, and print how often the choice is wrong."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    models = named_models(args.models)
    rows = {name: [] for name in models}
    for fold in args.folds.split():
        splits = f"{args.table_dir}/splits/fold{fold}"
        ids = read_ids(f"{splits}/{args.split}.lst")
        trained = functools.cache(  # by the rate: models share what they are measured with
            functools.partial(_voices, args.data_dir, f"{splits}/train.lst", args.shrinkage)
        )
        for name, path in models.items():
            front_end = extractor_of(path.replace("{fold}", fold))
            mixtures = MixtureDir(args.data_dir, ids, front_end.rate, scored=True)
            rows[name] += [
                _measure(front_end, *trained(front_end.rate), mixtures, utt)
                for utt in progress(ids, f"{name}, fold {fold}")
            ]
    print(table(_TITLES, [_summary(name, np.array(found)) for name, found in rows.items()]))


def normalisation(embeddings, speakers, shrinkage):
    """Within-class covariance normalisation.

    Args:
        embeddings: ``(N, D)``. speakers: of each, ``(N,)``. shrinkage: see the option.

    Returns:
        the mean ``(D,)``, and ``(D, D)`` that embeddings less the mean are multiplied by.
    """
    embeddings, speakers = np.asarray(embeddings, np.float64), np.asarray(speakers)
    mean = embeddings.mean(axis=0)
    centered = embeddings.copy()
    for speaker in set(speakers):
        centered[speakers == speaker] -= centered[speakers == speaker].mean(axis=0)
    covariance = centered.T @ centered / (len(centered) - len(set(speakers)))
    level = np.trace(covariance) / len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
    return mean, np.linalg.cholesky(np.linalg.inv(covariance))


def _voices(data_dir, list_of_ids, shrinkage, rate):
    """`Voices`, and their `normalisation` by the targets of a list."""
    voices, trained = Voices(rate), MixtureDir(data_dir, read_ids(list_of_ids), rate)
    speakers = read_table(trained.directory / "utt2spk")
    embeddings = voices.embed([trained.audio("ref", utt) for utt in trained.ids])
    return voices, normalisation(embeddings, [speakers[utt] for utt in trained.ids], shrinkage)


def _measure(front_end, voices, projection, mixtures, utt):
    """Wrong speaker and SI-SDRi of each of `_CHOICES`, and errors between clean voices."""
    mixture, target = mixtures.audio("mix", utt), mixtures.audio("ref", utt)
    interferer, enrollment = interferer_of(mixtures, utt), mixtures.audio("enroll", utt)
    (first,) = extract(front_end, [mixture], [enrollment], names=[utt])
    rest = (mixture - first * (mixture @ first) / (first @ first)).astype(np.float32)
    (second,) = extract(front_end, [mixture], [rest], names=[utt])
    signals = [first, second, target, np.trim_zeros(interferer), enrollment]
    embeddings = voices.embed(signals)
    mean, transform = projection
    plain, normalised = (_cosines(e) for e in (embeddings, (embeddings - mean) @ transform))
    wrong = [is_wrong_speaker(estimate, target, [interferer]) for estimate in (first, second)]
    gains = [si_sdr(target, e) - si_sdr(target, mixture) for e in (first, second)]
    chosen = [0, *(int(by[1] > by[0]) for by in (gains, plain, normalised))]
    figures = [figure for which in chosen for figure in (wrong[which], gains[which])]
    return [*figures, plain[3] > plain[2], normalised[3] > normalised[2]]


def _cosines(embeddings):
    """Of each with the last."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit[:-1] @ unit[-1]


def _summary(name, rows):
    means = rows.astype(float).mean(axis=0)
    choices = [f"{100 * w:.1f} %, {gain:.2f} dB" for w, gain in means[:-2].reshape(-1, 2)]
    return (name, len(rows), *choices, " and ".join(f"{100 * error:.1f} %" for error in means[-2:]))


if __name__ == "__main__":
    sys.exit(run(main))
