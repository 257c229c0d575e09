"""A table of another program becomes one of the recipe's."""

import shutil

import pytest
from declared import SYSTEMS_DIR

from espnet_tse_ser.audio.id_list import read_ids
from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.bin import import_hypotheses, score
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv, write_tsv
from espnet_tse_ser.metrics.tables import read_hypotheses, read_scores

LABELS = ["ang", "hap", "neu", "sad"]
P = ["p_ang", "p_hap", "p_neu", "p_sad"]


@pytest.fixture
def take(tmp_path, tiny_mixtures):
    def take(rows, *more, fold="1"):
        """Write a table and import it: the rows of ``hyp.tsv``."""
        write_tsv(tmp_path / "theirs.tsv", rows, rows[0] if rows else ["id", "label"])
        ids = tiny_mixtures / f"table/splits/fold{fold}/test.lst"
        output = tmp_path / f"scores/theirs/theirs/fold{fold}/hyp.tsv"
        import_hypotheses.main(
            [
                *("--table", f"{tmp_path}/theirs.tsv", "--data_dir", f"{tiny_mixtures}/mix"),
                *("--ids", str(ids), "--labels", " ".join(LABELS), "--output", str(output)),
                *more,
            ]
        )
        read_hypotheses(output)
        return read_tsv(output)

    return take


@pytest.fixture
def rows(tiny_mixtures):
    """What the other program says of all mixtures, without posteriors."""
    emotions = read_table(tiny_mixtures / "mix/utt2emo")
    return [{"id": utt, "label": LABELS[n % 4]} for n, utt in enumerate(reversed(emotions))]


def with_posteriors(rows, columns=P):
    new = []
    for row in rows:
        values = {f"p_{label}": "0.7" if label == row["label"] else "0.1" for label in LABELS}
        new.append(row | {column: values[column] for column in columns})
    return new


def test_labels(take, rows, tiny_mixtures):
    taken = take(rows)
    ids = read_ids(tiny_mixtures / "table/splits/fold1/test.lst")
    emotions = read_table(tiny_mixtures / "mix/utt2emo")
    given = {row["id"]: row["label"] for row in rows}
    assert list(taken[0]) == ["id", "reference", "hypothesis", *P, "epoch"]
    assert [row["id"] for row in taken] == sorted(ids) and len(ids) < len(rows)
    for row in taken:
        assert row["reference"] == emotions[row["id"]] and row["hypothesis"] == given[row["id"]]
        assert row["epoch"] == "n/a" and not any(row[column] for column in P)
    renamed = [{"id": row["id"], "hypothesis": row["label"], "note": "x"} for row in rows]
    assert take(renamed) == taken


def test_posteriors(take, rows):
    given = with_posteriors(rows, P[::-1])
    taken = {row["id"]: row for row in take(given)}
    for row in given:
        if row["id"] in taken:
            assert [taken[row["id"]][column] for column in P] == [row[column] for column in P]


@pytest.mark.parametrize("columns", [P[:2], P[1:], P[3:]])
def test_a_part_of_the_posteriors(take, rows, columns, tmp_path):
    message = f"theirs.tsv: has {columns[0]} but no p_.*; give all, or none"
    with pytest.raises(UserError, match=message):
        take(with_posteriors(rows, columns))
    assert not (tmp_path / "scores").exists()


WRONG = {
    "label": (lambda row: row | {"label": "joy"}, "label 'joy' is not one of the classes ang hap"),
    "empty": (lambda row: row | {"label": ""}, "label '' is not one of the classes ang hap neu"),
    "no number": (lambda row: row | {"p_ang": "x"}, "p_ang: expected a number .*; correct the tab"),
    "none": (lambda row: row | dict.fromkeys(P, ""), "p_ang: expected a number .* got ''; correct"),
    "sum": (lambda row: row | {"p_ang": "0.9"}, "the posteriors add up to 1.*, not to 1; correct"),
    "another": (
        lambda row: row | {"label": LABELS[LABELS.index(row["label"]) - 1]},
        "hypothesis is .*, but p_.* is the largest posterior; correct the table",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_rows(take, rows, kind, tmp_path, tiny_mixtures):
    function, message = WRONG[kind]
    chosen = set(read_ids(tiny_mixtures / "table/splits/fold1/test.lst"))
    place = max(n for n, row in enumerate(rows) if row["id"] in chosen)
    wrong = with_posteriors(rows)
    wrong[place] = function(wrong[place])
    where = f"theirs.tsv: line {place + 2}: {rows[place]['id']}: "
    with pytest.raises(UserError, match=where + message):
        take(wrong)
    assert not (tmp_path / "scores").exists()
    # of other mixtures than those of this fold it does not matter
    place = max(n for n, row in enumerate(rows) if row["id"] not in chosen)
    others = with_posteriors(rows)
    others[place] = function(others[place])
    assert len(take(others)) == len(chosen)


def test_wrong_tables(take, rows, tmp_path, tiny_mixtures):
    ids = sorted(read_ids(tiny_mixtures / "table/splits/fold1/test.lst"))
    for wrong, message in (
        ([], "theirs.tsv: has no rows with a column label; give id and label"),
        ([{"id": row["id"], "emotion": "ang"} for row in rows], "has no rows with a column label"),
        (
            [{"utt": row["id"], "label": "ang"} for row in rows],
            r"theirs.tsv: line 1: column.s. id missi",
        ),
        ([row for row in rows if row["id"] != ids[2]], f"1 of 20 id.s. are missing.*'{ids[2]}'"),
        ([*rows, rows[3]], f"duplicate id '{rows[3]['id']}'"),
        ([*rows, {"id": "../x", "label": "ang"}], "'../x' cannot be an id"),
    ):
        with pytest.raises(UserError, match=message):
            take(wrong)
    assert not (tmp_path / "scores").exists()


def test_it_is_scored_as_any_system(take, rows, tmp_path, tiny_mixtures):
    systems = shutil.copytree(SYSTEMS_DIR, tmp_path / "systems")
    text = "row: 9\nlabel: x\ntrain: elsewhere\ntest: noisy\nhypotheses: theirs.tsv\n"
    (systems / "theirs.yaml").write_text(text)
    arguments = [f"--scores_dir={tmp_path}/scores", f"--table_dir={tiny_mixtures}/table"]
    arguments += [f"--systems_dir={systems}", "--row", "theirs/theirs", "theirs.tsv"]
    for given in (rows, with_posteriors(rows)):
        for fold in "12":
            take(given, fold=fold)
        score.main(arguments)
        labels, table = read_scores(tmp_path / "scores/theirs/theirs/score_utt.tsv")
        assert labels == LABELS and len(table) == len(rows)
        assert {row["id"]: row["hypothesis"] for row in table} == {
            row["id"]: row["label"] for row in rows
        }
    for fold in "12":
        taken = take(rows, "--by_ua_and_wa", fold=fold)
        assert all(row["hypothesis_wa"] == row["hypothesis"] for row in taken)
    score.main([*arguments, "--scheme=best_test_epoch"])
    _, table = read_scores(tmp_path / "scores/theirs/theirs/score_utt.tsv")
    assert table[0]["epoch_wa"] == "n/a" and table[0]["scheme"] == "best_test_epoch"
