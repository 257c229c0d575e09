"""How often 95 % intervals hold the truth, and how often a test at 5 % finds what is not there.

    python bench/intervals.py [--tables 4000] [--resamples 500] [--seed 0]

Simulates score tables of speakers who differ (test/simulated_tables.py), whose true WA, UA,
macro-F1 and mean SI-SDRi are known. Prints, for every regime, the coverage of the package's
intervals, of the percentile bootstrap over speakers and over utterances, and the rate of false
positives of the package's paired test and, for comparison, of a t test on the same differences.
A rate of n tables has a standard error of sqrt(p (1 - p) / n).
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import stdtr

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("test", ".")]

from simulated_tables import Regime, simulate, true_measures  # noqa: E402

from espnet_tse_ser.metrics.comparison import difference_scores, sign_flip_p  # noqa: E402
from espnet_tse_ser.metrics.intervals import jackknife  # noqa: E402
from espnet_tse_ser.metrics.speaker_totals import (  # noqa: E402
    MEASURES,
    confusions_of,
    intervals,
    measures_of,
)

ALIKE = Regime(accuracies=((0.55, 0.5, 0.7, 0.6),) * 2)
REGIMES = {
    "24 speakers": ALIKE,
    "24, systems unlike": Regime(
        accuracies=((0.4, 0.5, 0.7, 0.8), (0.8, 0.7, 0.5, 0.4)), shares=(0.25,) * 4
    ),
    "24, speakers very unlike": replace(ALIKE, speaker=0.25, speaker_class=0.2, speaker_system=0.1),
    "24, 9 utterances each": replace(ALIKE, utterances=9),
    "24, 3 seeds": replace(ALIKE, seeds=3),
    "24, UA 0.97": replace(ALIKE, accuracies=((0.97, 0.96, 0.98, 0.97),) * 2),
    "24, UA 0.995": replace(ALIKE, accuracies=((0.995,) * 4,) * 2),
    "10 speakers": replace(ALIKE, speakers=10, utterances=100),
    "10, UA 0.97": replace(ALIKE, speakers=10, accuracies=((0.97, 0.96, 0.98, 0.97),) * 2),
    "5 speakers": replace(ALIKE, speakers=5, utterances=60),
    "5, UA 0.97": replace(ALIKE, speakers=5, accuracies=((0.97, 0.96, 0.98, 0.97),) * 2),
}


def get_parser():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=4000, help="simulated for each regime")
    parser.add_argument("--resamples", type=int, default=500, help="of a bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def percentile_over_speakers(rng, totals, resamples):
    size = len(totals)
    weights = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
    return np.nanpercentile(measures_of(weights @ totals), [2.5, 97.5], axis=0)


def percentile_over_utterances(rng, totals, resamples):
    """As if utterances were independent: draws cells of the pooled confusion matrix."""
    confusion = confusions_of(totals)[:, 0].sum(0).ravel()
    size = round(confusion.sum())
    drawn = rng.multinomial(size, confusion / confusion.sum(), size=resamples)
    signal = np.full((resamples, 2), np.nan)  # their SI-SDRi are not kept
    measures = measures_of(np.concatenate([drawn, drawn, signal], axis=1))
    return np.nanpercentile(measures[:, :3], [2.5, 97.5], axis=0)


def student_p(totals, reference):
    pairs = np.stack([totals, reference], axis=1)

    def difference(t):
        values = measures_of(t)
        return values[..., 0, :] - values[..., 1, :]

    size = len(totals)
    estimate, influence = jackknife(pairs, difference)
    error = np.sqrt(size / (size - 1) * (influence**2).sum(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, 2 * stdtr(size - 1, -np.abs(estimate) / error), 1.0)


def measure(regime, tables, resamples, seed):
    """Rates in %, name -> ``(4,)``: WA, UA, macro-F1, SI-SDRi."""
    rng = np.random.default_rng(seed)
    truth = true_measures(regime)[0]
    hits = dict.fromkeys(("interval", "bootstrap", "bootstrap of utterances", "test", "t test"), 0)
    for number, (totals, other) in enumerate(simulate(regime, tables, seed)):
        low, high = intervals(totals)
        hits["interval"] += (low <= truth) & (truth <= high)
        low, high = percentile_over_speakers(rng, totals, resamples)
        hits["bootstrap"] += (low <= truth) & (truth <= high)
        low, high = percentile_over_utterances(rng, totals, resamples)
        held = (low <= truth[:3]) & (truth[:3] <= high)
        hits["bootstrap of utterances"] += np.append(held, np.nan)
        hits["test"] += sign_flip_p(difference_scores(totals, other), 999, number) <= 0.05
        hits["t test"] += student_p(totals, other) <= 0.05
    return {name: 100 * np.asarray(count) / tables for name, count in hits.items()}


def main():
    args = get_parser().parse_args()
    heading = ["regime", "", "WA", "UA", "macro-F1", "SI-SDRi"]
    assert len(heading) == 2 + len(MEASURES)
    print(
        f"{args.tables} tables a regime; coverage of 95 % intervals, false positives at 5 %, in %"
    )
    print("| " + " | ".join(heading) + " |\n" + "|---" * len(heading) + "|")
    for name, regime in REGIMES.items():
        for what, rates in measure(regime, args.tables, args.resamples, args.seed).items():
            cells = ["" if np.isnan(rate) else f"{rate:.1f}" for rate in rates]
            print(f"| {name} | {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
