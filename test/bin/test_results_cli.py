"""Stage 14: results.json, RESULTS.md and plots on disk."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from declared import SYSTEMS_DIR
from score_tables import LABELS, write_scores

from espnet_tse_ser.bin import results
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv


def arguments(exp, *more):
    directories = [f"--scores_dir={exp}/scores", f"--exp_dir={exp}", f"--output_dir={exp}"]
    return [*directories, f"--systems_dir={SYSTEMS_DIR}", *more]


def shown(exp):
    """Names of the rows of results.json, in their order."""
    results = json.loads((exp / "results.json").read_text())["results"]
    return list(dict.fromkeys(r["system"] for r in results))


def test_outputs(tmp_path):
    write_scores(tmp_path)
    (tmp_path / "tse_x").mkdir()
    (tmp_path / "tse_x/epochs.tsv").write_text("epoch\ttrain_loss\n1\t2.0\n2\t1.0\n")
    (tmp_path / "tse_y").mkdir()
    (tmp_path / "tse_y/epochs.tsv").write_text("epoch\n")
    results.main(arguments(tmp_path))
    first = (tmp_path / "results.json").read_bytes()
    figures = json.loads(first)
    assert set(figures) == {
        *("environment", "labels", "results", "differences", "state_differences", "breakdown"),
        *("wrong_speakers", "scheme", "made_with", "left_out"),
    }
    assert figures["labels"] == LABELS
    assert [(r["system"], r["fold"]) for r in figures["results"]] == [
        (name, fold) for name in ("noisy_noisy", "base") for fold in ("1", "2", "all")
    ]
    names = ("ladder_ua", "confusion_noisy_noisy", "confusion_base", "training_tse_x")
    kinds = ("png", "pdf")
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in kinds
    }
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| date | 20" in text and "| torch |" in text and "(plots/ladder_ua.png)" in text
    results.main(arguments(tmp_path))
    assert (tmp_path / "results.json").read_bytes() == first


def test_every_table_says_how_many_utterances_were_tested(tmp_path):
    dev = "by speaker, 33.3 % of the training side"
    write_scores(tmp_path, scheme="loso", dev=dev, utterances="50")
    results.main(arguments(tmp_path))
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count(f"Scheme loso; dev: {dev}; folds 1, 2 ") > 7
    assert text.count("; 40 of 50 utterances; ") == text.count("Scheme loso; ")
    stamp = json.loads((tmp_path / "results.json").read_text())["scheme"]
    assert (stamp["dev"], stamp["tested"], stamp["utterances"]) == (dev, 40, 50)
    write_scores(tmp_path, utterances="many")
    with pytest.raises(UserError, match="line 2: .*utterances: expected a whole number"):
        results.main(arguments(tmp_path))


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
    with pytest.raises(
        UserError, match="base/default/score_utt.tsv: classes are ang hap, but ang sad"
    ):
        results.main(arguments(tmp_path))
    assert not (tmp_path / "results.json").exists()


def test_nothing_scored(tmp_path):
    with pytest.raises(UserError, match="run the stages before this one"):
        results.main(arguments(tmp_path))


def test_what_made_them(tmp_path):
    made = dict(configuration="a.yaml,b.yaml", scheme="loso", dev="speaker 0.1", commit="abc")
    write_scores(tmp_path, seeds="01", **made)
    results.main(arguments(tmp_path))
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["scheme"]["scheme"] == "loso" and figures["scheme"]["dev"] == "speaker 0.1"
    runs = ("fold1", "fold1_seed1", "fold2", "fold2_seed1")
    for row, name in zip(figures["made_with"], ("noisy_noisy", "base"), strict=True):
        assert (row["system"], row["tag"]) == (name, "default")
        assert {key: row[key] for key in made} == made
        assert list(row["epochs"]) and set(row["epochs"]) <= {*runs, "fold1_seed0", "fold2_seed0"}
        assert len(row["epochs"]) == 4 and set(row["epochs"].values()) == {"1"}
    text = (tmp_path / "RESULTS.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| base | default |"))
    assert line.startswith("| base | default | a.yaml, b.yaml | fold1")
    assert line.endswith(" | loso | speaker 0.1 | abc |")
    assert text.count("Scheme loso; dev: speaker 0.1; ") == text.count("\nScheme ") > 5


@pytest.fixture
def two_tags(tmp_path):
    """Two tags of base, and one of noisy_noisy."""
    write_scores(tmp_path)
    write_scores(tmp_path, systems=["base"], tag="big+default")
    return tmp_path


def test_two_tags_of_a_system_are_two_rows(two_tags):
    results.main(arguments(two_tags))
    assert shown(two_tags) == ["noisy_noisy", "base (big+default)", "base (default)"]
    figures = json.loads((two_tags / "results.json").read_text())
    differences = [(d["system"], d["reference"]) for d in figures["differences"]]
    rows = ["base (big+default)", "base (default)"]
    assert [d for d in differences if d[0] in rows][:2] == [(row, "noisy_noisy") for row in rows]
    text = (two_tags / "RESULTS.md").read_text()
    for tag in ("big+default", "default"):
        assert f"| SB_SC (TSE-SER-base) [{tag}] | denoised | denoised | 40 |" in text
        assert f"| pretrained (base ({tag})) | all | 40 |" in text
        name = f"plots/confusion_base@{tag}.png"  # without blanks, which Markdown does not take
        assert f"]({name})" in text and (two_tags / name).is_file()


def rewrite(path, function):
    rows = function(read_tsv(path))
    write_tsv(path, rows, rows[0])


OTHERS = {
    "utterances": (lambda rows: rows[3:], r"lacks 3 utterance\(s\)"),
    "mixtures": (lambda rows: [r | {"snr_db": "9"} for r in rows], "snr_db is -5.0 in"),
    "seeds": (lambda rows: rows + [r | {"seed": "1"} for r in rows], r"lacks the seed\(s\) 1"),
    "scheme": (
        lambda rows: [r | {"hypothesis_wa": r["hypothesis"]} for r in rows],
        "is of the evaluation scheme best_test_epoch",
    ),
    "damaged": (lambda rows: [r | {"snr_db": "x"} for r in rows], "snr_db: expected a number"),
    "another": (lambda rows: [r | {"tag": "x+y"} for r in rows], "is the table of base/x\\+y"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_row_that_cannot_be_compared(two_tags, kind, caplog):
    function, message = OTHERS[kind]
    rewrite(two_tags / "scores/base/big+default/score_utt.tsv", function)
    asked = "base/default noisy_noisy/default"
    results.main(arguments(two_tags, "--rows", asked))
    assert shown(two_tags) == ["noisy_noisy", "base (default)"]
    text = (two_tags / "RESULTS.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Not shown: ")]
    assert line.startswith("Not shown: base (big+default), which cannot be compared with these: ")
    assert re.search(message, line) and line.endswith(".")
    left_out = json.loads((two_tags / "results.json").read_text())["left_out"]
    assert list(left_out) == ["base (big+default)"] and left_out["base (big+default)"] in line
    assert re.search(f"base .big.default. is not shown: .*{message}", caplog.text)
    # where it is asked for, it is an error
    for more in ([], ["--rows", f"base/big+default {asked}"]):
        with pytest.raises(UserError, match=message):
            results.main(arguments(two_tags, *more))


SCHEMES = {
    "no column": ("best_test_epoch", False, "is of the scheme best_test_epoch, but only tables of"),
    "a column": (
        "loso",
        True,
        "is of the scheme loso, but only tables of best_test_epoch have the",
    ),
    "not stated": (
        "n/a",
        True,
        "is of the scheme n/a, but only tables of best_test_epoch have the",
    ),
    "unknown": ("l", False, "scheme 'l': no such scheme; known: loso, loso_speaker, best_test"),
}


@pytest.mark.parametrize("kind", SCHEMES)
def test_schemes_that_tables_contradict(tmp_path, kind):
    scheme, two_epochs, message = SCHEMES[kind]
    write_scores(tmp_path, scheme=scheme)
    for name in ("base", "noisy_noisy") if two_epochs else ():
        path = tmp_path / f"scores/{name}/default/score_utt.tsv"
        rewrite(path, lambda rows: [r | {"hypothesis_wa": r["hypothesis"]} for r in rows])
    with pytest.raises(UserError, match=f"noisy_noisy/default/score_utt.tsv: {message}"):
        results.main(arguments(tmp_path))


def test_optimistic_results_say_so(tmp_path):
    write_scores(tmp_path, scheme="best_test_epoch")
    new = {"epoch": "3", "epoch_wa": "7"}
    for name in ("base", "noisy_noisy"):
        path = tmp_path / f"scores/{name}/default/score_utt.tsv"
        rewrite(path, lambda rows: [r | {"hypothesis_wa": r["reference"]} | new for r in rows])
    results.main(arguments(tmp_path))
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["scheme"]["optimistic"] is True
    assert {r["wa"] for r in figures["results"]} == {1.0}
    epochs = {epoch for row in figures["made_with"] for epoch in row["epochs"].values()}
    assert epochs == {"3/7"}  # the best in UA, the best in WA
    assert "**Scheme best_test_epoch, optimistic" in (tmp_path / "RESULTS.md").read_text()


def test_rows_that_are_asked_for(two_tags):
    results.main(arguments(two_tags, "--rows", "base/big+default"))
    assert len(shown(two_tags)) == 3  # others are shown where they can be compared
    for rows, message in (
        ("", "--rows is empty; name rows"),
        (
            "ft/default",
            "--rows ft/default: .* has no score_utt.tsv of it; run stage 13 with that system",
        ),
        ("base/default base/more", "--rows base/more: .* has no score_utt.tsv of it"),
    ):
        with pytest.raises(UserError, match=message):
            results.main(arguments(two_tags, "--rows", rows))


def test_a_row_of_another_program(tmp_path):
    """A table of hypotheses, without posteriors, is a row that claims can be about."""
    systems = tmp_path / "systems"
    shutil.copytree(SYSTEMS_DIR, systems)
    (systems / "theirs.yaml").write_text(
        "row: 9\nlabel: Theirs\ntrain: elsewhere\ntest: noisy\nhypotheses: theirs.tsv\n"
        "claims: [{than: noisy_noisy}]\n"
    )
    write_scores(tmp_path)
    path = tmp_path / "scores/theirs/theirs/score_utt.tsv"
    shutil.copytree(tmp_path / "scores/noisy_noisy/default", path.parent)
    new = dict(system="theirs", tag="theirs", train="elsewhere", p_ang="", p_sad="")
    rewrite(path, lambda rows: [r | new | {"hypothesis": r["reference"]} for r in rows])
    results.main(arguments(tmp_path, f"--systems_dir={systems}"))
    assert shown(tmp_path) == ["noisy_noisy", "base", "theirs"]
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["results"][-1]["ua"] == 1
    (claim,) = [d for d in figures["differences"] if d["system"] == "theirs"]
    assert claim["reference"] == "noisy_noisy" and claim["measures"]["ua"]["value"] == 1
    assert "| Theirs | elsewhere | noisy | 40 |" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    "name", ["compare", "preservation", "results", "score", "sweeps_report", "tse_score"]
)
def test_help_imports_nothing_heavy(name):
    program = (
        f"import sys; from espnet_tse_ser.bin.{name} import get_parser; "
        "get_parser().format_help(); heavy = {'numpy', 'scipy', 'torch', 'matplotlib', 'espnet2'}; "
        "sys.exit(str(sorted(heavy & {*sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
