"""The stages 1 to 4 with noise, by their commands: the mini noise disturbs a tiny corpus."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_espnet
import torch
from declared import SYSTEMS_DIR
from tiny_corpora import write_corpora
from tiny_experiments import write_experiment

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import (
    check_data,
    evaluate,
    extract,
    format_audio,
    mixture_table,
    prepare,
    simulate,
    tse_score,
)
from espnet_tse_ser.errors import run
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.frontends.loading import take_model
from espnet_tse_ser.metrics.tables import read_tests
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.mixture_set import MixturesInMemory
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.table import read_mixtures
from espnet_tse_ser.models.build_joint import build_joint_model
from espnet_tse_ser.report.stamp import Stamp, measure

LEVELS = ["--levels", "snr", "--snr_set", "clean 20 0"]


def command(name, *options):
    """As a user runs it."""
    words = [sys.executable, "-m", f"espnet_tse_ser.bin.{name}", *map(str, options)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Corpora, data directories, table and mixtures, made by commands."""
    from espnet_tse_ser.corpora.mini_noise import make_noise

    root = tmp_path_factory.mktemp("stages")
    write_corpora(root)
    make_noise(root / "downloads/noise")
    for name in ("noise", "unlike"):
        data, clean = root / "data" / name, root / name
        assert "50 pieces of noise, 25 recordings" in command(
            *("prepare", "esc50", "--root", root / "downloads/noise/ESC-50"),
            *("--complete", "false", "--output_dir", data),
        )
        directories = ["--data_dir", data, "--output_dir", clean]
        for job in ("1", "2"):
            command("format_audio", *directories, "--nj", "2", "--job", job)
        assert "50 utterances, 25 recordings of noise, 0.03 h" in command(
            "format_audio", *directories, "--nj", "2", "--combine"
        )
    pools = ["--targets", root / "emo", "--sources", root / "noise"]
    command("mixture_table", *pools, "--output_dir", root / "table", *LEVELS, "--dev_share", "0.4")
    messages = command(
        *("check_data", *pools, "--pretrain", root / "pretrain", root / "interferer"),
        *("--table_dir", root / "table", "--folds", "1 2 3"),
    )
    assert "30 targets, 50 noise, 12 pretrain, 24 pretrain 2: no violation" in messages
    files = ["--table_dir", root / "table", "--output_dir", root / "mix"]
    for options in (["--nj", "2", "--job", "1"], ["--nj", "2", "--job", "2"], ["--combine"]):
        command("simulate", *pools, *files, *options)
    return root


def test_mixtures(root):
    mixtures = read_mixtures(root / "table/mixtures.tsv")
    assert {m.level for m in mixtures} == {"clean", "20", "0"} and len(mixtures) == 30
    assert {s.kind for m in mixtures for s in m.sources} == {"noise"}
    noisy = [m.mixture for m in mixtures if m.sources]
    assert list(read_table(root / "mix/noise1.scp")) == noisy and 10 < len(noisy) < 30
    assert not list((root / "mix").glob("spk[2-9].scp"))
    assert set(read_table(root / "mix/utt2category").values()) == {"none"}
    fold_of = {}
    for m in mixtures:
        for source in m.sources:
            assert fold_of.setdefault(source.group, m.fold) == m.fold
    disk = MixtureDir(root / "mix", [m.mixture for m in mixtures])
    memory = MixturesInMemory(mixtures, Pool.read(root / "emo"), Pool.read(root / "noise"))
    for utt in disk.ids:
        for name in ("mix", "ref", "enroll"):
            np.testing.assert_array_equal(disk.audio(name, utt), memory.audio(name, utt))


def draw(root, directory, *options):
    pools = ["--targets", root / "emo", "--output_dir", directory]
    return run(mixture_table.main, [*map(str, pools), *options])


def test_without_sources_or_enrollments(root, tmp_path):
    clean, noisy = tmp_path / "clean", ["--sources", str(root / "noise")]
    assert draw(root, clean, "--without_enrollment") == 0
    mixtures = read_mixtures(clean / "mixtures.tsv")
    assert all(m.sources == m.enrollment == () and m.level == "" for m in mixtures)
    pools = ["--targets", str(root / "emo"), "--table_dir", str(clean)]
    assert run(check_data.main, pools) == 0  # nothing else there
    for combine in ([], ["--combine"]):
        assert run(simulate.main, [*pools, "--output_dir", str(tmp_path / "mix"), *combine]) == 0
    names = sorted(p.name for p in (tmp_path / "mix").glob("*.scp"))
    assert names == ["spk1.scp", "wav.scp"]
    audio = tmp_path / "mix/audio"
    for path in (audio / "mix").iterdir():
        assert path.read_bytes() == (audio / "spk1" / path.name).read_bytes()
    assert draw(root, tmp_path / "noisy", *noisy, "--num_sources", "2", "--seed", "4") == 0
    assert {len(m.sources) for m in read_mixtures(tmp_path / "noisy/mixtures.tsv")} == {2}


def test_enhancement_without_enrollments(
    root, tmp_path, enhancer_dir, ser_dir, enhancer_config, ser_config
):
    """Extraction, scores and sweeps: of ours and of ESPnet's models, and of a joint one."""
    noise = ["--sources", str(root / "noise")]
    assert draw(root, tmp_path / "table", *noise, *LEVELS, "--without_enrollment") == 0
    mix, pools = tmp_path / "mix", ["--targets", str(root / "emo"), *noise]
    pools += ["--table_dir", str(tmp_path / "table")]
    for combine in ([], ["--combine"]):
        simulate.main([*pools, "--output_dir", str(mix), *combine])
    espnets = tiny_espnet.write(tmp_path / "espnet", tiny_espnet.enh("tcn", tiny_espnet.TCN))
    take_model(espnets, tmp_path / "taken", 16000)
    scores = {}
    for name, exp in (("ours", enhancer_dir), ("espnets", tmp_path / "taken")):
        denoised, table = tmp_path / f"denoised_{name}", tmp_path / f"{name}.tsv"
        directories = ["--model_dir", str(exp), "--data_dir", str(mix), "--output_dir"]
        for combine in ([], ["--combine"]):
            extract.main([*directories, str(denoised), *combine])
        options = ["--data_dir", mix, "--denoised_dir", denoised, "--output", table]
        tse_score.main([*map(str, options)])
        scores[name] = {row["id"]: row["si_sdr"] for row in read_tsv(table)}

    # Sweeps make the same in memory.
    joint = {"tse": enhancer_config, "ser": ser_config, "model_conf": {}, "fs": 16000}
    torch.manual_seed(3)
    write_experiment(tmp_path / "joint/fold1", joint, build_joint_model(joint), "valid.ua")
    (tmp_path / "ser").mkdir()
    (tmp_path / "ser/fold1").symlink_to(ser_dir)
    (tmp_path / "one.yaml").write_text("about: None.\nsweep: none\nvalue: none\n")
    rows = [("base/ours+x", "ser"), ("clean_denoised/espnets+x", "ser"), ("ft/x", "joint")]
    evaluate.main(
        [
            *("--config", f"{tmp_path}/one.yaml", *pools, "--folds", "1", *LEVELS),
            *(w for r, kind in rows for w in ("--row", r, f"{tmp_path}/{kind}", "conf/x.yaml")),
            *("--front_ends", f"ours={enhancer_dir} espnets={tmp_path}/taken"),
            *("--systems_dir", str(SYSTEMS_DIR), "--output_dir", f"{tmp_path}/test"),
        ]
    )
    for row, _ in rows:
        found = read_tsv(tmp_path / "test" / row / "score_utt.tsv")
        assert len(found) == 10
        for line in found:
            value = float(line["si_sdr"])
            assert np.isfinite(value)
            if row != "ft/x":
                expected = scores[row.split("/")[1].removesuffix("+x")][line["id"]]
                assert value == pytest.approx(float(expected), abs=1e-3)


def test_what_leaks_is_refused(root, tmp_path, capsys):
    pools = ["--targets", root / "emo", "--sources", root / "noise"]
    files = ["--table_dir", root / "table", "--pretrain"]
    check = [*map(str, [*pools, *files])]
    assert run(check_data.main, [*check, f"{root}/pretrain", f"{root}/unlike"]) == 2
    error = capsys.readouterr().err
    assert "recording 'fs9031' is in noise and in pretrain 2; keep one of them" in error


def test_noise_of_pretraining_that_is_tested_is_refused(root, tmp_path, capsys):
    pools = ["--targets", root / "emo", "--sources", root / "noise"]
    check = [*map(str, [*pools, "--table_dir", root / "table", "--pretrain_noise"])]
    other = shutil.copytree(root / "noise", tmp_path / "other")
    groups = read_table(other / "utt2group")
    renamed = {u: g if g == "fs9003" else f"other-{g}" for u, g in groups.items()}
    write_table(other / "utt2group", renamed)
    assert run(check_data.main, [*check, str(other)]) == 2
    error = capsys.readouterr().err
    assert error.count(" is in noise and in pretraining noise; keep one of them") == 1
    assert "recording 'fs9003' is in noise and in " in error
    # The same audio under another name does not get through either
    assert "'esc50-1-9001-A-36' of recording 'other-fs9001' and noise 'esc50-1-9001-A" in error
    assert run(check_data.main, [*check, str(root / "pretrain")]) == 2
    assert "pretrain: holds talkers; give them as --pretrain" in capsys.readouterr().err
    noise = [*("--root", root / "downloads/noise/musan"), "--complete", "false"]
    assert run(prepare.main, ["musan", *map(str, noise), "--output_dir", f"{tmp_path}/data"]) == 0
    for combine in ([], ["--combine"]):
        directories = ["--data_dir", f"{tmp_path}/data", "--output_dir", f"{tmp_path}/apart"]
        assert run(format_audio.main, [*directories, *combine]) == 0
    assert run(check_data.main, [*check, f"{tmp_path}/apart"]) == 0
    # Nor does noise of a sweep that is in the training, or in pretraining.
    capsys.readouterr()
    sweep = [f"{tmp_path}/apart", "--sweep_sources", f"{tmp_path}/apart"]
    assert run(check_data.main, [*check, *sweep]) == 2
    assert "is in pretraining noise and in sources of sweeps (apart)" in capsys.readouterr().err


def test_noise_in_all_folds(root, tmp_path, capsys, caplog):
    noise = ["--sources", str(root / "noise"), *LEVELS, "--dev_share", "0.4"]
    assert draw(root, tmp_path, *noise, "--noise_split", "none") == 0
    pools = ["--targets", str(root / "emo"), *noise[:2]]
    check = [*pools, "--table_dir", str(tmp_path)]
    assert run(check_data.main, check) == 2
    assert "is also tested" in capsys.readouterr().err
    with caplog.at_level("WARNING"):
        assert run(check_data.main, [*check, "--noise_split", "none"]) == 0
    (warning,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert re.fullmatch(
        r"noise is shared between train and test, as asked: \d+ of \d+ recordings", warning
    )
    for directory, shared in ((tmp_path, True), (root / "table", False)):
        words, count = measure(directory, read_tests(directory / "mixtures.tsv", ["1"]))
        assert words.startswith("by speaker, ") and count == 30
        assert words.endswith("% of the training side; noise shared between train and test") == (
            shared
        )
        of_speakers = measure(
            directory, read_tests(directory / "mixtures.tsv", ["1"]), "loso_speaker"
        )
        assert of_speakers[0].startswith("the rest of the test speaker's group, ")
        assert f"dev: {words}; fold 1; " in Stamp("loso", words, ("1",), ("0",), 10, 30).text()
    # In a test with other noise than that of the table, none is shared
    tests = {"1": read_tests(tmp_path / "mixtures.tsv", ["1"])["1"]}
    elsewhere = {u: row | {"noise_groups": "elsewhere"} for u, row in tests["1"].items()}
    assert measure(tmp_path, {"1": elsewhere}) == (words, 30)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--snr_set", "clean 5"], "snr_set needs levels snr, got levels loudness"),
        (["--gender_state", "same"], "--gender_state same: noise has no gender"),
        (["--num_sources", "10"], "10 recording(s) of noise cannot be drawn from the 9 of fold"),
    ],
)
def test_wrong_values(root, tmp_path, options, message, capsys):
    assert draw(root, tmp_path, "--sources", str(root / "noise"), *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "mixtures.tsv").exists()


def test_a_directory_is_of_one_kind(root, tmp_path, capsys):
    noise = ["musan", "--root", str(root / "downloads/noise/musan"), "--complete", "false"]
    assert run(prepare.main, [*noise, "--output_dir", str(tmp_path / "data")]) == 0
    table = (tmp_path / "data/utt2group").read_text()
    (tmp_path / "data/utt2spk").write_text(table)
    directories = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "clean")]
    assert run(format_audio.main, directories) == 2
    message = f"{tmp_path}/data: has utt2spk and utt2group; talkers and noise need a directory each"
    assert message in capsys.readouterr().err
