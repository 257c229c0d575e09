"""Tables of scores on disk, of four speakers and two folds."""

import itertools

import numpy as np
from declared import SYSTEMS

from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics.tables import MADE_WITH, SIGNAL_COLUMNS, score_columns

LABELS = ["ang", "sad"]
SIGNAL = dict(zip(SIGNAL_COLUMNS, ("-0.5", "1", "1.5", "0.6", "0.7", "0"), strict=True))


def write_scores(
    exp, labels=LABELS, systems=("noisy_noisy", "base"), seeds="0", tag="default", **made_with
):
    rng = np.random.default_rng(0)
    for name in systems:
        rows = []
        for seed, number in itertools.product(seeds, range(40)):
            row = dict(id=f"s{number // 10}-{number:02}", system=name, fold=str(number // 20 + 1))
            row.update(seed=seed, epoch="1", tag=tag, **dict.fromkeys(MADE_WITH, "n/a"))
            row.update(made_with)
            row.update(train=SYSTEMS[name].train, test=SYSTEMS[name].test, gender="f")
            row.update(speaker=f"s{number // 10}", gender_state=("same", "different")[number % 2])
            row.update(snr_db=number % 10 - 5, overlap=1, num_interferers=1)
            row.update(interferer_emotions="none")
            row.update(reference=labels[number // 2 % 2], hypothesis=rng.choice(labels))
            row.update({f"p_{label}": "0.5" for label in labels})
            row.update(SIGNAL if name == "base" else dict.fromkeys(SIGNAL_COLUMNS, ""))
            rows.append(row)
        write_tsv(exp / f"scores/{name}/{tag}/score_utt.tsv", rows, score_columns(labels))
