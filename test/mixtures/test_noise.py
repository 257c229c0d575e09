"""Mixtures with noise, clean ones and sets of levels: table, audio, checks, variations."""

import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from changed_mixtures import change, edit_line, with_source
from tiny_corpora import FOLDS, write_corpora, write_noise

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.inference.scoring import score
from espnet_tse_ser.mixtures import checks
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.mixture_set import MixturesInMemory
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.simulation import render, simulate, write_mixture_dir
from espnet_tse_ser.mixtures.sources import group_folds
from espnet_tse_ser.mixtures.splits import shared_noise
from espnet_tse_ser.mixtures.table import COLUMNS, read_mixtures, write_mixtures
from espnet_tse_ser.mixtures.variations import Variation, vary

SET = Levels("snr", snr_set=["clean", 10, 0, -2.5])
KINDS = ("clean", "noise", "levels", "two", "without enrollment")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    corpora = write_corpora(tmp_path_factory.mktemp("corpora"))
    corpora.noise = write_noise(tmp_path_factory.mktemp("noise") / "noise")
    return corpora


@pytest.fixture(scope="module")
def targets(corpora):
    return Pool.read(corpora.emo)


@pytest.fixture(scope="module")
def noise(corpora):
    return Pool.read(corpora.noise)


@pytest.fixture(scope="module")
def tables(targets, noise):
    """Mixtures of different kinds."""
    return {
        "clean": draw_mixtures(targets, None, Levels(), seed=0, num_sources=0),
        "noise": draw_mixtures(targets, noise, Levels("snr"), seed=0),
        "levels": draw_mixtures(targets, noise, SET, seed=0),
        "two": draw_mixtures(targets, noise, SET, seed=0, num_sources=2),
        "without enrollment": draw_mixtures(targets, noise, Levels(), seed=0, neutral=None),
    }


def test_noise_is_no_talker(tables, noise):
    for m in tables["noise"]:
        (source,) = m.sources
        entry = noise[source.utt]
        assert (source.kind, source.group) == ("noise", entry.group)
        assert source.gender is source.emotion is None
        assert (m.gender_state, m.overlap) == ("none", 1.0)
        assert -5.001 < m.snr_db < 5.001 and m.enrollment
    assert all(m.enrollment == () for m in tables["without enrollment"])
    assert len({s.group for m in tables["two"] for s in m.sources}) > 6
    assert all(len({s.group for s in m.sources}) == 2 for m in tables["two"] if m.sources)


def test_noise_that_is_longer_is_cut_and_noise_that_is_shorter_begins_anew(tables, targets, noise):
    kinds = set()
    for m in tables["noise"]:
        (source,) = m.sources
        audio, length = noise.audio(source.utt), targets[m.target].num_samples
        first = -source.offset
        placed = render(m, targets, noise)["noise1"]
        kinds.add((is_longer := len(audio) >= length, first > 0))
        assert 0 <= first <= len(audio) - (length if is_longer else 1)
        expected = np.tile(audio, 4)[first : first + length]
        gain = 10 ** (source.gain_db / 20)
        np.testing.assert_allclose(placed, gain * expected, atol=1e-6)
    assert {(True, True), (False, True)} <= kinds


def test_every_level_of_an_utterance(targets, noise):
    """They differ in the gain of the noise alone; the clean one has none."""
    mixtures = draw_mixtures(targets, noise, SET, seed=0, every_level=True)
    assert len(mixtures) == 4 * len(targets)
    for utt in targets.entries:
        found = {m.level: m for m in mixtures if m.target == utt}
        assert [m.mixture for m in found.values()] == (
            [f"{utt}_clean", f"{utt}_snr10", f"{utt}_snr0", f"{utt}_snr-2.5"]
        )
        assert len({m.enrollment for m in found.values()}) == 1
        clean, loud, equal, faint = found.values()
        assert clean.sources == () and clean.snr_db is None
        for m, level in ((loud, 10), (equal, 0), (faint, -2.5)):
            assert m.snr_db == pytest.approx(level, abs=0.001)
            (source,), (first,) = m.sources, loud.sources
            assert (source.utt, source.offset) == (first.utt, first.offset)
            if m.gain_db == loud.gain_db:  # the mixture was not lowered against clipping
                assert source.gain_db - first.gain_db == pytest.approx(10 - level, abs=1e-3)
        assert clean.gain_db == max(m.gain_db for m in found.values())
    other = Variation(about="x.", sweep="x", value=1, sources="noise")  # other noise of the set
    folds = group_folds(targets, noise, 0)
    for utt in [*targets.entries][:4]:
        of_utt = [m for m in mixtures if m.target == utt]
        varied = [vary(m, other, targets, noise, folds, 1, levels=SET) for m in of_utt]
        assert [(m.mixture, m.level) for m in varied] == [(m.mixture, m.level) for m in of_utt]
        assert len({(s.utt, s.offset) for m in varied for s in m.sources}) == 1
        assert [m.snr_db for m in varied[1:]] == pytest.approx([10, 0, -2.5], abs=0.01)
    with pytest.raises(UserError, match="mixtures at every level need a set of them: give snr_set"):
        draw_mixtures(targets, noise, Levels("snr"), seed=0, every_level=True)
    with pytest.raises(UserError, match="snr_set: 10 is there twice; name each level once"):
        Levels("snr", snr_set=[10, 5, "10.0"]).every()


def test_levels_of_a_set(tables, targets, noise):
    found = {}
    for m in tables["levels"]:
        found.setdefault(m.level, []).append(m)
        if m.level == "clean":
            assert (m.sources, m.snr_db, m.overlap, m.gender_state) == ((), None, 0.0, "none")
            signals = render(m, targets, noise)
            assert list(signals) == ["mix", "spk1"]
            np.testing.assert_array_equal(signals["mix"], signals["spk1"])
        else:
            assert m.snr_db == pytest.approx(float(m.level), abs=1e-3)
    assert found.keys() == {"clean", "10", "0", "-2.5"}
    assert all(3 <= len(part) <= 14 for part in found.values())
    assert all(m.level == "" for m in tables["noise"])


def test_folds_of_noise(tables, targets, noise, tmp_path):
    drawn = group_folds(targets, noise, seed=0)
    assert sorted(drawn.values()) == [fold for fold in FOLDS for _ in range(3)]
    for m in tables["two"]:
        assert {drawn[s.group] for s in m.sources} <= {m.fold}
    own = Pool.read(write_noise(tmp_path / "own", folds="3 2 1".split()))
    assert group_folds(targets, own, seed=0) == {f"n{i}": "321"[i % 3] for i in range(9)}
    assert group_folds(targets, own, seed=1) == group_folds(targets, own, seed=0)
    with pytest.raises(UserError, match="no noise is in fold 2, 3 of the targets.*utt2fold has 1"):
        group_folds(targets, Pool.read(write_noise(tmp_path / "one", folds=["1"])), 0)
    crossing = [replace(e, fold="2") if e.utt == "n0-1" else e for e in own.entries.values()]
    with pytest.raises(UserError, match="recording 'n0' is in fold '2' here and in fold '3' befo"):
        group_folds(targets, Pool(crossing), 0)
    with pytest.raises(UserError, match=r"2 recording\(s\) of noise cannot be split over 3 folds"):
        group_folds(targets, noise.subset(lambda e: e.group in ("n0", "n1")), 0)


def test_noise_that_is_in_all_folds(corpora, targets, noise, tables, split):
    folds = group_folds(targets, noise, seed=0, noise_split="none")
    assert folds == dict.fromkeys(noise.by_group)
    mixtures = draw_mixtures(targets, noise, Levels("snr"), seed=0, noise_split="none")
    met = {fold: {m.sources[0].group for m in mixtures if m.fold == fold} for fold in FOLDS}
    assert all(met[one] & met[other] for one, other in ("12", "23", "13"))
    assert len(set().union(*met.values())) == 9
    assert list(checks.check_split("1", split, mixtures, noise_split="none")) == []
    assert "is also tested" in next(checks.check_split("1", split, mixtures))
    noise_of = {m.mixture: [s.group for s in m.sources] for m in mixtures}
    assert shared_noise([split], noise_of) == met["1"] & (met["2"] | met["3"])
    apart = {m.mixture: [s.group for s in m.sources] for m in tables["noise"]}
    assert shared_noise([split], apart) == set()
    assert shared_noise([split], apart, dict.fromkeys(apart, ["elsewhere"])) == set()
    assert shared_noise([split | {"dev": split["test"]}], apart) == set()
    many = vary(mixtures[0], Variation("a", "b", 1, snr=3), targets, noise, folds, seed=0)
    assert many.sources[0].utt == mixtures[0].sources[0].utt
    for sources in (Pool.read(corpora.interferer), targets, None):
        with pytest.raises(UserError, match="--noise_split none: the sources are no noise; leave"):
            count = 0 if sources is None else 1
            draw_mixtures(targets, sources, Levels(), 0, count, noise_split="none")


def test_talkers_stay_in_their_folds(corpora, targets):
    """A sweep of such a table may draw other sources, which talk."""
    for sources in (targets, Pool.read(corpora.interferer)):
        asked = group_folds(targets, sources, 0, noise_split="none")
        assert asked == group_folds(targets, sources, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tables, tmp_path, kind):
    path = tmp_path / "mixtures.tsv"
    write_mixtures(path, tables[kind])
    assert read_mixtures(path) == tables[kind]
    further = path.read_text().split("\n")[0].split("\t")[len(COLUMNS) :]
    noises, level = ["noises", "noise_groups"], ["level"]
    expected = {"clean": [], "noise": noises, "without enrollment": noises}
    assert further == expected.get(kind, noises + level)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"level": "loud"}, "level: expected a number of .*, or one of clean, got 'loud'"),
        ({"noises": "n0-0,n1-0"}, r"noise_groups has 1 item\(s\), but with 2 source\(s\)"),
        ({"noise_groups": "a b"}, "noise_groups: 'a b' cannot be an id"),
        ({"snr_db": ""}, "snr_db: expected a number"),
    ],
)
def test_bad_tables(tables, tmp_path, changes, message):
    path = tmp_path / "mixtures.tsv"
    write_mixtures(path, tables["levels"])
    number = 2 + next(i for i, m in enumerate(tables["levels"]) if m.sources)
    edit_line(path, number, **changes)
    with pytest.raises(UserError, match=f"mixtures.tsv: line {number}: {message}"):
        read_mixtures(path)


@pytest.mark.parametrize("kind", KINDS)
def test_disk_and_memory_have_the_same_samples(tables, targets, noise, tmp_path, kind):
    mixtures = tables[kind][::3]
    simulate(mixtures, targets, noise, tmp_path)
    write_mixture_dir(tmp_path, mixtures, targets)
    disk = MixtureDir(tmp_path, [m.mixture for m in mixtures], scored=True)
    memory = MixturesInMemory(mixtures, targets, noise)
    assert disk.lengths == memory.lengths
    enrolled = kind != "without enrollment"
    assert (tmp_path / "enroll_spk1.scp").exists() == enrolled
    for m in mixtures:
        for name in ("mix", "ref") + ("enroll",) * enrolled:
            np.testing.assert_array_equal(
                disk.audio(name, m.mixture), memory.audio(name, m.mixture)
            )
        for number, _ in enumerate(m.sources, 1):
            path = read_table(tmp_path / f"noise{number}.scp")[m.mixture]
            samples, _ = soundfile.read(path, dtype="float32")
            np.testing.assert_array_equal(samples, memory.audio(f"noise{number}", m.mixture))
        assert disk.interferers(m.mixture) == memory.interferers(m.mixture) == []
        scores = score(disk, m.mixture, disk.audio("mix", m.mixture))
        if m.sources:
            assert float(scores["si_sdr_mix"]) == pytest.approx(m.snr_db, abs=1)
        else:  # what is the target has no SI-SDR before extraction, and nothing to improve
            assert (scores["si_sdr_mix"], scores["si_sdri"]) == ("", "")
            assert scores["si_sdr"] == "100.000000"
        assert scores["wrong_speaker"] == ""
    assert not list(tmp_path.glob("spk2.scp"))
    if not enrolled:
        with pytest.raises(UserError, match="enroll_spk1.scp: no such file"):
            disk.audio("enroll", mixtures[0].mixture)
        with pytest.raises(UserError, match="'t1f-0': has no enrollment, which extraction needs"):
            memory.audio("enroll", mixtures[0].mixture)


@pytest.mark.parametrize("samples, several", [(5000, False), (0, True), (15000, True)])
def test_enrollments_that_are_put_together_are_rendered(
    tables, targets, tmp_path, samples, several
):
    mixtures = [m for m in tables["clean"] if m.emotion != "neu"][:4]
    neutral = {
        m.mixture: [u for u in targets.by_group[m.speaker] if targets[u].emotion == "neu"]
        for m in mixtures
    }
    changed = [
        replace(
            m,
            enrollment=tuple(neutral[m.mixture]) if several else m.enrollment,
            enrollment_samples=samples,
            tail=700,
        )
        for m in mixtures
    ]
    simulate(changed, targets, None, tmp_path)
    write_mixture_dir(tmp_path, changed, targets)
    disk = MixtureDir(tmp_path, [m.mixture for m in changed])
    memory = MixturesInMemory(changed, targets, None)
    for m in changed:
        enrollment = disk.audio("enroll", m.mixture)
        np.testing.assert_array_equal(enrollment, memory.audio("enroll", m.mixture))
        whole = np.concatenate([targets.audio(u) for u in m.enrollment])
        np.testing.assert_array_equal(enrollment, whole[: samples or None])
        assert disk.lengths[m.mixture] == targets[m.target].num_samples + 700
        assert not disk.audio("mix", m.mixture)[-700:].any()
    path = read_table(tmp_path / "enroll_spk1.scp")[changed[0].mixture]
    assert path == str(tmp_path / f"audio/enroll_spk1/{changed[0].mixture}.flac")


def test_the_pool_must_be_that_of_the_table(tables, targets, corpora):
    with pytest.raises(UserError, match="'n.-.' is of the kind noise, the pool is not; give"):
        render(tables["noise"][0], targets, Pool.read(corpora.interferer))
    with pytest.raises(UserError, match="is of the kind noise, the pool is not"):
        render(tables["noise"][0], targets, None)
    with pytest.raises(UserError, match="--gender_state same: noise has no gender"):
        draw_mixtures(targets, Pool.read(corpora.noise), Levels(), 0, gender_state="same")
    with pytest.raises(UserError, match="--num_sources 1: there is no pool of them; give --sou"):
        draw_mixtures(targets, None, Levels(), 0)
    message = r"4 recording\(s\) of noise cannot be drawn from the 3 of fold '1'; add noise"
    with pytest.raises(UserError, match=f"target 't1f-0': {message}"):
        draw_mixtures(targets, Pool.read(corpora.noise), Levels(), 0, num_sources=4)
    for mode in ("loudness", "snr"):
        with pytest.raises(UserError, match="snr_set"):
            Levels(mode, snr_set=[3] if mode == "loudness" else ["loud"])


@pytest.fixture
def split(targets):
    """Of fold 1, which has the speakers t1f and t1m."""
    sides = {"train": [], "dev": [], "test": []}
    for speaker, utts in targets.by_group.items():
        sides[{"1": "test", "2": "dev", "3": "train"}[speaker[1]]] += utts
    return sides


@pytest.mark.parametrize("kind", KINDS)
def test_sound_tables_have_no_violation(tables, targets, noise, split, kind):
    assert list(checks.check_mixtures(tables[kind], targets, noise)) == []
    assert list(checks.check_split("1", split, tables[kind])) == []
    assert list(checks.check_groups({"targets": targets, "noise": noise})) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"utt": "x"}, "unknown noise 'x'"),
        ({"group": "n0x"}, "recording is 'n0x', but it has 'n"),
        ({"kind": "talker"}, "unknown interferer 'n"),
        ({"gender_state": "same"}, "gender_state is 'same', but the genders are 'none'"),
        ({"level": "clean"}, "level is clean, but snr_db is"),
        ({"sources": ()}, r"snr_db is .*, but there are 0 source\(s\)"),
        ({"enrollment": ()}, "has no enrollment, but others have one"),
    ],
)
def test_planted_faults_are_named(tables, targets, noise, changes, message):
    first, *others = tables["noise"]
    found = "\n".join(checks.check_mixtures([change(first, **changes), *others], targets, noise))
    assert found.startswith("mixture 't1f-0': ")
    assert re.search(message, found)


def test_noise_on_both_sides_of_a_fold(tables, split):
    mixtures = {m.mixture: m for m in tables["noise"]}
    tested = mixtures[split["test"][0]].sources[0]
    spoiled = mixtures[split["train"][0]]
    mixtures[spoiled.mixture] = with_source(spoiled, utt=tested.utt, group=tested.group)
    (message,) = checks.check_split("1", split, list(mixtures.values()))
    assert message == (
        f"fold 1: noise recording '{tested.group}' of train mixture '{spoiled.mixture}' is also "
        "tested"
    )
    # a speaker of that name is no recording
    named = replace(mixtures[split["train"][1]], speaker=tested.group)
    mixtures = {m.mixture: m for m in tables["noise"]} | {named.mixture: named}
    assert list(checks.check_split("1", split, list(mixtures.values()))) == []


def test_noise_in_pretraining_and_test(noise, targets):
    found = checks.check_groups({"targets": targets, "noise": noise, "pretrain 2": noise})
    assert next(found) == "recording 'n0' is in noise and in pretrain 2; keep one of them"
    entries = [replace(e, group="t1f") for e in noise.entries.values() if e.group == "n0"]
    assert list(checks.check_groups({"targets": targets, "noise": Pool(entries)})) == []


def test_the_same_audio_of_two_recordings(noise):
    copied = noise["n1-0"].wav
    entries = [replace(e, wav=copied) if e.utt == "n4-0" else e for e in noise.entries.values()]
    (message,) = checks.check_audio(Pool(entries), "noise")
    assert message.startswith(
        "noise 'n4-0' of recording 'n4' and noise 'n1-0' of recording 'n1' are the same audio"
    )
    assert "correct wav.scp or utt2group" in message


@pytest.fixture
def varied(tables, targets, noise):
    def make(kind, pool=noise, **changes):
        variation = Variation(about="a test", sweep="tests", value=1, **changes)
        folds = group_folds(targets, pool, 0)
        how = {"levels": SET, "num_sources": 1}
        return [(m, vary(m, variation, targets, pool, folds, seed=0, **how)) for m in tables[kind]]

    return make


def test_what_is_not_named_stays(varied):
    for kind in ("clean", "noise", "levels", "two"):
        assert all(one == other for one, other in varied(kind))


def test_every_mixture_at_one_level(varied, targets, noise):
    """As a paper tests: the same noise for an utterance at every SNR, and the clean signal."""
    tables = {snr: dict(varied("levels", snr=snr)) for snr in (20.0, 0.0, "clean")}
    for snr, table in tables.items():
        for one, other in table.items():
            assert other.level == ("clean" if snr == "clean" else f"{snr:g}")
            assert len(other.sources) == (snr != "clean")
            assert other.enrollment == one.enrollment and other.gain_db <= one.gain_db + 1e-9
            if snr != "clean":
                assert other.snr_db == pytest.approx(snr, abs=1e-3)
                twin = tables[0.0][one].sources[0]
                assert (other.sources[0].utt, other.sources[0].offset) == (twin.utt, twin.offset)
                if one.sources:
                    assert twin.utt == one.sources[0].utt
        assert not list(checks.check_mixtures(list(table.values()), targets, noise))


def test_other_noise(varied, tmp_path, tables):
    """Unmatched noise, at the levels of the table; what is clean stays clean."""
    other = Pool.read(write_noise(tmp_path / "other", 3, (1.5,)))
    for one, changed in varied("levels", other, sources="other"):
        assert changed.level == one.level and len(changed.sources) == len(one.sources)
        if one.sources:
            assert changed.snr_db == pytest.approx(one.snr_db, abs=1e-3)


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("noise", {"talkers": 3}, "talkers is of talkers, but its sources are noise"),
        ("noise", {"overlap": 0.5}, "overlap is of talkers, but its sources are noise; leave"),
        ("clean", {"gender_state": "same"}, "gender_state is of talkers, but its sources are none"),
        ("without enrollment", {"enrollment": "emotional"}, "has no enrollment to change"),
        ("without enrollment", {"enrollment_seconds": 1.0}, "has no enrollment to change"),
    ],
)
def test_variations_of_talkers_and_enrollments(varied, kind, changes, message):
    with pytest.raises(UserError, match=f"mixture 't1f-0': {message}"):
        varied(kind, **changes)
