"""Rows of score tables as `tables.read_scores` gives them."""

import numpy as np
from declared import ROWS, SYSTEMS

from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS

LABELS = ["ang", "hap", "neu", "sad"]
ACCURACY = dict(
    clean_clean=0.8, clean_noisy=0.45, noisy_noisy=0.5, clean_denoised=0.55, base=0.65, ft=0.75
)


def make_scores(names=tuple(SYSTEMS), speakers=10, utterances=24, seed="0"):
    """Rows of each system: 5 folds of 2 speakers, both gender states."""
    scores = {}
    for name in names:
        rng = np.random.default_rng([int(seed), list(SYSTEMS).index(name)])
        rows = []
        for number in range(speakers * utterances):
            speaker = number // utterances
            reference = LABELS[number % 4]
            correct = rng.random() < ACCURACY[name]
            extracts = SYSTEMS[name].test in ("denoised", "joint")
            before, after = rng.normal(0, 3), rng.normal(8, 3)
            values = (before, after, after - before, 0.6, 0.8, float(rng.random() < 0.1))
            signal = dict.fromkeys(SIGNAL_COLUMNS, float("nan"))
            if extracts:
                signal = dict(zip(SIGNAL_COLUMNS, values, strict=True))
            rows.append(
                dict(
                    id=f"s{speaker:02}-{number:04}",
                    speaker=f"s{speaker:02}",
                    gender="fm"[speaker % 2],
                    fold=str(speaker // 2 + 1),
                    seed=seed,
                    gender_state=("same", "different")[number // 4 % 2],
                    snr_db=(-7.0, -1.0, 0.0, 9.0)[number // 8 % 4],
                    overlap=(0.5, 1.0)[number // 3 % 2],
                    num_interferers=1,
                    interferer_emotions=("ang", "neu")[number // 5 % 2],
                    reference=reference,
                    hypothesis=reference if correct else str(rng.choice(LABELS)),
                    **signal,
                )
            )
        scores[name] = rows
    return scores


def rows_of(scores):
    """The `Row` of each system of some scores."""
    return {name: ROWS[name] for name in scores}
