"""What the fields of tables may hold: every kind of wrong one is refused where it is read."""

import re

import pytest
from declared import SYSTEMS

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import write_tsv
from espnet_tse_ser.metrics import fields, tables
from espnet_tse_ser.metrics.signal import SI_SDR_LIMIT

MAKER = ("system", "tag", "train", "test", *tables.MADE_WITH)
LABELS = ["ang", "hap", "sad"]
POSTERIORS = dict(p_ang="0.200000", p_hap="0.700000", p_sad="0.100000")
SIGNAL = dict(si_sdr_mix="0.5", si_sdr="3", si_sdri="2.5", stoi_mix="0.5", stoi="0.7")
SIGNAL |= dict(wrong_speaker="0")


def score(uid="s1-a", **changes):
    row = dict(id=uid, system="ft", train="joint", test="joint", fold="1", seed="0", speaker="s1")
    row |= dict(gender="f", gender_state="same", snr_db="-1.5", overlap="0.9", num_interferers="1")
    row |= dict(interferer_emotions="none", reference="ang", hypothesis="hap", tag="default")
    row |= dict(
        epoch="3", configuration="a.yaml", scheme="loso", dev="n/a", utterances="9", commit="n/a"
    )
    return {**row, **POSTERIORS, **SIGNAL, **changes}


def hypothesis(uid="s1-a", **changes):
    return {**dict(id=uid, reference="ang", hypothesis="hap"), **POSTERIORS, **SIGNAL, **changes}


def mixture(uid="s1-a", **changes):
    row = dict(mixture=uid, speaker="s1", gender="f", emotion="ang", gender_state="same", fold="1")
    return {**row, **dict(snr_db="-1.5", overlap="0.9", interferer_emotions="none"), **changes}


def tse_score(uid="s1-a", **changes):
    return {**dict(id=uid, fold="1", gender_state="same", snr_db="-1.5"), **SIGNAL, **changes}


def write_and_read(kind, tmp_path, *changes):
    """Write a table whose rows have these changes, and read it."""
    make, read = {
        "scores": (score, tables.read_scores),
        "hypotheses": (hypothesis, tables.read_hypotheses),
        "mixtures": (mixture, tables.read_tests),
        "tse": (tse_score, lambda path: tables.read_tse_scores(path, {})),
    }[kind]
    rows = [make(f"s1-{'abcdef'[n]}") | change for n, change in enumerate(changes)]
    write_tsv(tmp_path / "t.tsv", rows, rows[0])
    return read(tmp_path / "t.tsv")


BAD_NUMBERS = {
    "snr_db": ("nan", "inf", "-inf", "1e999", "x", "", "1_0", "5 dB"),
    "overlap": ("nan", "inf", "-0.1", "1.1", "x", ""),
    "num_interferers": ("nan", "inf", "-1", "1.5", "x", ""),
    "seed": ("nan", "-1", "1.5", "x", "", "4294967296"),
    "utterances": ("nan", "0", "1.5", "x"),
    "si_sdr_mix": ("nan", "inf", "100.1", "-101", "x"),
    "si_sdr": ("nan", "-inf", "1e6", "x"),
    "si_sdri": ("nan", "inf", "200.5", "x"),
    "stoi": ("nan", "inf", "1.5", "-2", "x"),
    "stoi_mix": ("nan", "2", "x"),
    "wrong_speaker": ("nan", "0.5", "2", "-1", "yes", "True"),
}


@pytest.mark.parametrize(
    "kind, columns",
    [
        ("scores", tuple(BAD_NUMBERS)),
        ("hypotheses", fields.SIGNAL_COLUMNS),
        ("tse", ("snr_db", *fields.SIGNAL_COLUMNS)),
        ("mixtures", ("snr_db", "overlap")),
    ],
)
def test_numbers(kind, columns, tmp_path):
    write_and_read(kind, tmp_path, {}, {})
    for column in columns:
        for value in BAD_NUMBERS[column]:
            with pytest.raises(UserError) as error:
                write_and_read(kind, tmp_path, {}, {column: value})
            message = str(error.value)
            assert message.startswith(f"{tmp_path}/t.tsv: line 3: s1-b: {column}: expected ")
            assert f"got '{value}'; delete the file" in message


@pytest.mark.parametrize("kind", ["scores", "hypotheses"])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"p_ang": "nan"}, "p_ang: expected a number of 0 or more and of 1 or less, got 'nan'"),
        ({"p_sad": "inf"}, "p_sad: expected a number"),
        ({"p_sad": "-0.1"}, "p_sad: expected a number"),
        ({"p_sad": ""}, "p_sad: expected a number"),
        ({"p_sad": "0.2"}, "the posteriors add up to 1.1, not to 1"),
        ({"p_hap": "0.69"}, "the posteriors add up to 0.99, not to 1"),
        ({"p_ang": "0", "p_hap": "0", "p_sad": "0"}, "the posteriors add up to 0, not to 1"),
        ({"hypothesis": "ang"}, "hypothesis is ang, but p_hap is the largest posterior"),
        ({"hypothesis": "sad"}, "hypothesis is sad, but p_hap is the largest posterior"),
        ({"p_hap": "0.1", "p_sad": "0.7"}, "hypothesis is hap, but p_sad is the largest"),
        ({"hypothesis": "joy"}, "hypothesis 'joy' is not one of the classes ang hap sad"),
        ({"hypothesis": ""}, "hypothesis '' is not one of the classes"),
        ({"reference": "Ang"}, "reference 'Ang' is not one of the classes"),
        ({"hypothesis_wa": ""}, "hypothesis_wa '' is not one of the classes"),
        ({"hypothesis_wa": "nan"}, "hypothesis_wa 'nan' is not one of the classes"),
    ],
)
def test_labels_and_posteriors(kind, change, message, tmp_path):
    with_wa = {"hypothesis_wa": "sad"} if "hypothesis_wa" in change else {}
    with pytest.raises(UserError) as error:
        write_and_read(kind, tmp_path, with_wa, with_wa | change)
    assert f"t.tsv: line 3: s1-b: {message}" in str(error.value)


@pytest.mark.parametrize(
    "posteriors, chosen",
    [
        (("0.333333", "0.333333", "0.333333"), "sad"),  # a tie
        (("0.333", "0.333", "0.333"), "ang"),  # three decimals
        (("0", "1", "0"), "hap"),
        (("1e-07", "0.9999999", "0"), "hap"),
    ],
)
def test_rounded_posteriors_are_taken(posteriors, chosen, tmp_path):
    change = {f"p_{label}": p for label, p in zip(LABELS, posteriors, strict=True)}
    labels, rows = write_and_read("hypotheses", tmp_path, change | {"hypothesis": chosen})
    assert labels == LABELS and rows["s1-a"]["hypothesis"] == chosen


@pytest.mark.parametrize("kind", ["scores", "hypotheses"])
def test_all_have_posteriors_or_none(kind, tmp_path):
    """Another program may give none."""
    none = dict.fromkeys(POSTERIORS, "")
    labels, _ = write_and_read(kind, tmp_path, none, none | {"hypothesis": "sad"})
    assert labels == LABELS
    for changes in ((none, {}), ({}, none)):
        with pytest.raises(UserError, match="s1-[ab]: p_ang: expected a number .* got ''"):
            write_and_read(kind, tmp_path, *changes)
    with pytest.raises(UserError, match="line 3: s1-b: hypothesis 'joy' is not one of"):
        write_and_read(kind, tmp_path, none, none | {"hypothesis": "joy"})


@pytest.mark.parametrize("column", MAKER[1:])
def test_a_table_has_one_maker(column, tmp_path):
    with pytest.raises(UserError, match=f"t.tsv: has rows of several {column}: .*(other|7)"):
        write_and_read("scores", tmp_path, {}, {column: "7" if column == "utterances" else "other"})


def test_another_column_does_no_harm_unless_it_is_a_class(tmp_path):
    write_and_read("scores", tmp_path, {"comment": "x"})
    write_and_read("hypotheses", tmp_path, {"comment": ""})
    with pytest.raises(UserError, match="the posteriors add up to 1.5, not to 1"):
        write_and_read("hypotheses", tmp_path, {"p_value": "0.5"})
    with pytest.raises(UserError, match="p_value: expected a number"):
        write_and_read("hypotheses", tmp_path, {"p_value": "1e3"})


@pytest.mark.parametrize("kind", ["scores", "hypotheses", "tse"])
def test_si_sdrs_that_contradict_one_another(kind, tmp_path):
    write_and_read(kind, tmp_path, {"si_sdri": "2.51"})  # rounded
    for change in ({"si_sdri": "-2.5"}, {"si_sdr": "9"}, {"si_sdr_mix": "3"}):
        with pytest.raises(UserError, match="s1-b: si_sdri is .*, but si_sdr - si_sdr_mix is"):
            write_and_read(kind, tmp_path, {}, change)


@pytest.mark.parametrize(
    "kind, columns",
    [
        ("scores", "gender gender_state interferer_emotions epoch " + " ".join(MAKER)),
        ("mixtures", "gender gender_state interferer_emotions emotion"),
    ],
)
def test_empty_fields(kind, columns, tmp_path):
    for column in columns.split():
        with pytest.raises(UserError, match=f"line 3: s1-b: {column} is empty"):
            write_and_read(kind, tmp_path, {}, {column: ""})


@pytest.mark.parametrize("kind", ["scores", "hypotheses", "tse", "mixtures"])
def test_ids(kind, tmp_path):
    column = "mixture" if kind == "mixtures" else "id"
    for uid in ("../x", "/x", ".x", "a,b", "a b", ""):
        with pytest.raises(UserError, match="line 3: .* cannot be an id"):
            write_and_read(kind, tmp_path, {}, {column: uid})
    with pytest.raises(UserError, match="line 3: duplicate id 's1-a'"):
        write_and_read(kind, tmp_path, {}, {column: "s1-a"})


@pytest.mark.parametrize("kind", ["scores", "mixtures"])
def test_folds_and_speakers(kind, tmp_path):
    for fold in ("all", "1/2", ".", "01", "-1", "²", ""):
        with pytest.raises(UserError, match="line 3: fold: .* cannot be a fold"):
            write_and_read(kind, tmp_path, {}, {"fold": fold})
    for speaker in ("a/b", "a,b", ""):
        with pytest.raises(UserError, match="line 3: speaker: .* cannot be an id"):
            write_and_read(kind, tmp_path, {}, {"speaker": speaker})


@pytest.mark.parametrize(
    "kind, make, read",
    [
        ("scores", score, tables.read_scores),
        ("hypotheses", hypothesis, tables.read_hypotheses),
        ("mixtures", mixture, tables.read_tests),
    ],
)
def test_tables_without_rows(kind, make, read, tmp_path):
    write_tsv(tmp_path / "t.tsv", [], make())
    with pytest.raises(UserError, match="t.tsv: has no (rows|mixtures); "):
        read(tmp_path / "t.tsv")


def test_scores_of_other_mixtures(tmp_path):
    tests = {"1": {"s1-a": mixture()}}
    write_tsv(tmp_path / "t.tsv", [tse_score(snr_db="-1.50")], tse_score())
    assert list(tables.read_tse_scores(tmp_path / "t.tsv", tests)) == ["s1-a"]
    for column, value in (("fold", "2"), ("gender_state", "different"), ("snr_db", "1.5")):
        write_tsv(tmp_path / "t.tsv", [tse_score(**{column: value})], tse_score())
        with pytest.raises(
            UserError, match=f"s1-a: {column} is {value} but the mixture table says"
        ):
            tables.read_tse_scores(tmp_path / "t.tsv", tests)


def test_a_table_is_of_one_system(tmp_path):
    with pytest.raises(UserError, match="has rows of the systems base, ft; a table is of one"):
        write_and_read("scores", tmp_path, {}, {"system": "base"})
    for directory in ("base/default", "ft/a+b+c"):
        path = tmp_path / directory.partition("/")[0] / directory / "score_utt.tsv"
        write_tsv(path, [score()], score())
        with pytest.raises(UserError, match=f"{re.escape(str(path))}: is the table of ft/default"):
            tables.read_rows(path.parents[2], SYSTEMS)


def test_the_limits_are_those_of_the_measures():
    assert fields.NUMBERS["si_sdr"].high == -fields.NUMBERS["si_sdr"].low == SI_SDR_LIMIT
    assert fields.NUMBERS["si_sdri"].high == 2 * SI_SDR_LIMIT
