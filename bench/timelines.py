"""Timelines of dialogues whose truth is known: two speakers in turns, one of them enrolled.

    python -m bench.timelines --data_dir dump/mix --ids data/mix/splits/fold1/test.lst NAME=MODEL...

The dialogues are made of the targets of the listed mixtures, alone: two speakers take turns, an
utterance each, with pauses; the same seed makes the same ones. One of the two is enrolled, by the
enrollment of its mixtures, which no dialogue has. Half of the dialogues, where there are such
speakers, are of two of one gender.

Prints a table in Markdown, by gender state. Precision and recall of presence are of frames of 20
ms, of which those of the target's utterances are the right ones. WA is that of the emotions of the
segments found, weighted by their time within the target's utterances.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from bench.obedience import named_models
from espnet_tse_ser.audio.id_list import read_ids, select
from espnet_tse_ser.bin.timeline import add_settings, settings_of
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.inference.recording import Recording
from espnet_tse_ser.inference.timeline import find_parts, settled
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.progress import log_to_stderr, progress
from espnet_tse_ser.report.markdown import table
from espnet_tse_ser.values.numbers import COUNT, SEED

_FRAMES = 50  # a second
_PAUSE = 0.2, 0.8  # s, after each utterance
_TITLES = ("model", "gender", "dialogues", "precision", "recall", "WA of the emotions, %")


def get_parser():
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="rendered mixtures")
    parser.add_argument("--ids", required=True, help="the mixtures, an id a line")
    parser.add_argument("--dialogues", type=COUNT.option, default=30)
    parser.add_argument("--turns", type=COUNT.option, default=16, help="utterances of a dialogue")
    parser.add_argument("--seed", type=SEED.option, default=0, help="of the dialogues")
    add_settings(parser)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    return parser


def main(argv=None):
    """Make dialogues, find the target, and print how well."""
    args = get_parser().parse_args(argv)
    log_to_stderr()
    path = Path(args.data_dir) / "mixtures.tsv"
    chosen = select({m.mixture: m for m in read_mixtures(path)}, read_ids(args.ids), path)
    plans = _plan(list(chosen.values()), args)
    rows = []
    for name, model_dir in named_models(args.models).items():
        model = TSESER.from_pretrained(model_dir)
        if not model.needs_enrollment:
            raise UserError(f"{model_dir}: takes no enrollment; leave it out")
        data = MixtureDir(args.data_dir, list(chosen), model.rate, scored=True)
        found = {}
        for number, plan in enumerate(progress(plans, name)):
            state = "same" if len({mixture.gender for mixture in plan}) == 1 else "different"
            found.setdefault(state, []).append(
                _measure(model, data, plan, [args.seed, number, 1], args)
            )
        rows += [_row(name, state, counts) for state, counts in sorted(found.items())]
    print(table(_TITLES, rows))


def _plan(mixtures, args):
    """The mixtures whose targets a dialogue is made of, in order; the first is the enrolled one."""
    enrollments = {mixture.enrollment for mixture in mixtures}
    by_speaker = {}
    for mixture in {m.target: m for m in mixtures if m.target not in enrollments}.values():
        by_speaker.setdefault((mixture.speaker, mixture.gender), []).append(mixture)
    pairs = {}
    for one, other in itertools.permutations(sorted(by_speaker), 2):
        pairs.setdefault(one[1] == other[1], []).append((one, other))
    if not pairs:
        raise UserError(f"{args.ids}: a dialogue needs utterances of two speakers")
    plans = []
    for number in range(args.dialogues):
        rng = np.random.default_rng([args.seed, number])
        group = pairs[sorted(pairs)[number % len(pairs)]]
        both = [by_speaker[speaker] for speaker in group[rng.integers(len(group))]]
        turns = [both[turn % 2] for turn in range(args.turns)]
        plans.append([own[rng.integers(len(own))] for own in turns])
    return plans


def _measure(model, data, plan, seed, args):
    """Frames right, found and of the target; seconds right and found of its emotions."""
    rng = np.random.default_rng(seed)
    pieces, truth, start = [], [], 0
    for mixture in plan:
        speech = data.audio("ref", mixture.mixture)
        pause = np.zeros(round(rng.uniform(*_PAUSE) * model.rate), np.float32)
        pieces += [speech, pause]
        if mixture.speaker == plan[0].speaker:
            truth.append((start / model.rate, (start + len(speech)) / model.rate, mixture.emotion))
        start += len(speech) + len(pause)
    enrollment = model.enroll([(data.audio("enroll", plan[0].mixture), model.rate, "enrollment")])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "dialogue.wav"
        soundfile.write(path, np.concatenate(pieces), model.rate, subtype="FLOAT")
        settings = settled(model, settings_of(args))
        parts, *_ = find_parts(
            model, Recording(path, model.rate), enrollment, directory, **settings
        )
    is_target, is_found = (np.zeros(start * _FRAMES // model.rate, bool) for _ in range(2))
    for frames, spans in ((is_target, truth), (is_found, [(p.start, p.end) for p in parts])):
        for first, end, *_ in spans:
            frames[round(first * _FRAMES) : round(end * _FRAMES)] = True
    right = seconds = 0.0
    for part, (first, end, emotion) in itertools.product(parts, truth):
        overlap = max(min(part.end, end) - max(part.start, first), 0.0)
        seconds += overlap
        right += overlap * (part.label == emotion)
    return (is_target & is_found).sum(), is_found.sum(), is_target.sum(), right, seconds


def _row(name, state, counts):
    both, found, target, right, seconds = np.sum(counts, axis=0)
    precision, recall, accuracy = both / max(found, 1), both / target, right / max(seconds, 1e-9)
    figures = f"{precision:.2f}", f"{recall:.2f}", f"{100 * accuracy:.0f}"
    return [name, state, str(len(counts)), *figures]


if __name__ == "__main__":
    sys.exit(run(main))
