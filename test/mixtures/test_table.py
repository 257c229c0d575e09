"""The mixture table: what is written is read, and what is no table is refused."""

from dataclasses import replace

import pytest
from changed_mixtures import edit_line, with_source

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.table import COLUMNS, read_mixtures, write_mixtures


def test_round_trip(pools, mixtures, tmp_path):
    path = tmp_path / "mixtures.tsv"
    write_mixtures(path, reversed(mixtures))
    assert read_mixtures(path) == mixtures
    assert path.read_text().split("\n")[0].split("\t") == COLUMNS
    several = draw_mixtures(*pools, Levels(), seed=7, num_sources=2)
    write_mixtures(path, several)
    assert read_mixtures(path) == several


def test_columns():
    assert " ".join(COLUMNS) == (
        "mixture target speaker gender emotion interferers interferer_speakers interferer_genders "
        "interferer_emotions gains_db offsets snr_db overlap gender_state enrollment fold seed "
        "tail enrollment_samples"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"gains_db": "1,x"}, "line 2: gains_db: expected a number of .*, got 'x'; correct it"),
        ({"gains_db": "1,nan"}, "line 2: gains_db: expected a number"),
        ({"offsets": "0.5"}, "line 2: offsets: expected a whole number .*, got '0.5'"),
        ({"offsets": ""}, r"line 2: offsets has 0 item\(s\), .* it has 1"),
        ({"interferers": ""}, r"interferer_speakers has 1 item\(s\), but with 0 source\(s\)"),
        ({"snr_db": ""}, "line 2: snr_db: expected a number"),
        ({"snr_db": "loud"}, "line 2: snr_db: expected a number"),
        ({"snr_db": "inf"}, "line 2: snr_db: expected a number"),
        ({"overlap": 1.5}, "line 2: overlap: expected a number of 0 or more and of 1 or less"),
        ({"seed": -1}, "line 2: seed: expected a whole number"),
        ({"tail": "-3"}, "line 2: tail: expected a whole number"),
        ({"enrollment_samples": "1.5"}, "line 2: enrollment_samples: expected a whole number"),
        ({"gains_db": "1"}, r"line 2: gains_db has 1 item\(s\), but with 1 source"),
        ({"offsets": "1,2"}, r"line 2: offsets has 2 item\(s\), .* it has 1; correct it, or"),
        ({"interferer_speakers": "a,b"}, r"line 2: interferer_speakers has 2 item\(s\)"),
        ({"interferer_genders": "m,f"}, r"line 2: interferer_genders has 2 item\(s\)"),
        ({"interferer_emotions": "ang,x"}, r"line 2: interferer_emotions has 2 item\(s\)"),
        ({"mixture": "t1f-1", "target": "t1f-0"}, "duplicate mixture id 't1f-1'"),
    ],
)
def test_bad_tables(mixtures, tmp_path, change, message):
    path = tmp_path / "mixtures.tsv"
    write_mixtures(path, mixtures)
    edit_line(path, 2, **change)
    with pytest.raises(UserError, match=f"mixtures.tsv: .*{message}"):
        read_mixtures(path)


NAMES = ("mixture", "target", "speaker", "gender", "emotion", "gender_state")
OF_SOURCES = {
    "interferers": "utt",
    "interferer_speakers": "group",
    "interferer_genders": "gender",
    "interferer_emotions": "emotion",
}


@pytest.mark.parametrize("column", [*NAMES, *OF_SOURCES, "enrollment", "fold"])
@pytest.mark.parametrize("name", ["", "../x", "/x/y", ".x", "a b", "a\u200b"])
def test_what_is_no_id(mixtures, tmp_path, column, name):
    path = tmp_path / "mixtures.tsv"
    if column in OF_SOURCES:
        changed = with_source(mixtures[0], **{OF_SOURCES[column]: name})
    else:
        changed = replace(mixtures[0], **{column: (name,) if column == "enrollment" else name})
    message = f"{column}: '.*' cannot be {'a fold' if column == 'fold' else 'an id'}"
    with pytest.raises(UserError, match=f"mixtures.tsv: mixture .*{message}"):
        write_mixtures(path, [changed])
    assert not path.exists()
    write_mixtures(path, mixtures[:3])
    edit_line(path, 3, **{column: name})
    if not name and column == "enrollment":  # there may be none; the data check looks at that
        assert read_mixtures(path)[1].enrollment == ()
        return
    if not name and column in OF_SOURCES:
        message = r".* has \d item\(s\), but with"
    with pytest.raises(UserError, match=f"mixtures.tsv: line 3: {message}"):
        read_mixtures(path)


@pytest.mark.parametrize("fold", ["01", "1.0", "A", "-1", "all"])
def test_what_is_no_fold(mixtures, tmp_path, fold):
    with pytest.raises(UserError, match=f"fold: '{fold}' cannot be a fold: .*whole number"):
        write_mixtures(tmp_path / "mixtures.tsv", [replace(mixtures[0], fold=fold)])


def test_a_comma_in_a_list_is_no_part_of_an_id(mixtures, tmp_path):
    with pytest.raises(UserError, match="interferers: 'a,b' cannot be an id: it has a comma"):
        write_mixtures(tmp_path / "p.tsv", [with_source(mixtures[0], utt="a,b")])


def test_unknown_tables(tmp_path):
    path = tmp_path / "mixtures.tsv"
    with pytest.raises(UserError, match="mixtures.tsv: no such table"):
        read_mixtures(path)
    path.write_text("mixture\ttarget\na\tb\n")
    with pytest.raises(UserError, match=r"column\(s\) speaker, .* missing"):
        read_mixtures(path)
