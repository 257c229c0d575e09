"""Reading score tables and joining them."""

import dataclasses

import pytest
from declared import ROWS, SYSTEMS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics import joining, tables
from espnet_tse_ser.systems.system import name_rows

HYP_COLUMNS = ("id", "reference", "hypothesis", "p_ang", "p_sad")


def hypothesis(uid, **changes):
    row = dict(id=uid, reference="ang", hypothesis="sad", p_ang="0.25", p_sad="0.75")
    return {**row, **changes}


def mixture(uid, fold="1", **changes):
    row = dict(mixture=uid, speaker=uid[:2], gender="f", emotion="ang", gender_state="same")
    row |= dict(snr_db="-0.5", overlap="0.9", interferer_emotions="none")
    return {**row, "fold": fold, **changes}


def signal(uid, **changes):
    row = dict(id=uid, fold="1", gender_state="same", snr_db="0", si_sdr_mix="0.5", si_sdr="3")
    return {**row, "si_sdri": "2.5", "stoi_mix": "0.5", "stoi": "", "wrong_speaker": "0", **changes}


def join(name, rows, tests=None, scores=None):
    tests = tests or {"1": {uid: mixture(uid) for uid in ("s1-a", "s1-b")}}
    hypotheses = {("1", "0"): ("hyp.tsv", {row["id"]: row for row in rows})}
    scores = None if scores is None else {"default": scores}
    return joining.join(ROWS[name], hypotheses, tests, scores)


def test_systems_are_the_contract():
    assert list(SYSTEMS) == ("clean_clean clean_noisy noisy_noisy clean_denoised base ft".split())


def test_join_takes_signal_scores_by_test_condition():
    rows = [hypothesis("s1-b"), hypothesis("s1-a")]
    scores = {uid: signal(uid) for uid in ("s1-a", "s1-b", "s9-z")}
    expected = {
        "clean_clean": {},
        "noisy_noisy": {"si_sdr_mix": "0.5", "stoi_mix": "0.5"},
        "base": {c: scores["s1-a"][c] for c in tables.SIGNAL_COLUMNS},
    }
    for name, columns in expected.items():
        joined = join(name, rows, scores=scores)
        assert [row["id"] for row in joined] == ["s1-a", "s1-b"]
        assert sorted(joined[0]) == sorted(tables.score_columns(["ang", "sad"]))
        assert {c: joined[0][c] for c in tables.SIGNAL_COLUMNS if joined[0][c]} == {
            c: value for c, value in columns.items() if value
        }
    own = [{**row, **signal(row["id"], si_sdr="9")} for row in rows]
    assert join("ft", own, scores=scores)[0]["si_sdr"] == "9"
    assert join("noisy_noisy", rows)[0]["si_sdr_mix"] == ""
    enhancer = dataclasses.replace(SYSTEMS["noisy_noisy"], enhances=True)
    (row,) = name_rows([(enhancer, "default")]).values()
    tests = {"1": {uid: mixture(uid) for uid in ("s1-a", "s1-b")}}
    joined = joining.join(row, {("1", "0"): ("hyp.tsv", {r["id"]: r for r in own})}, tests)
    assert joined[0]["si_sdr"] == "9"


@pytest.mark.parametrize("name, stage", [("base", 8), ("clean_denoised", 8), ("ft", 12)])
def test_join_needs_signal_scores(name, stage):
    rows = [hypothesis("s1-a"), hypothesis("s1-b")]
    with pytest.raises(UserError, match=rf"2 utterance\(s\) \(s1-a, s1-b\); run stage {stage}"):
        join(name, rows)
    incomplete = {"s1-a": signal("s1-a"), "s1-b": signal("s1-b", si_sdr="")}
    if stage == 8:
        with pytest.raises(UserError, match=r"1 utterance\(s\) \(s1-b\)"):
            join(name, rows, scores=incomplete)


def test_join_checks_ids_and_references():
    with pytest.raises(UserError, match="clean_clean, fold 1, seed 0: has no hypo.* for .*s1-b"):
        join("clean_clean", [hypothesis("s1-a")])
    extra = [hypothesis(uid) for uid in ("s1-a", "s1-b", "s1-c")]
    with pytest.raises(UserError, match="not in the test set: .*s1-c"):
        join("clean_clean", extra)
    with pytest.raises(UserError, match="s1-b: reference is sad but the mixture table says ang"):
        join("clean_clean", [hypothesis("s1-a"), hypothesis("s1-b", reference="sad")])


def test_join_of_two_seeds():
    hypotheses = {
        ("1", seed): ("hyp.tsv", {u: hypothesis(u, hypothesis=label) for u in ("s1-a", "s1-b")})
        for seed, label in (("10", "sad"), ("9", "ang"))
    }
    tests = {"1": {uid: mixture(uid) for uid in ("s1-a", "s1-b")}}
    rows = joining.join(ROWS["clean_clean"], hypotheses, tests)
    assert [(row["id"], row["seed"], row["hypothesis"]) for row in rows] == [
        (uid, seed, label)
        for uid in ("s1-a", "s1-b")
        for seed, label in (("9", "ang"), ("10", "sad"))
    ]
    del hypotheses["1", "10"][1]["s1-a"]
    with pytest.raises(UserError, match="clean_clean, fold 1, seed 10: has no .*s1-a"):
        joining.join(ROWS["clean_clean"], hypotheses, tests)


def test_messages_name_at_most_five_ids():
    tests = {"1": {f"u{n}": mixture(f"u{n}") for n in range(9)}}
    with pytest.raises(UserError, match=r"9 utterance\(s\) \(u0, u1, u2, u3, u4, \.\.\.\)"):
        join("clean_clean", [], tests)


def test_read_hypotheses(tmp_path):
    path = tmp_path / "hyp.tsv"
    write_tsv(path, [hypothesis("b"), hypothesis("a")], HYP_COLUMNS)
    labels, rows = tables.read_hypotheses(path)
    assert labels == ["ang", "sad"] and list(rows) == ["b", "a"]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "has no rows"),
        ([hypothesis("a"), hypothesis("a")], "line 3: duplicate id 'a'"),
        ([hypothesis("a", reference="joy")], "a: reference 'joy' is not one of the classes"),
        ([hypothesis("a", hypothesis="joy")], "a: hypothesis 'joy' is not one of the classes"),
        (
            [hypothesis("a", p_sad="x")],
            "line 2: a: p_sad: expected a number of 0 or more and of 1 or less, got 'x'",
        ),
        (
            [hypothesis("a", p_sad="nan")],
            "a: p_sad: expected a number of 0 or more and of 1 or less, got 'nan'",
        ),
        (
            [hypothesis("a", p_sad="1.5")],
            "a: p_sad: expected a number of 0 or more and of 1 or less, got '1.5'",
        ),
    ],
)
def test_invalid_hypotheses(tmp_path, rows, message):
    path = tmp_path / "hyp.tsv"
    write_tsv(path, rows, HYP_COLUMNS)
    with pytest.raises(UserError, match=message) as error:
        tables.read_hypotheses(path)
    assert str(path) in str(error.value)


def test_hypotheses_without_posteriors(tmp_path):
    path = tmp_path / "hyp.tsv"
    write_tsv(path, [dict(id="a", reference="ang", hypothesis="ang")], HYP_COLUMNS[:3])
    with pytest.raises(
        UserError, match="no p_<class> columns.* of labels alone, make it with .*import_hyp"
    ):
        tables.read_hypotheses(path)
    with pytest.raises(UserError, match="no such table"):
        tables.read_hypotheses(tmp_path / "missing.tsv")


def test_read_tests(tmp_path):
    path = tmp_path / "mixtures.tsv"
    rows = [mixture("a", "10"), mixture("b", "2"), mixture("c", "2")]
    write_tsv(path, rows, tables.TABLE_COLUMNS)
    tests = tables.read_tests(path)
    assert {fold: list(test) for fold, test in tests.items()} == {"2": ["b", "c"], "10": ["a"]}
    assert list(tests) == ["2", "10"]
    assert list(tables.read_tests(path, ["10"])) == ["10"]
    with pytest.raises(UserError, match="no fold 3; the mixture table has the folds 2 10"):
        tables.read_tests(path, ["3"])


def touch(scores_dir, *directories):
    for name in directories:
        (scores_dir / name).mkdir(parents=True)
        (scores_dir / name / "score_utt.tsv").touch()


def test_find_rows(tmp_path):
    with pytest.raises(UserError, match="run the stages before"):
        tables.find_rows(tmp_path, SYSTEMS, "score_utt.tsv")
    touch(tmp_path, "ft/default", "clean_noisy/default", "ft/a+b+c")
    found = tables.find_rows(tmp_path, SYSTEMS, "score_utt.tsv")
    assert list(found) == ["clean_noisy", "ft (a+b+c)", "ft (default)"]
    assert found["ft (a+b+c)"].parts == {"tse": "a", "ser": "b", "joint": "c"}
    touch(tmp_path, "mine/default")
    with pytest.raises(UserError, match="mine: no such system .*known: clean_clean"):
        tables.find_rows(tmp_path, SYSTEMS, "score_utt.tsv")


@pytest.mark.parametrize("name", ["ft/a+b", "base/a+b+c", "clean_clean/a+b"])
def test_a_directory_of_other_parts(tmp_path, name):
    touch(tmp_path, "noisy_noisy/default", name)
    with pytest.raises(UserError, match=r"(ft|base|clean_clean)/a.*: expected the tags of [123]"):
        tables.find_rows(tmp_path, SYSTEMS, "score_utt.tsv")


def test_read_scores_of_two_seeds(tmp_path):
    path = tmp_path / "score_utt.tsv"
    columns = tables.score_columns(["ang", "sad"])
    tests = {k: {f"s{k}-{u}": mixture(f"s{k}-{u}", fold=k) for u in "ab"} for k in "12"}
    hypotheses = {
        (k, s): ("hyp.tsv", {u: hypothesis(u) for u in tests[k]}) for k in "12" for s in "01"
    }
    joined = joining.join(ROWS["clean_clean"], hypotheses, tests)
    write_tsv(path, joined, columns)
    assert len(tables.read_scores(path)[1]) == 8
    write_tsv(path, [*joined, joined[-1]], columns)
    with pytest.raises(UserError, match="line 10: duplicate id 's2-b' of seed 1; remove one"):
        tables.read_scores(path)
    write_tsv(path, joined[:-1], columns)  # without s2-b of seed 1
    message = rf"{path}: fold 2, seed 1: lacks 1 utterance\(s\) \(s2-b\) that another"
    with pytest.raises(UserError, match=message):
        tables.read_scores(path)
    columns.remove("seed")
    write_tsv(path, [{c: row[c] for c in columns} for row in joined], columns)
    with pytest.raises(UserError, match=r"column\(s\) seed missing; .*run its stage again"):
        tables.read_scores(path)


def test_read_scores(tmp_path):
    path = tmp_path / "score_utt.tsv"
    rows = [hypothesis("s1-a"), hypothesis("s1-b")]
    joined = join("base", rows, scores={uid: signal(uid) for uid in ("s1-a", "s1-b")})
    write_tsv(path, joined, tables.score_columns(["ang", "sad"]))
    labels, rows = tables.read_scores(path)
    assert labels == ["ang", "sad"]
    assert rows[0]["si_sdri"] == 2.5 and rows[0]["stoi"] != rows[0]["stoi"]
    assert [rows[0][c] for c in tables.MIXTURE_COLUMNS] == [-0.5, 0.9, 1, "none"]
    for column, value in (("reference", "joy"), ("hypothesis", "")):
        write_tsv(path, [joined[0] | {column: value}], tables.score_columns(["ang", "sad"]))
        with pytest.raises(
            UserError, match=f"{path}: line 2: s1-a: {column} '{value}' is not one of"
        ):
            tables.read_scores(path)
