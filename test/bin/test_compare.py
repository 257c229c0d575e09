"""Comparing two tables from the command line."""

import json
import re

import pytest
from score_tables import write_scores

from espnet_tse_ser.bin import compare
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.files import read_tsv, write_tsv


@pytest.fixture
def tables(tmp_path):
    """Two systems of two experiments."""
    write_scores(tmp_path / "x", systems=["noisy_noisy"])
    write_scores(tmp_path / "y", systems=["base"], seeds="012")
    return [
        tmp_path / "x/scores/noisy_noisy/default",
        tmp_path / "y/scores/base/default/score_utt.tsv",
    ]


def test_table(tables, capsys):
    assert run(compare.main, [*map(str, tables)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A: {tables[0]}/score_utt.tsv (1 seed)"
    assert lines[1] == f"B: {tables[1]} (3 seeds)"
    assert lines[2] == (
        "40 utterances, with 95 % intervals and p over 4 speakers; with 4 speakers no p is below "
        "0.125"
    )
    assert lines[3].startswith("every figure is of all utterances together, those of all folds")
    assert lines[4] == f"left out: SI-SDRi, dB, which {tables[0]}/score_utt.tsv has not"
    assert [line.split("|")[1].strip() for line in lines[8:]] == ["WA, %", "UA, %", "macro-F1, %"]
    compared = compare.compare(*tables)
    ua = compared["measures"]["ua"]
    assert f"{100 * ua['difference']:.2f} [" in lines[9] and f"p = {ua['p']:.3f}" in lines[9]
    assert run(compare.main, [*map(str, tables), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(compared))


def test_two_tags_of_a_system(tables, tmp_path, capsys):
    """Two front-ends and two joint configurations of one experiment, any two of them."""
    tags = ("default", "big+default", "default+default+w1", "big+default+w1")
    for tag in tags:
        write_scores(tmp_path, systems=["ft"], tag=tag)
    for tag in tags[1:]:
        pair = [f"{tmp_path}/scores/ft/{t}" for t in (tags[0], tag)]
        assert run(compare.main, pair) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == [
            f"{n}: {d}/score_utt.tsv (1 seed)" for n, d in zip("AB", pair, strict=True)
        ]


def test_a_table_and_itself(tables):
    c = compare.compare(tables[1], tables[1])["measures"]
    assert list(c) == ["wa", "ua", "macro_f1", "si_sdri"]
    assert all(m["difference"] == 0 and m["p"] == 1 for m in c.values())


def test_other_utterances_and_classes(tables, tmp_path, capsys):
    path = tables[0] / "score_utt.tsv"
    rows = read_tsv(path)
    write_tsv(path, rows[3:], rows[0])
    assert run(compare.main, [*map(str, tables)]) == 2
    error = capsys.readouterr().err
    lacks = "lacks 3 utterance(s) (s0-00, s0-01, s0-02) of the 40 of"
    assert f"{path}: {lacks} {tables[1]}" in error
    with pytest.raises(UserError, match="no such table"):
        compare.compare(tmp_path, tables[1])
    write_scores(tmp_path / "z", ["ang", "hap"], ["base"])
    with pytest.raises(
        UserError, match="z/scores/base/default/score_utt.tsv: classes are ang hap, but"
    ):
        compare.compare(tables[1], tmp_path / "z/scores/base/default")


def change(path, function):
    """Change the rows of a table, numbered."""
    rows = [function(number, row) for number, row in enumerate(read_tsv(path))]
    write_tsv(path, rows, rows[0])


@pytest.fixture
def pair(tmp_path):
    """Tables of two systems that both extract, and that differ."""
    write_scores(tmp_path / "x", systems=["base"])
    write_scores(tmp_path / "y", systems=["base"], seeds="12")
    return [
        tmp_path / "x/scores/base/default/score_utt.tsv",
        tmp_path / "y/scores/base/default/score_utt.tsv",
    ]


REFUSED = {
    "hypothesis_wa": (
        lambda n, row: row | {"hypothesis_wa": row["hypothesis"]},
        "{0} is of the evaluation scheme best_test_epoch .*, {1} is not; only figures of the same",
    ),
    "empty hypothesis_wa": (
        lambda n, row: row | {"hypothesis_wa": "" if n == 3 else "ang"},
        "{0}: line 5: s0-03: hypothesis_wa '' is not one of the classes",
    ),
    "si_sdri of a part": (
        lambda n, row: row | ({"si_sdri": ""} if n < 12 else {}),
        r"{0}: si_sdri is missing for 12 utterance\(s\) \(s0-00, .*\) of 40: a mean would be of",
    ),
    "si_sdr_mix of a part": (
        lambda n, row: row | ({"si_sdr_mix": ""} if n == 39 else {}),
        r"{0}: si_sdr_mix is missing for 1 utterance\(s\) \(s3-39\) of 40",
    ),
    "si_sdri beyond the limits": (
        lambda n, row: row | ({"si_sdri": "1e9"} if n == 1 else {}),
        "{0}: line 3: s0-01: si_sdri: expected a number of -200 or more",
    ),
    "nan": (
        lambda n, row: row | ({"p_ang": "nan"} if n == 1 else {}),
        "{0}: line 3: s0-01: p_ang: expected a number",
    ),
    "contradiction": (
        lambda n, row: row | ({"p_ang": "0.9", "p_sad": "0.1", "hypothesis": "sad"}),
        "{0}: line 2: s0-00: hypothesis is sad, but p_ang is the largest posterior",
    ),
    "wrong_speaker": (
        lambda n, row: row | {"wrong_speaker": "maybe"},
        "{0}: line 2: s0-00: wrong_speaker: expected a whole number of 0 or more",
    ),
    "duplicates": (
        lambda n, row: row | ({"id": "s0-00"} if n == 1 else {}),
        "{0}: line 3: duplicate id 's0-00' of seed 0",
    ),
    "speakers": (
        lambda n, row: row | ({"speaker": "s9"} if n == 1 else {}),
        "s0-01: speaker is s9 in {0}, but s0 in {1}",
    ),
    "emotions": (
        lambda n, row: row | {"reference": "ang"},
        "s0-02: reference is ang in {0}, but sad in {1}",
    ),
    "genders": (
        lambda n, row: row | {"gender": "m"},
        "s0-00: gender is m in {0}, but f in {1}",
    ),
    "folds": (
        lambda n, row: row | {"fold": str(n % 3)},
        "s0-00: fold is 0 in {0}, but 1 in {1}; are they of the same corpus, folds and mixtures",
    ),
    "ids": (lambda n, row: row | {"id": f"../{n}"}, "{0}: line 2: id: '../0' cannot be an id"),
    "seed": (lambda n, row: row | {"seed": "-1"}, "{0}: line 2: s0-00: seed: expected a whole"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_compared(pair, kind, capsys):
    function, message = REFUSED[kind]
    change(pair[0], function)
    assert run(compare.main, [*map(str, pair)]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert re.search(message.format(*pair), line) and captured.out == ""
    assert run(compare.main, [*map(str, pair[::-1]), "--json"]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and captured.out == ""


def test_two_optimistic_tables_are_compared_and_marked(pair, capsys):
    for path in pair:
        change(path, lambda n, row: row | {"hypothesis_wa": row["reference"]})
    assert run(compare.main, [*map(str, pair)]) == 0
    text = capsys.readouterr().out
    assert "best_test_epoch, optimistic: epoch chosen on the test fold\n" in text
    assert compare.compare(*pair)["optimistic"] is True
    assert compare.compare(*pair)["measures"]["wa"]["value"] == 1


def test_classes_in_another_order(pair):
    expected = compare.compare(*pair)
    rows = read_tsv(pair[1])
    columns = list(rows[0])
    places = [columns.index(f"p_{label}") for label in ("ang", "sad")]
    columns[places[0]], columns[places[1]] = columns[places[1]], columns[places[0]]
    write_tsv(pair[1], rows, columns)
    assert compare.compare(*pair) == expected


def test_json_says_what_the_figures_are(pair, capsys):
    assert run(compare.main, [*map(str, pair), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["pooling"].startswith("every figure is of all utterances together")
    assert compared["seeds"] == [1, 2] and compared["left_out"] == {}
    assert compared["optimistic"] is False and compared["classes_missing"] == []


def test_one_speaker_and_a_class_without_utterances(pair, capsys):
    for path in pair:
        rows = [r for r in read_tsv(path) if r["speaker"] == "s1" and r["reference"] == "sad"]
        write_tsv(path, rows, rows[0])
    assert run(compare.main, [*map(str, pair)]) == 0
    text = capsys.readouterr().out
    assert "without 95 % intervals and p: one speaker says nothing about others\n" in text
    assert "UA and macro-F1 without ang, of which there is no utterance\n" in text
    assert text.count("p n/a") == 4 and "[" not in text and "nan" not in text
