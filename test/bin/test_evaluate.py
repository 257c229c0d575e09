"""Stage 15: a variation that changes nothing gives what the stages 4 to 13 give."""

import shutil

import numpy as np
import pytest
import tiny_espnet
import torch
import yaml
from declared import SYSTEMS_DIR
from tiny_corpora import write_noise
from tiny_formatted import voice, write_formatted

from espnet_tse_ser.bin import (
    compare,
    evaluate,
    extract,
    mixture_table,
    recognize,
    score,
    tse_score,
)
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.loading import take_model
from espnet_tse_ser.inference import evaluation
from espnet_tse_ser.inference.model import TSESER
from espnet_tse_ser.mixtures import mixture_set
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.mixtures.variations import Variation

NOTHING = {"about": "Nothing is changed.", "sweep": "none", "value": "none"}
SYSTEMS = {
    "clean_clean": ("ser", "spk1.scp"),
    "clean_noisy": ("ser", "wav.scp"),
    "noisy_noisy": ("ser", "wav.scp"),
    "clean_denoised": ("ser", None),
    "base": ("ser", None),
    "ft": ("joint", "wav.scp"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory, ser_dir, joint_dir):
    """Directories with the runs of both folds; the conditions share an untrained recogniser."""
    root = tmp_path_factory.mktemp("models")
    for name, source in (("ser", ser_dir), ("joint", joint_dir)):
        (root / name).mkdir()
        for run in ("fold1", "fold2", "fold1_seed3", "fold2_seed3"):
            (root / name / run).symlink_to(source)
    return root


@pytest.fixture
def run(tmp_path, tiny_mixtures, models, tse_dir):
    def run(variation, *options, systems=tuple(SYSTEMS), folds="1 2", front_ends=None, root=models):
        (tmp_path / "one.yaml").write_text(yaml.safe_dump(NOTHING | variation))
        rows = []
        for name in systems:
            kind, _ = SYSTEMS[name]
            rows += ["--row", f"{name}/default", str(root / kind), f"conf/{kind}.yaml"]
        evaluate.main(
            [
                *("--config", f"{tmp_path}/one.yaml", "--targets", f"{tiny_mixtures}/emo"),
                *("--sources", f"{tiny_mixtures}/interferer"),
                *("--table_dir", f"{tiny_mixtures}/table", "--folds", folds),
                *(*rows, "--systems_dir", str(SYSTEMS_DIR)),
                *("--front_ends", f"default={tse_dir}" if front_ends is None else front_ends),
                *("--output_dir", f"{tmp_path}/test", *options),
            ]
        )
        return {p.parents[1].name: read_tsv(p) for p in tmp_path.glob("test/*/default/score*.tsv")}

    return run


@pytest.fixture(scope="module")
def main_scores(tmp_path_factory, tiny_mixtures, models, tse_dir):
    """The tables of the stages 7, 8, 12 and 13."""
    root = tmp_path_factory.mktemp("main")
    mix, denoised = f"{tiny_mixtures}/mix", f"{root}/denoised"
    extraction = ["--model_dir", str(tse_dir), "--data_dir", mix, "--output_dir", denoised]
    extract.main(extraction)
    extract.main([*extraction, "--combine"])
    tse_score.main(
        ["--data_dir", mix, "--denoised_dir", denoised, "--output", f"{root}/tse/score_utt.tsv"]
    )
    for system, (kind, scp) in SYSTEMS.items():
        for fold in "12":
            recognize.main(
                [
                    *("--model_dir", f"{models}/{kind}/fold{fold}", "--data_dir", mix),
                    *("--scp", f"{mix}/{scp}" if scp else f"{denoised}/wav.scp"),
                    *("--ids", f"{tiny_mixtures}/table/splits/fold{fold}/test.lst"),
                    *("--output", f"{root}/scores/{system}/default/fold{fold}/hyp.tsv"),
                ]
            )
    score.main(
        [
            *("--scores_dir", f"{root}/scores", "--table_dir", f"{tiny_mixtures}/table"),
            *("--tse_scores", f"default={root}/tse/score_utt.tsv"),
            *("--systems_dir", str(SYSTEMS_DIR), "--scheme", "loso"),
            *(w for s in SYSTEMS for w in ("--row", f"{s}/default", f"conf/{SYSTEMS[s][0]}.yaml")),
        ]
    )
    return {s: read_tsv(root / "scores" / s / "default/score_utt.tsv") for s in SYSTEMS}


def test_nothing_changed(run, main_scores):
    tables = run({})
    assert tables.keys() == SYSTEMS.keys()
    for system, rows in tables.items():
        assert len(rows) == 40
        for row, expected in zip(rows, main_scores[system], strict=True):
            assert row.keys() == expected.keys()
            for name, value in row.items():
                if name.startswith("stoi"):
                    assert value == ""
                    continue
                try:
                    assert float(value) == pytest.approx(float(expected[name]), abs=1e-4)
                except ValueError:
                    assert value == expected[name], (system, name)


def test_a_variation(run, main_scores, tmp_path):
    tables = run({"snr": -8.0}, "--batch_size", "5")
    table = {m.mixture: m for m in read_mixtures(tmp_path / "test" / "mixtures.tsv")}
    assert all(m.snr_db == pytest.approx(-8, abs=0.01) for m in table.values())
    before = {r["id"]: float(r["si_sdr_mix"]) for r in main_scores["ft"]}
    now = {r["id"]: float(r["si_sdr_mix"]) for r in tables["ft"]}
    assert now.keys() == before.keys() and sum(now.values()) < sum(before.values()) - 40 * 4
    clean = tables["clean_clean"]
    assert [r["hypothesis"] for r in clean] == [r["hypothesis"] for r in main_scores["clean_clean"]]


def test_folds_seeds_and_what_is_not_trained(run):
    tables = run({"overlap": 0.5}, "--seeds", "3", systems=["noisy_noisy"], folds="2")
    assert tables.keys() == {"noisy_noisy"}
    rows = tables["noisy_noisy"]
    assert {r["fold"] for r in rows} == {"2"} and {r["seed"] for r in rows} == {"0", "3"}
    assert len(rows) == 40


def test_other_rows_are_kept(run):
    first = run({}, systems=["clean_noisy", "noisy_noisy"])
    tables = run({}, systems=["noisy_noisy"])
    assert tables == first and tables.keys() == {"clean_noisy", "noisy_noisy"}


@pytest.fixture
def recognised(monkeypatch):
    """What was recognised since it was asked last: a set of names."""
    names = []
    inner = evaluation.recognize_set
    monkeypatch.setattr(
        evaluation,
        "recognize_set",
        lambda *args, label, **how: names.append(label) or inner(*args, **how),
    )

    def recognised():
        found = set(names)
        names.clear()
        return found

    return recognised


def renew(path):
    """Write other weights in place of some."""
    state = torch.load(path, weights_only=True)
    path.unlink()
    torch.save({name: value * 1.01 for name, value in state.items()}, path)


THREE = ("noisy_noisy", "base", "ft")


def test_what_the_same_models_made_is_kept(run, recognised, tmp_path, models, tse_dir):
    own, tse = tmp_path / "own", tmp_path / "tse"
    shutil.copytree(models, own)
    shutil.copytree(tse_dir, tse)
    how = dict(systems=THREE, root=own, front_ends=f"default={tse}")
    first = run({}, **how)
    assert recognised() == set(THREE)
    assert run({}, "--batch_size", "3", **how) == first and recognised() == set()
    run({}, **how | {"systems": (*THREE, "clean_clean")})
    assert recognised() == {"clean_clean"}  # adding a system runs it alone
    for path, expected in (
        (own / "joint/fold2/valid.ua.best.pth", {"ft"}),
        (own / "ser/fold1/valid.ua.best.pth", {"noisy_noisy", "base"}),
        (tse / "valid.loss.best.pth", {"base"}),
        (tmp_path / "test/base/default/score_utt.tsv", {"base"}),
        (tmp_path / "test/ft/default/.made_from", {"ft"}),
    ):
        renew(path) if path.suffix == ".pth" else path.unlink()
        again = run({}, **how)
        assert recognised() == expected, path
        assert run({}, **how) == again and recognised() == set()
    for options in (
        ["--scheme", "best_test_epoch"],
        ["--seeds", "3"],
    ):
        run({}, *options, **how)
        assert recognised() == set(THREE), options
    changed = run({"snr": -3.0}, "--seeds", "3", **how)
    assert recognised() == set(THREE)
    before = {row["id"]: row["snr_db"] for row in first["ft"]}
    assert all(before[row["id"]] != row["snr_db"] for row in changed["ft"])


def test_two_tags_side_by_side(run, tmp_path, models, tse_dir, capsys):
    """Two front-ends of one recogniser: two tables, which `bin.compare` compares."""
    other = shutil.copytree(tse_dir, tmp_path / "tse")
    renew(other / "valid.loss.best.pth")
    front_ends = f"default={tse_dir} big={other}"
    row = ["--row", "base/big+default", str(models / "ser"), "conf/big.yaml,conf/ser.yaml"]
    tables = run({}, *row, systems=["base"], front_ends=front_ends)
    tables["big"] = read_tsv(tmp_path / "test/base/big+default/score_utt.tsv")
    assert tables["big"][0]["tag"] == "big+default"
    assert tables["big"][0]["configuration"] == "conf/big.yaml,conf/ser.yaml"
    pairs = list(zip(tables["base"], tables["big"], strict=True))
    assert all(one["si_sdr_mix"] == two["si_sdr_mix"] for one, two in pairs)
    assert any(one["si_sdr"] != two["si_sdr"] for one, two in pairs)
    compare.main([f"{tmp_path}/test/base/{tag}" for tag in ("big+default", "default")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"A: {tmp_path}/test/base/big+default/score_utt.tsv")
    assert lines[2].startswith("40 utterances, with 95 % intervals")
    with pytest.raises(UserError, match="--front_ends: has no 'big', which base/big.default is"):
        run({}, *row, systems=[])


def test_the_epoch_is_that_of_the_main_results(tmp_path, run, models, monkeypatch):
    """Under best_test_epoch it is the best in UA, whatever the configuration chooses by."""
    seen = []
    load = TSESER.from_pretrained.__func__
    monkeypatch.setattr(
        TSESER,
        "from_pretrained",
        classmethod(lambda cls, *args, **how: seen.append(args[1]) or load(cls, *args, **how)),
    )
    run({}, "--scheme", "best_test_epoch", systems=["noisy_noisy"], folds="1")
    assert seen == [models / "ser/fold1/valid.ua.best.pth"]
    run({}, systems=["noisy_noisy"], folds="1")
    assert seen[1:] == [None]


def test_errors(run, tmp_path, tiny_mixtures, models):
    with pytest.raises(UserError, match='--seeds "3 0": seed 0 is there twice'):
        run({}, "--seeds", "3 0")
    with pytest.raises(UserError, match="--folds is empty; name folds"):
        run({}, folds="")
    with pytest.raises(SystemExit):
        run({}, systems=[])
    with pytest.raises(UserError, match="--row noisy_noisy/default: is there twice"):
        run({}, systems=["noisy_noisy", "noisy_noisy"])
    for option in ("--gender_state", "--scheme"):
        with pytest.raises(SystemExit):
            run({}, option, "mixed")
    with pytest.raises(UserError, match="levels: expected one of loudness, snr, got 'mixed'"):
        run({}, "--levels", "mixed")
    for name, message in (("dirty/default", "no system 'dirty'; known"), ("ft/a+b", "3 parts")):
        with pytest.raises(UserError, match=message):
            run({}, "--row", name, str(models / "joint"), "conf/joint.yaml")
    for text, message in (
        ("default", "'default': expected a tag, '=' and a value"),
        ("a=x a=y", "'a' is there twice"),
        ("other=x", "has no 'default', which base/default is tested on"),
    ):
        with pytest.raises(UserError, match=f"--front_ends: {message}"):
            run({}, systems=["noisy_noisy", "base"], front_ends=text)
    systems = shutil.copytree(SYSTEMS_DIR, tmp_path / "systems")
    text = "row: 9\nlabel: x\ntrain: elsewhere\ntest: noisy\nhypotheses: a.tsv\n"
    (systems / "theirs.yaml").write_text(text)
    with pytest.raises(UserError, match="--row theirs/a: is a table of hypotheses, and no"):
        run({}, "--systems_dir", str(systems), "--row", "theirs/a", "none", "none")
    with pytest.raises(UserError, match="no fold 3"):
        run({}, folds="1 3")
    with pytest.raises(UserError, match="esd"):
        run({"sources": "esd"})
    assert not list((tmp_path / "test").glob("*/*/score_utt.tsv"))


def varied(root, pools, *options, **changes):
    """The mixtures in ``root`` and what a test makes of them, without any model."""
    files = [
        "--config",
        "none",
        "--output_dir",
        "none",
        *("--row", "noisy_noisy/default", "none", "none"),
        "--table_dir",
        f"{root}",
    ]
    before = {m.mixture: m for m in read_mixtures(root / "mixtures.tsv")}
    folds = " ".join({m.fold for m in before.values()})
    args = evaluate.get_parser().parse_args([*pools, *files, "--folds", folds, *options])
    mixtures = evaluate._mixtures(args, folds.split(), Variation("a test", "tests", 1, **changes))[
        0
    ]
    return [(before[m.mixture], m) for m in mixtures]


def test_new_interferers_from_the_targets_are_of_the_fold(tmp_path, tiny_mixtures):
    pools = [*("--targets", f"{tiny_mixtures}/emo"), *("--sources", f"{tiny_mixtures}/emo")]
    mixture_table.main([*pools, "--output_dir", str(tmp_path), "--dev_share", "0.5"])
    for one, other in varied(tmp_path, pools, talkers=3):
        assert other.sources[0].utt == one.sources[0].utt
        assert one.speaker not in [s.group for s in other.sources]
        # speakers t0 to t3 are of fold 1, t4 to t7 of fold 2
        assert {"12"[int(s.group[1]) // 4] for s in other.sources} == {one.fold}


def test_folds_of_single_speakers(tmp_path, tiny_mixtures):
    rng = np.random.default_rng(0)
    speakers = [(f"i{s:02}", "mf"[s % 2]) for s in range(20)]
    many = [(f"{s}-0", s, gender, voice(rng, 150, 4000), None, None) for s, gender in speakers]
    write_formatted(tmp_path / "many", many)
    pools = ["--targets", f"{tiny_mixtures}/emo", "--sources", f"{tmp_path}/many"]
    of_speakers = ["--scheme", "loso_speaker"]
    mixture_table.main([*pools, "--output_dir", str(tmp_path), *of_speakers])
    pairs = varied(tmp_path, pools, *of_speakers, gender_state="same")
    fold_of = {s.group: one.fold for one, _ in pairs for s in one.sources}
    assert len({one.fold for one, _ in pairs}) == 8
    for one, other in pairs:
        assert (other.fold, other.speaker, other.gender_state) == (one.fold, one.speaker, "same")
        assert all(fold_of.get(s.group, one.fold) == one.fold for s in other.sources)


@pytest.mark.parametrize("options", [[], ["--noise_split", "none"]])
def test_other_noise_is_split_as_in_the_table(tmp_path, tiny_mixtures, options):
    for name, groups in (("noise", 4), ("other_noise", 2)):
        write_noise(tmp_path / name, groups)
    pools = ["--targets", f"{tiny_mixtures}/emo", "--sources", f"{tmp_path}/noise"]
    files = ["--output_dir", str(tmp_path), "--dev_share", "0.5"]
    mixture_table.main([*pools, *files, *options])
    met = {"1": set(), "2": set()}
    for one, other in varied(tmp_path, pools, *options, sources="other_noise"):
        met[one.fold] |= {s.group for s in other.sources}
    assert [len(groups) for groups in met.values()] == ([2, 2] if options else [1, 1])
    assert met["1"] | met["2"] == {"n0", "n1"}


def test_a_front_end_without_enrollments(run, tmp_path, monkeypatch, tse_dir):
    """Another front-end gives other extracted speech, and gets the mixture alone."""
    config = tiny_espnet.enh("tcn", tiny_espnet.TCN)
    take_model(tiny_espnet.write(tmp_path / "enh", config), tmp_path / "exp", 16000)
    extracted = run({}, systems=("base",), folds="1")["base"]
    audio = mixture_set.MixturesInMemory.audio

    def without_enrollment(self, kind, utt):
        assert kind != "enroll"
        return audio(self, kind, utt)

    monkeypatch.setattr(mixture_set.MixturesInMemory, "audio", without_enrollment)
    enhanced = run({}, systems=("base",), folds="1", front_ends=f"default={tmp_path}/exp")["base"]
    assert [row["id"] for row in enhanced] == [row["id"] for row in extracted]
    assert all(np.isfinite(float(row["si_sdr"])) for row in enhanced)
    assert [r["si_sdr"] for r in enhanced] != [r["si_sdr"] for r in extracted]
