"""The mixture protocol."""

from dataclasses import replace

import pytest
from tiny_corpora import FOLDS, write_corpora

from espnet_tse_ser.data.mixing import Levels
from espnet_tse_ser.data.pool import Pool
from espnet_tse_ser.data.protocol import (
    COLUMNS,
    interferer_folds,
    make_protocol,
    read_protocol,
    write_protocol,
)
from espnet_tse_ser.errors import UserError


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    corpora = write_corpora(tmp_path_factory.mktemp("corpora"))
    return Pool.read(corpora.emo), Pool.read(corpora.interferer)


@pytest.fixture(scope="module")
def mixtures(pools):
    return make_protocol(*pools, Levels(), seed=0)


def test_one_mixture_an_utterance(pools, mixtures):
    targets, interferers = pools
    assert [m.mixture for m in mixtures] == list(targets.entries)
    for m in mixtures:
        target, other = targets[m.target], interferers[m.interferers[0]]
        assert m.mixture == m.target and m.seed == 0
        assert (m.speaker, m.gender, m.emotion, m.fold) == (
            *(target.speaker, target.gender, target.emotion, target.fold),
        )
        assert m.interferer_speakers == (other.speaker,) != (m.speaker,)
        assert m.interferer_genders == (other.gender,) and m.interferer_emotions == ("none",)
        assert m.gender_state == ("same" if other.gender == m.gender else "different")
        room = target.num_samples - other.num_samples
        assert min(0, room) <= m.offsets[0] <= max(0, room)


def test_enrollment_is_another_neutral_utterance_of_the_speaker(pools, mixtures):
    targets, _ = pools
    for m in mixtures:
        (utt,) = m.enrollment
        enrollment = targets[utt]
        assert enrollment.speaker == m.speaker and enrollment.emotion == "neu"
        assert utt != m.target and m.enrollment_samples == m.tail == 0
    assert len({m.enrollment for m in mixtures}) == 12


def test_interferer_speakers_are_split_by_fold(pools, mixtures):
    _, interferers = pools
    speakers = {f: {m.interferer_speakers[0] for m in mixtures if m.fold == f} for f in FOLDS}
    for one in FOLDS:
        for other in FOLDS:
            assert one == other or not speakers[one] & speakers[other]
    fold_of = interferer_folds(interferers, list(FOLDS), seed=0)
    assert set(fold_of) == set(interferers.gender)
    for fold in FOLDS:
        genders = sorted(interferers.gender[s] for s in fold_of if fold_of[s] == fold)
        assert genders == ["f", "f", "m", "m"]
        assert speakers[fold] <= {s for s in fold_of if fold_of[s] == fold}
    assert fold_of != interferer_folds(interferers, list(FOLDS), seed=1)


def test_the_seed_decides(pools, mixtures):
    assert make_protocol(*pools, Levels(), seed=0) == mixtures
    other = make_protocol(*pools, Levels(), seed=1)
    assert [m.gains_db for m in other] != [m.gains_db for m in mixtures]
    assert [m.interferers for m in other] != [m.interferers for m in mixtures]


@pytest.mark.parametrize("state", ["same", "different"])
def test_gender_state(pools, state):
    for m in make_protocol(*pools, Levels(), seed=0, gender_state=state, num_interferers=2):
        assert m.gender_state == state
        assert all((g == m.gender) == (state == "same") for g in m.interferer_genders)


def test_random_gender_state_has_both(mixtures):
    states = [m.gender_state for m in mixtures]
    assert 8 <= states.count("same") <= 22 and set(states) == {"same", "different"}


def test_several_interferers(pools):
    mixtures = make_protocol(*pools, Levels("snr", snr=(2, 2)), seed=0, num_interferers=3)
    for m in mixtures:
        assert len(set(m.interferer_speakers)) == 3
        assert len(m.gains_db) == 4 and len(m.offsets) == 3
        same = set(m.interferer_genders) == {m.gender}
        assert m.gender_state == ("same" if same else "different")
        assert m.snr_db == pytest.approx(2.0, abs=0.01)
    # four speakers a fold: all of them can be had, a fifth cannot
    assert make_protocol(*pools, Levels(), seed=0, num_interferers=4)
    with pytest.raises(UserError, match="no interferer speaker of gender 'm or f' is left in fold"):
        make_protocol(*pools, Levels(), seed=0, num_interferers=5)
    with pytest.raises(UserError, match="target 't1f-0': no interferer speaker of gender 'f' is"):
        make_protocol(*pools, Levels(), seed=0, num_interferers=3, gender_state="same")


def test_round_trip(pools, mixtures, tmp_path):
    path = tmp_path / "protocol.tsv"
    write_protocol(path, reversed(mixtures))
    assert read_protocol(path) == mixtures
    assert path.read_text().split("\n")[0].split("\t") == COLUMNS
    several = make_protocol(*pools, Levels(), seed=7, num_interferers=2)
    write_protocol(path, several)
    assert read_protocol(path) == several


def test_columns():
    assert " ".join(COLUMNS) == (
        "mixture target speaker gender emotion interferers interferer_speakers interferer_genders "
        "interferer_emotions gains_db offsets snr_db overlap gender_state enrollment fold seed "
        "tail enrollment_samples"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"gains_db": (1.0, "x")},
            "line 2: gains_db: expected a number of .*, got 'x'; correct it",
        ),
        ({"gains_db": (1.0, "nan")}, "line 2: gains_db: expected a number"),
        ({"offsets": (0.5,)}, "line 2: offsets: expected a whole number .*, got '0.5'"),
        ({"offsets": ("",)}, "line 2: offsets: expected a whole number"),
        ({"snr_db": "loud"}, "line 2: snr_db: expected a number"),
        ({"snr_db": "inf"}, "line 2: snr_db: expected a number"),
        ({"overlap": 1.5}, "line 2: overlap: expected a number of 0 or more and of 1 or less"),
        ({"seed": -1}, "line 2: seed: expected a whole number"),
        ({"tail": "-3"}, "line 2: tail: expected a whole number"),
        ({"enrollment_samples": "1.5"}, "line 2: enrollment_samples: expected a whole number"),
        ({"gains_db": (1.0,)}, r"line 2: gains_db has 1 item\(s\), but with 1 interferer"),
        ({"offsets": (1, 2)}, r"line 2: offsets has 2 item\(s\), .* it has 1; correct it, or"),
        ({"interferer_speakers": ("a", "b")}, r"line 2: interferer_speakers has 2 item\(s\)"),
        ({"interferer_genders": ("m", "f")}, r"line 2: interferer_genders has 2 item\(s\)"),
        ({"interferer_emotions": ("ang", "x")}, r"line 2: interferer_emotions has 2 item\(s\)"),
        ({"mixture": "t1f-1", "target": "t1f-0"}, "duplicate mixture id 't1f-1'"),
    ],
)
def test_bad_protocols(mixtures, tmp_path, change, message):
    path = tmp_path / "protocol.tsv"
    write_protocol(path, [replace(mixtures[0], **change), *mixtures[1:]])
    with pytest.raises(UserError, match=f"protocol.tsv: .*{message}"):
        read_protocol(path)


NAMES = ("mixture", "target", "speaker", "gender", "emotion", "gender_state")
LISTS = ("interferers", "interferer_speakers", "interferer_genders", "interferer_emotions")


@pytest.mark.parametrize("column", [*NAMES, *LISTS, "enrollment", "fold"])
@pytest.mark.parametrize("name", ["", "../x", "/x/y", ".x", "a b", "a\u200b"])
def test_what_is_no_id(mixtures, tmp_path, column, name):
    path = tmp_path / "protocol.tsv"
    value = (name,) if isinstance(getattr(mixtures[0], column), tuple) else name
    message = f"{column}: '.*' cannot be {'a fold' if column == 'fold' else 'an id'}"
    with pytest.raises(UserError, match=f"protocol.tsv: mixture .*{message}"):
        write_protocol(path, [replace(mixtures[0], **{column: value})])
    assert not path.exists()
    write_protocol(path, mixtures[:3])
    header, *rows = (line.split("\t") for line in path.read_text().split("\n"))
    rows[1][header.index(column)] = name
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]), encoding="utf-8")
    with pytest.raises(UserError, match=f"protocol.tsv: line 3: {message}"):
        read_protocol(path)


@pytest.mark.parametrize("fold", ["01", "1.0", "A", "-1", "all"])
def test_what_is_no_fold(mixtures, tmp_path, fold):
    with pytest.raises(UserError, match=f"fold: '{fold}' cannot be a fold: .*whole number"):
        write_protocol(tmp_path / "protocol.tsv", [replace(mixtures[0], fold=fold)])


def test_a_comma_in_a_list_is_no_part_of_an_id(mixtures, tmp_path):
    with pytest.raises(UserError, match="interferers: 'a,b' cannot be an id: it has a comma"):
        write_protocol(tmp_path / "p.tsv", [replace(mixtures[0], interferers=("a,b",))])


def test_unknown_tables(tmp_path):
    path = tmp_path / "protocol.tsv"
    with pytest.raises(UserError, match="protocol.tsv: no such table"):
        read_protocol(path)
    path.write_text("mixture\ttarget\na\tb\n")
    with pytest.raises(UserError, match=r"column\(s\) speaker, .* missing"):
        read_protocol(path)


def renamed(pool, **changes):
    """The pool with fields of all its entries changed by functions."""
    entries = pool.entries.values()
    return Pool([replace(e, **{k: f(e) for k, f in changes.items()}) for e in entries])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gender_state": "mixed"}, "must be one of random, same, different, got 'mixed'"),
        ({"num_interferers": 0}, "--num_interferers 0 .*at least 1"),
        ({"seed": -1}, "--seed -1: .*at least 0"),
        ({"neutral": "calm"}, "target 't1f-0': speaker 't1f' has no other 'calm' utterance"),
    ],
)
def test_wrong_options(pools, options, message):
    with pytest.raises(UserError, match=message):
        make_protocol(*pools, Levels(), **({"seed": 0} | options))


def test_unfit_pools(pools):
    targets, interferers = pools
    with pytest.raises(UserError, match=r"speaker\(s\) t1m are targets and interferers"):
        spoiled = renamed(interferers, speaker=lambda e: "t1m" if e.speaker == "im0" else e.speaker)
        make_protocol(targets, spoiled, Levels(), 0)
    with pytest.raises(UserError, match="target 't2m-1' has no emotion or fold"):
        spoiled = renamed(targets, fold=lambda e: None if e.utt == "t2m-1" else e.fold)
        make_protocol(spoiled, interferers, Levels(), 0)
    with pytest.raises(UserError, match="speaker 't1f' has no other 'neu' utterance to enroll"):
        spoiled = targets.subset(lambda e: e.utt != "t1f-2")
        make_protocol(spoiled, interferers, Levels(), 0)
    with pytest.raises(UserError, match=r"2 interferer speaker\(s\) of gender 'f' cannot be split"):
        few = interferers.subset(lambda e: e.gender == "m" or e.speaker in ("if0", "if1"))
        make_protocol(targets, few, Levels(), 0)


def test_targets_interfere_with_each_other(pools):
    targets, _ = pools
    mixtures = make_protocol(targets, targets, Levels(), seed=0)
    assert [m.mixture for m in mixtures] == list(targets.entries)
    for m in mixtures:
        other = targets[m.interferers[0]]
        assert other.speaker != m.speaker and other.fold == m.fold
        assert m.interferer_speakers == (other.speaker,)
        assert m.interferer_emotions == (other.emotion,)
    assert {m.interferer_emotions[0] for m in mixtures} == {"ang", "hap", "neu", "sad"}
    assert make_protocol(targets, targets, Levels(), seed=0) == mixtures
    # a fold has one man and one woman
    states = {m.gender_state for m in mixtures}
    assert states == {"different"}


def test_too_few_targets_to_interfere_with_each_other(pools):
    targets, _ = pools
    message = (
        "target 't1f-0': no interferer speaker of gender 'f' is left in fold '1'; interferers are "
        "other target speakers of that fold, which has only t1f t1m: make larger folds, take "
        "another gender_state or other interferers"
    )
    with pytest.raises(UserError, match=message):
        make_protocol(targets, targets, Levels(), 0, gender_state="same")
    with pytest.raises(UserError, match="gender 'm or f' is left in fold '1'; .* only t1f t1m"):
        make_protocol(targets, targets, Levels(), 0, num_interferers=2)
    alone = targets.subset(lambda e: e.speaker != "t2m")
    with pytest.raises(UserError, match="target 't2f-0': .* in fold '2'; .* has only t2f:"):
        make_protocol(alone, alone, Levels(), 0)
    crossing = renamed(targets, fold=lambda e: "2" if e.utt == "t1m-3" else e.fold)
    with pytest.raises(UserError, match="'t1m-3': speaker 't1m' is in fold '2' here and in fold"):
        make_protocol(crossing, crossing, Levels(), 0)


def test_a_copy_of_the_targets_is_another_pool(pools):
    targets, _ = pools
    with pytest.raises(UserError, match=r"speaker\(s\) t1f, t1m, .* are targets and interferers"):
        make_protocol(targets, Pool(targets.entries.values()), Levels(), 0)


def test_interferers_of_one_gender(pools):
    targets, interferers = pools
    men = interferers.subset(lambda e: e.gender == "m")
    assert {m.interferer_genders for m in make_protocol(targets, men, Levels(), 0)} == {("m",)}
    with pytest.raises(UserError, match="target 't1f-0': no interferer speaker of gender 'f'"):
        make_protocol(targets, men, Levels(), 0, gender_state="same")
