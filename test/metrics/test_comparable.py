"""What can be compared: one rule, which all comparisons and summaries ask."""

import itertools
import math

import pytest
from declared import ROWS
from metrics_rows import LABELS, make_scores

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.metrics import breakdown
from espnet_tse_ser.metrics.comparable import check_comparable, check_whole
from espnet_tse_ser.metrics.comparison import compare_rows
from espnet_tse_ser.metrics.fields import SI_SDRS
from espnet_tse_ser.report import results, sweeps
from espnet_tse_ser.report.sweeps import Point

NAN = float("nan")


@pytest.fixture
def base():
    return make_scores(("base",), speakers=4)["base"]


@pytest.fixture
def ft():
    return make_scores(("ft",), speakers=4)["ft"]


def without(rows, column, count):
    return [row | ({column: NAN} if n < count else {}) for n, row in enumerate(rows)]


def with_wa(rows):
    return [row | {"hypothesis_wa": row["hypothesis"]} for row in rows]


def refused(base, ft, one_experiment=False):
    """What is said of two tables, in either order; nothing where they can be compared."""
    messages = []
    for pair in (("A", base), ("B", ft)), (("B", ft), ("A", base)):
        try:
            check_comparable(pair, one_experiment)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) in (0, 2)
    return " | ".join(messages)


def test_what_can_be_compared(base, ft):
    assert not refused(base, ft) and not refused(base, base, True)
    assert not refused(with_wa(base), with_wa(ft))
    assert not refused(base, ft[::-1])
    assert not refused(base, without(ft, "si_sdri", len(ft)))  # a measure less
    assert not refused(base, without(without(ft, "stoi", 3), "wrong_speaker", 5))  # said with means
    more = [row | {"seed": seed} for row in ft for seed in "012"]
    assert not refused(base, more)


@pytest.mark.parametrize("count", [1, 50, 95])
@pytest.mark.parametrize("column", SI_SDRS)
def test_a_measure_that_is_missing_for_a_part(base, ft, column, count):
    for pair in ((base, without(ft, column, count)), (without(base, column, count), ft)):
        message = refused(*pair)
        assert f"{column} is missing for {count} utterance(s) (s00-0000" in message
        assert "of 96: a mean would be of the others only" in message


def test_different_schemes(base, ft):
    for pair, names in (((with_wa(base), ft), "AB"), ((base, with_wa(ft)), "BA")):
        message = refused(*pair)
        assert f"{names[0]} is of the evaluation scheme best_test_epoch" in message
        assert f"{names[1]} is not; only figures of the same scheme can be compared" in message
    mixed = with_wa(base)[:10] + base[10:]
    assert "A: 10 of 96 rows have hypothesis_wa" in refused(mixed, ft)


def test_other_utterances(base, ft):
    assert "B: lacks 2 utterance(s) (s00-0000, s00-0001) of the 96 of A" in refused(base, ft[2:])
    assert "A: lacks 1 utterance(s) (s03-0095) of the 96 of B" in refused(base[:-1], ft)
    assert "A: lacks 48 utterance(s) (s02-0048" in refused(base[:48], ft[48:])
    assert "A: has no rows" in refused([], ft)


@pytest.mark.parametrize(
    "column, value",
    [("speaker", "s99"), ("gender", "x"), ("reference", "sad"), ("fold", "9")],
)
def test_other_people_emotions_and_folds(base, ft, column, value):
    changed = [ft[0] | {column: value}, *ft[1:]]
    message = refused(base, changed)
    assert f"s00-0000: {column} is {base[0][column]} in A, but {value} in B" in message
    # and within one table, of another seed
    two = [*ft, *(row | {"seed": "1"} for row in changed)]
    expected = f"{column} is {ft[0][column]} of seed 0 of B, but {value} of seed 1 of B"
    assert expected in refused(base, two)


@pytest.mark.parametrize(
    "column, value",
    [
        ("gender_state", "other"),
        ("snr_db", 40.0),
        ("overlap", 0.1),
        ("num_interferers", 3),
        ("interferer_emotions", "hap"),
    ],
)
def test_other_mixtures_are_compared_but_not_within_an_experiment(base, ft, column, value):
    changed = [ft[0] | {column: value}, *ft[1:]]
    assert not refused(base, changed)
    assert f"{column} is {base[0][column]} in A, but {value} in B" in refused(base, changed, True)


def test_seeds(base, ft):
    two = [row | {"seed": seed} for row in ft for seed in "02"]
    assert not refused(base, two)
    assert "A: lacks the seed(s) 2 of B; run stage 13 again" in refused(base, two, True)
    assert "fold 2, seed 2: lacks 1 utterance(s) (s03-0095) that" in refused(base, two[:-1])
    assert "line 98: duplicate id 's00-0000' of seed 0" in refused(base, [*ft, ft[0]])
    for column in ("stoi", "stoi_mix", "wrong_speaker"):
        partly = [two[0] | {column: NAN}, *two[1:]]
        expected = f"{column} is missing in a part of the seeds only for 1 utterance(s) (s00-0000)"
        assert expected in refused(base, partly)


BROKEN = {
    "scheme": with_wa,
    "si_sdri": lambda rows: without(rows, "si_sdri", 7),
    "utterances": lambda rows: rows[3:],
    "duplicates": lambda rows: [*rows, rows[0]],
    "speaker": lambda rows: [rows[0] | {"speaker": "s77"}, *rows[1:]],
    "emotion": lambda rows: [rows[0] | {"reference": "neu"}, *rows[1:]],
    "gender": lambda rows: [rows[0] | {"gender": "x"}, *rows[1:]],
    "fold": lambda rows: [rows[0] | {"fold": "7"}, *rows[1:]],
}


COMPARISONS = {
    "compare_rows": lambda base, ft: compare_rows(base, ft, LABELS),
    "compare_rows, swapped": lambda base, ft: compare_rows(ft, base, LABELS),
    "summarise": lambda base, ft: results.summarise({"base": base, "ft": ft}, LABELS, ROWS),
    "compare": lambda base, ft: results.compare({"base": base, "ft": ft}, LABELS, ROWS),
    "break_down": lambda base, ft: breakdown.break_down({"base": base, "ft": ft}, LABELS),
    "sweeps": lambda base, ft: sweeps.summarise(
        [Point("t", "x", 1, "y", {"ft": ft})], {"ft": [{**row} for row in base]}, LABELS, ROWS
    ),
}


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("kind", BROKEN)
def test_every_comparison_asks_the_rule(base, ft, kind, comparison):
    if (kind, comparison) == ("utterances", "sweeps"):
        pytest.skip("a test of fewer targets is compared on those that both have, and says so")
    COMPARISONS[comparison](base, ft)
    with pytest.raises(UserError):
        COMPARISONS[comparison](base, BROKEN[kind](ft))


def test_means_say_of_how_many_they_are(base, ft):
    """STOI and the wrong speaker may be undefined: then the figures say how many there are."""
    known = [
        row
        | ({"stoi": NAN} if n < 10 else {"stoi": n / 100})
        | ({"wrong_speaker": NAN} if n % 3 == 0 else {})
        for n, row in enumerate(ft)
    ]
    scores = {"base": base, "ft": known}
    (pooled,) = [
        r
        for r in results.summarise(scores, LABELS, ROWS)
        if (r["system"], r["fold"]) == ("ft", "all")
    ]
    assert (pooled["stoi_n"], pooled["stoi_mix_n"], pooled["wrong_speaker_rate_n"]) == (86, 96, 64)
    assert pooled["stoi"] == pytest.approx(sum(range(10, 96)) / 86 / 100, abs=1e-6)
    wrong = [row["wrong_speaker"] for row in known if not math.isnan(row["wrong_speaker"])]
    assert pooled["wrong_speaker_rate"] == pytest.approx(sum(wrong) / 64, abs=1e-6)
    (found,) = [w for w in breakdown.wrong_speakers(scores, LABELS) if w["system"] == "ft"]
    assert (found["n"], found["of"]) == (64, 96)
    assert found["wrong_speaker_rate"] == pooled["wrong_speaker_rate"]
    cells = [c for c in breakdown.break_down(scores, LABELS) if c["system"] == "ft"]
    by_state = [c for c in cells if c["by"] == ["gender_state"]]
    assert sum(c["wrong_speaker_rate_n"] for c in by_state) == 64
    nothing = {"base": base, "ft": without(ft, "wrong_speaker", len(ft))}
    pooled = [r for r in results.summarise(nothing, LABELS, ROWS) if r["system"] == "ft"][-1]
    assert pooled["wrong_speaker_rate"] is None and pooled["wrong_speaker_rate_n"] == 0


def test_a_table_alone(base):
    check_whole("t.tsv", base)
    for broken, message in (
        (without(base, "si_sdr", 1), "t.tsv: si_sdr is missing for 1 utterance"),
        (with_wa(base)[:1] + base[1:], "t.tsv: 1 of 96 rows have hypothesis_wa"),
        ([*base, base[5]], "t.tsv: line 98: duplicate id 's00-0005' of seed 0"),
    ):
        with pytest.raises(UserError, match=message):
            check_whole("t.tsv", broken)


def test_every_pair_of_a_list_is_compared(base, ft):
    tables = {"a": base, "b": ft, "c": base, "d": ft}
    check_comparable(tables.items(), one_experiment=True)
    for name, kind in itertools.product("abcd", BROKEN):
        broken = tables | {name: BROKEN[kind](tables[name])}
        with pytest.raises(UserError):
            check_comparable(broken.items(), one_experiment=True)
