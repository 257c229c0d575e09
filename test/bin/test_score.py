"""Stage 13: joining the hypotheses of all systems."""

import shutil

import pytest
from declared import SYSTEMS_DIR

from espnet_tse_ser.bin import score
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.metrics.tables import (
    MIXTURE_COLUMNS,
    SIGNAL_COLUMNS,
    TABLE_COLUMNS,
    TSE_COLUMNS,
    read_scores,
)
from espnet_tse_ser.report.stamp import commit_of

SIGNAL = dict(zip(SIGNAL_COLUMNS, ("0.1", "4.1", "4.0", "0.6", "0.7", "0"), strict=True))
HYP_COLUMNS = ("id", "reference", "hypothesis", "p_ang", "p_sad")


@pytest.fixture
def experiment(tmp_path):
    """Two folds of two utterances; clean_clean, base and ft recognised."""
    emotions = {"s1-a": "ang", "s1-b": "sad", "s2-a": "ang", "s2-b": "sad"}
    table = [
        dict(mixture=u, speaker=u[:2], gender="m", emotion=e, gender_state="same", fold=u[1])
        | dict(snr_db="1.5", overlap="0.75", interferer_emotions="sad,none")
        for u, e in emotions.items()
    ]
    write_tsv(tmp_path / "mix/mixtures.tsv", table, TABLE_COLUMNS)
    for fold, other in ("12", "21"):
        sides = {
            "train": [f"s{other}-a"],
            "dev": [f"s{other}-b"],
            "test": [f"s{fold}-a", f"s{fold}-b"],
        }
        for side, ids in sides.items():
            path = tmp_path / f"mix/splits/fold{fold}/{side}.lst"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{uid}\n" for uid in ids))
    tse = [dict(id=u, fold=u[1], gender_state="same", snr_db="1.50", **SIGNAL) for u in emotions]
    write_tsv(tmp_path / "tse.tsv", tse, TSE_COLUMNS)
    for system in ("clean_clean", "base", "ft"):
        extra = SIGNAL if system == "ft" else {}
        for fold in "12":
            rows = [
                dict(id=u, reference=e, hypothesis="ang", p_ang="0.9", p_sad="0.1", **extra)
                for u, e in emotions.items()
                if u[1] == fold
            ]
            path = tmp_path / f"scores/{system}/default/fold{fold}/hyp.tsv"
            write_tsv(path, rows, [*HYP_COLUMNS, *extra])
    return tmp_path


def arguments(directory, *more):
    paths = [f"--scores_dir={directory}/scores", f"--table_dir={directory}/mix"]
    paths += [f"--tse_scores=default={directory}/tse.tsv", f"--systems_dir={SYSTEMS_DIR}"]
    return [*paths, *more]


def rows_of(*names):
    """The options of some rows."""
    return [word for name in names for word in ("--row", name, f"conf/{name[:2]}.yaml")]


def test_every_system_gets_its_table(experiment, caplog):
    caplog.set_level("INFO")
    score.main(arguments(experiment, "--folds", "1 2"))
    line = "4 utterances, folds 1 2, seeds 0; all figures pool them, none is a mean over folds"
    assert caplog.text.count(line) == 3
    for system in ("clean_clean", "base", "ft"):
        rows = read_tsv(experiment / f"scores/{system}/default/score_utt.tsv")
        assert [row["id"] for row in rows] == ["s1-a", "s1-b", "s2-a", "s2-b"]
        assert {row["system"] for row in rows} == {system}
        assert rows[1]["reference"] == "sad" and rows[1]["fold"] == "1"
        assert [rows[1][c] for c in MIXTURE_COLUMNS] == ["1.5", "0.75", "2", "sad,none"]
        assert "hypothesis_wa" not in rows[0]
        assert rows[0]["si_sdri"] == ("" if system == "clean_clean" else "4.0")


def test_one_fold(experiment):
    score.main(arguments(experiment, "--folds", "2"))
    rows = read_tsv(experiment / "scores/ft/default/score_utt.tsv")
    assert [row["id"] for row in rows] == ["s2-a", "s2-b"]


def test_no_fold(experiment):
    with pytest.raises(UserError, match="--folds is empty; name folds"):
        score.main(arguments(experiment, "--folds", ""))


def test_an_error_writes_nothing(experiment, capsys):
    path = experiment / "scores/ft/default/fold2/hyp.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert run(score.main, arguments(experiment)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"error: {path}: ft, fold 2, seed 0: has no hypothesis for")
    assert "s2-b" in message
    assert not list(experiment.glob("scores/*/*/score_utt.tsv"))


def test_further_seeds(experiment):
    for path in sorted(experiment.glob("scores/*/*/fold*")):
        shutil.copytree(path, f"{path}_seed7")
    score.main(arguments(experiment, "--seed", "3", "--seeds", "7"))
    rows = read_tsv(experiment / "scores/ft/default/score_utt.tsv")
    assert [(row["id"], row["fold"], row["seed"]) for row in rows] == [
        (uid, uid[1], seed) for uid in ("s1-a", "s1-b", "s2-a", "s2-b") for seed in "37"
    ]
    score.main(arguments(experiment))  # what is not asked for is left out
    rows = read_tsv(experiment / "scores/ft/default/score_utt.tsv")
    assert {row["seed"] for row in rows} == {"0"} and len(rows) == 4
    path = experiment / "scores/base/default/fold2_seed7/hyp.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=f"{path}: base, fold 2, seed 7: has no .*s2-b"):
        score.main(arguments(experiment, "--seeds", "7"))
    with pytest.raises(UserError, match="clean_clean/default/fold1_seed8/hyp.tsv: no such table"):
        score.main(arguments(experiment, "--seeds", "7 8"))


@pytest.mark.parametrize(
    "seeds, message",
    [
        ("1 0", "seed 0 is there twice .that of --seed is 0.; name each further seed once"),
        ("2 1 2", "seed 2 is there twice"),
        ("0", "seed 0 is there twice"),
        ("1,01", "seed 1 is there twice"),
    ],
)
def test_wrong_seeds(experiment, seeds, message):
    with pytest.raises(UserError, match=message):
        score.main(arguments(experiment, "--seeds", seeds))


def test_missing_fold_and_other_classes(experiment):
    path = experiment / "scores/ft/default/fold2/hyp.tsv"
    path.write_text(path.read_text().replace("p_sad", "p_hap"))
    with pytest.raises(UserError, match="reference 'sad' is not one of the classes ang hap"):
        score.main(arguments(experiment))
    path.write_text(path.read_text().replace("sad", "ang"))
    with pytest.raises(UserError, match="classes are ang hap, but ang sad"):
        score.main(arguments(experiment))
    path.unlink()
    with pytest.raises(UserError, match="ft/default/fold2/hyp.tsv: no such table"):
        score.main(arguments(experiment))


def test_denoised_systems_need_tse_scores(experiment):
    with pytest.raises(UserError, match="no signal scores .*run stage 8"):
        score.main([a for a in arguments(experiment) if not a.startswith("--tse_scores")])


def test_only_what_is_asked_for(experiment):
    score.main(arguments(experiment))
    tables = {p.parent: p.read_bytes() for p in experiment.glob("scores/*/*/score_utt.tsv")}
    assert {p.parent.name for p in tables} == {"clean_clean", "base", "ft"}
    score.main(arguments(experiment, *rows_of("ft/default", "base/default")))
    for directory, before in tables.items():  # no other row's table is touched
        changed = (directory / "score_utt.tsv").read_bytes() != before
        assert changed == (directory.parent.name in ("base", "ft"))
    with pytest.raises(UserError, match="noisy_noisy/default/fold1/hyp.tsv"):
        score.main(arguments(experiment, *rows_of("noisy_noisy/default", "ft/default")))
    for wrong, message in (
        (["best/default"], "--row best/default: no system 'best'; known: clean_clean clean_noisy"),
        (["ft"], "--row ft: no tag; give ft/TAG"),
        (["ft/"], "--row ft/: no tag; give ft/TAG"),
        (["ft/a+b"], r"--row ft/a\+b: expected the tags of 3 parts, got 'a\+b'"),
        (["ft/default", "base/default", "ft/default"], "--row ft/default: is there twice"),
    ):
        with pytest.raises(UserError, match=message):
            score.main(arguments(experiment, *rows_of(*wrong)))
    assert {p.parent for p in experiment.glob("scores/*/*/score_utt.tsv")} == tables.keys()


def test_tables_say_what_made_them(experiment):
    path = experiment / "scores/ft/default/fold2/hyp.tsv"
    rows = [row | {"epoch": "7"} for row in read_tsv(path)]
    write_tsv(path, rows, rows[0])
    score.main(arguments(experiment, *rows_of("ft/default"), "--scheme", "loso", "--folds", "2"))
    _, rows = read_scores(experiment / "scores/ft/default/score_utt.tsv")
    assert [row["epoch"] for row in rows] == ["7", "7"]
    for row in rows:
        made = [row[c] for c in ("system", "tag", "configuration", "scheme", "dev", "utterances")]
        dev = "by utterance, 50.0 % of the training side"
        assert made == ["ft", "default", "conf/ft.yaml", "loso", dev, "4"]
        assert row["commit"] == (commit_of() or "n/a")


def test_the_lists_of_the_folds_have_to_be_there(experiment):
    path = experiment / "mix/splits/fold2/dev.lst"
    path.write_text("s1-c\n")
    with pytest.raises(UserError, match="mixtures.tsv: 1 of 1 id.s. are missing, first 's1-c'"):
        score.main(arguments(experiment))
    path.unlink()
    with pytest.raises(UserError, match="fold2/dev.lst: no such list of ids; run stage 2"):
        score.main(arguments(experiment))


def test_two_front_ends_side_by_side(experiment):
    """Each row has the signal scores of its own front-end."""
    shutil.copytree(experiment / "scores/base/default", experiment / "scores/base/big+default")
    other = experiment / "other.tsv"
    other.write_text((experiment / "tse.tsv").read_text().replace("4.1\t4.0", "5.1\t5.0"))
    tables = f"--tse_scores=default={experiment}/tse.tsv big={other}"
    score.main(arguments(experiment, tables))
    for tag, expected in (("default", 4.0), ("big+default", 5.0)):
        _, rows = read_scores(experiment / f"scores/base/{tag}/score_utt.tsv")
        assert {(row["tag"], row["si_sdri"]) for row in rows} == {(tag, expected)}
    with pytest.raises(UserError, match=r"base/big\+default/.*: no signal scores"):
        score.main(arguments(experiment))
    for wrong in ("big", "=x", "big=", "big=x big=y"):
        with pytest.raises(UserError, match="--tse_scores: '(big|=x|big=)'"):
            score.main(arguments(experiment, f"--tse_scores={wrong}"))


def test_two_epochs(experiment):
    best = ["--scheme", "best_test_epoch"]
    with pytest.raises(UserError, match="hyp.tsv: has no column hypothesis_wa, which best_test"):
        score.main(arguments(experiment, *best))
    for path in experiment.glob("scores/*/*/fold*/hyp.tsv"):
        rows = [{**row, "hypothesis_wa": "sad"} for row in read_tsv(path)]
        write_tsv(path, rows, rows[0])
    for scheme in ([], ["--scheme", "loso"]):
        with pytest.raises(UserError, match="hyp.tsv: has the column hypothesis_wa, which only"):
            score.main(arguments(experiment, *scheme))
    assert not list(experiment.glob("scores/*/*/score_utt.tsv"))
    score.main(arguments(experiment, *best))
    for system in ("clean_clean", "ft"):
        _, rows = read_scores(experiment / f"scores/{system}/default/score_utt.tsv")
        assert {(row["hypothesis"], row["hypothesis_wa"]) for row in rows} == {("ang", "sad")}
    with pytest.raises(UserError, match="--scheme 'l': no such scheme; known: loso, loso_sp"):
        score.main(arguments(experiment, "--scheme=l"))


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("overlap", "1.2", "line 3: s1-b: overlap: expected a number of 0 or more .* '1.2'"),
        ("overlap", "nan", "line 3: s1-b: overlap: expected a number .* got 'nan'"),
        ("snr_db", "x", "line 3: s1-b: snr_db: expected a number, got 'x'"),
        ("snr_db", "inf", "line 3: s1-b: snr_db: expected a number, got 'inf'"),
        ("fold", "all", "line 3: fold: 'all' cannot be a fold"),
        ("fold", "1,2", "line 3: fold: '1,2' cannot be a fold"),
        ("speaker", "", "line 3: speaker: '' cannot be an id: it is empty"),
        ("gender_state", "", "line 3: s1-b: gender_state is empty"),
        ("mixture", "../x", "line 3: mixture: '../x' cannot be an id"),
    ],
)
def test_wrong_mixtures(experiment, column, value, message):
    path = experiment / "mix/mixtures.tsv"
    rows = read_tsv(path)
    rows[1][column] = value
    write_tsv(path, rows, TABLE_COLUMNS)
    with pytest.raises(UserError, match=f"{path}: {message}"):
        score.main(arguments(experiment))
