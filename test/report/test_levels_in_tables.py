"""From mixtures with noise at levels of a set, clean among them, to figures by level."""

import math

import numpy as np
import pytest
from declared import ROWS
from metrics_rows import LABELS
from tiny_corpora import FOLDS, write_corpora, write_noise

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.inference.scoring import score
from espnet_tse_ser.metrics import breakdown, joining, tables
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.mixture_set import MixturesInMemory
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.table import write_mixtures
from espnet_tse_ser.report import results
from espnet_tse_ser.report import results_report as report
from espnet_tse_ser.report.stamp import Stamp

SYSTEMS = ("clean_noisy", "noisy_noisy", "base")
LEVELS = ["clean", 10, 0]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The table of mixtures and the score tables of three systems, as stages 2, 8 and 13 do."""
    root = tmp_path_factory.mktemp("levels")
    corpora = write_corpora(root)
    pools = Pool.read(corpora.emo), Pool.read(write_noise(root / "noise"))
    mixtures = draw_mixtures(*pools, Levels("snr", snr_set=LEVELS), seed=0)
    write_mixtures(root / "mixtures.tsv", mixtures)
    tests = tables.read_tests(root / "mixtures.tsv")
    data, rng = MixturesInMemory(mixtures, *pools), np.random.default_rng(0)
    scores = {}
    for m in mixtures:
        estimate = data.audio("mix", m.mixture) * np.float32(0.9)
        estimate += np.float32(0.001) * rng.standard_normal(len(estimate), np.float32)
        described = {"fold": m.fold, "gender_state": "none"}
        described["snr_db"] = "" if m.snr_db is None else str(m.snr_db)
        scores[m.mixture] = {"id": m.mixture} | described | score(data, m.mixture, estimate)
    write_tsv(root / "tse.tsv", scores.values(), tables.TSE_COLUMNS)
    scores = {"default": tables.read_tse_scores(root / "tse.tsv", tests)}
    for name in SYSTEMS:
        hypotheses = {}
        for fold in FOLDS:
            rows = {}
            for utt, mixture in tests[fold].items():
                wrong = mixture["level"] == "0" and name == "clean_noisy"
                label = "neu" if wrong else mixture["emotion"]
                posteriors = {f"p_{x}": str(float(x == label)) for x in LABELS}
                rows[utt] = {"id": utt, "reference": mixture["emotion"], "hypothesis": label}
                rows[utt] |= posteriors
            hypotheses[fold, "0"] = "hyp.tsv", rows
        table = joining.join(ROWS[name], hypotheses, tests, scores)
        columns = tables.score_columns(LABELS, levels="level" in table[0])
        write_tsv(root / "scores" / name / "score_utt.tsv", table, columns)
    return root


@pytest.fixture
def scores(root):
    return {s: tables.read_scores(root / "scores" / s / "score_utt.tsv")[1] for s in SYSTEMS}


def test_the_level_is_a_column(scores):
    for name, rows in scores.items():
        assert {row["level"] for row in rows} == {"clean", "10", "0"} and len(rows) == 30
        for row in rows:
            is_clean = row["level"] == "clean"
            assert (row["snr_db"] is None) == is_clean and row["num_interferers"] == 0
            assert row["overlap"] == (0 if is_clean else 1)
            before, after = row["si_sdr_mix"], row["si_sdr"]
            assert math.isnan(before) == is_clean
            assert math.isnan(after) == (name != "base")
            assert math.isnan(row["si_sdri"]) == (is_clean or name != "base")
            assert math.isnan(row["wrong_speaker"])


def test_figures_by_level(scores):
    systems = {name: ROWS[name] for name in SYSTEMS}
    figures = results.summarise(scores, LABELS, systems)
    pooled = {r["system"]: r for r in figures if r["fold"] == "all"}
    assert pooled["noisy_noisy"]["ua"] == 1 and pooled["clean_noisy"]["ua"] < 1
    assert all(r["by_gender_state"] == {} for r in figures)  # nobody else talks
    noisy = [row for row in scores["base"] if row["level"] != "clean"]
    for column in ("si_sdr_mix", "si_sdr", "si_sdri"):  # of the same utterances
        mean = np.mean([row[column] for row in noisy])
        assert pooled["base"][column] == pytest.approx(mean, abs=1e-5)
    cells = breakdown.break_down(scores, LABELS)
    by_level = [c for c in cells if c["by"] == ["snr_db"]]
    shown = list(dict.fromkeys(c["cell"][0] for c in by_level))
    assert shown == ["0 dB", "10 dB", "clean"]
    for c in by_level:
        wrong = (c["system"], c["cell"]) == ("clean_noisy", ["0 dB"])
        assert (c["wa"] < 1) == wrong
        assert (c["si_sdri"] is None) == (c["system"] != "base" or c["cell"] == ["clean"])
    text = report.render(
        report.Figures(LABELS, figures, systems, breakdown=cells), {}, Stamp("loso")
    )
    assert "| SNR 0 dB |" in text and "| SNR clean |" in text
    assert "by gender state" not in text


def test_tables_that_contradict_one_another(root, tmp_path):
    path = root / "scores/base/score_utt.tsv"
    rows = read_tsv(path)
    number = next(i for i, row in enumerate(rows) if row["level"] == "10")
    for changes, message in (
        ({"level": "loud"}, "level: expected a number, got 'loud'"),
        ({"si_sdr": "", "si_sdri": ""}, "si_sdr is missing for 1 utterance"),
        ({"snr_db": "x"}, "snr_db: expected a number, got 'x'"),
        ({"snr_db": "", "gender_state": "same"}, "interferer_emotions is empty"),
    ):
        changed = [row | changes if i == number else row for i, row in enumerate(rows)]
        write_tsv(tmp_path / "score_utt.tsv", changed, list(rows[0]))
        with pytest.raises(UserError, match=message):
            tables.read_scores(tmp_path / "score_utt.tsv")
    clean = next(row for row in read_tsv(root / "tse.tsv") if not row["snr_db"])
    tests = tables.read_tests(root / "mixtures.tsv")
    write_tsv(tmp_path / "tse.tsv", [clean | {"snr_db": "3"}], tables.TSE_COLUMNS)
    with pytest.raises(UserError, match="snr_db is 3.* but the mixture table says ; the mixtures"):
        tables.read_tse_scores(tmp_path / "tse.tsv", tests)
