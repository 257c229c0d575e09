"""Comparing two tables from the command line."""

import json

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
    return [tmp_path / "x/scores/noisy_noisy", tmp_path / "y/scores/base/score_utt.tsv"]


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
    with pytest.raises(UserError, match="z/scores/base/score_utt.tsv: classes are ang hap, but"):
        compare.compare(tables[1], tmp_path / "z/scores/base")
