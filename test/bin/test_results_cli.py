"""Stage 14: results.json, RESULTS.md and plots on disk."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from espnet_tse_ser.bin import results
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics.tables import SIGNAL_COLUMNS, SYSTEMS, score_columns

LABELS = ["ang", "sad"]


def write_scores(exp, labels=LABELS, systems=("noisy_noisy", "base"), seeds="0"):
    rng = np.random.default_rng(0)
    for name in systems:
        rows = []
        for seed, number in itertools.product(seeds, range(40)):
            row = dict(id=f"s{number // 10}-{number:02}", system=name, fold=str(number // 20 + 1))
            row.update(seed=seed)
            row.update(train=SYSTEMS[name].train, test=SYSTEMS[name].test, gender="f")
            row.update(speaker=f"s{number // 10}", gender_state=("same", "different")[number % 2])
            row.update(reference=rng.choice(labels), hypothesis=rng.choice(labels))
            row.update({f"p_{label}": "0.5" for label in labels})
            row.update(dict.fromkeys(SIGNAL_COLUMNS, "1.5" if name == "base" else ""))
            rows.append(row)
        write_tsv(exp / f"scores/{name}/score_utt.tsv", rows, score_columns(labels))


def arguments(exp):
    return [f"--scores_dir={exp}/scores", f"--exp_dir={exp}", f"--output_dir={exp}"]


def test_outputs(tmp_path):
    write_scores(tmp_path)
    (tmp_path / "tse_x").mkdir()
    (tmp_path / "tse_x/epochs.tsv").write_text("epoch\ttrain_loss\n1\t2.0\n2\t1.0\n")
    (tmp_path / "tse_y").mkdir()
    (tmp_path / "tse_y/epochs.tsv").write_text("epoch\n")
    results.main(arguments(tmp_path))
    first = (tmp_path / "results.json").read_bytes()
    figures = json.loads(first)
    assert set(figures) == {"environment", "labels", "results"} and figures["labels"] == LABELS
    assert [(r["system"], r["fold"]) for r in figures["results"]] == [
        (name, fold) for name in ("noisy_noisy", "base") for fold in ("1", "2", "all")
    ]
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        "ladder_ua.png",
        "confusion_noisy_noisy.png",
        "confusion_base.png",
        "training_tse_x.png",
    }
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| date | 20" in text and "| torch |" in text and "(plots/ladder_ua.png)" in text
    results.main(arguments(tmp_path))
    assert (tmp_path / "results.json").read_bytes() == first


def test_several_seeds(tmp_path):
    write_scores(tmp_path, seeds="012")
    results.main(arguments(tmp_path))
    for r in json.loads((tmp_path / "results.json").read_text())["results"]:
        assert r["seeds"] == 3 == len(r["ua_by_seed"])
        assert r["n"] == (40 if r["fold"] == "all" else 20)
    assert "over the seeds, percentage points: noisy" in (tmp_path / "RESULTS.md").read_text()


def test_classes_must_agree(tmp_path):
    write_scores(tmp_path)
    write_scores(tmp_path, ["ang", "hap"], ["base"])
    with pytest.raises(UserError, match="base/score_utt.tsv: classes are ang hap, but ang sad"):
        results.main(arguments(tmp_path))
    assert not (tmp_path / "results.json").exists()


def test_nothing_scored(tmp_path):
    with pytest.raises(UserError, match="run the stages before this one"):
        results.main(arguments(tmp_path))


@pytest.mark.parametrize("name", ["preservation", "results", "score", "tse_score"])
def test_help_imports_nothing_heavy(name):
    program = (
        f"import sys; from espnet_tse_ser.bin.{name} import get_parser; "
        "get_parser().format_help(); heavy = {'numpy', 'scipy', 'torch', 'matplotlib', 'espnet2'}; "
        "sys.exit(str(sorted(heavy & {*sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
