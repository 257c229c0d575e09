"""Rendered mixtures: levels, placement, restart, a full disk; the directory of the result."""

import errno
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_corpora import FS, loudness, pool_options, write_corpora

from espnet_tse_ser.audio.kaldi_dir import read_table
from espnet_tse_ser.audio.reading import read_audio, write_audio
from espnet_tse_ser.bin import simulate as command
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.mixtures.drawing import draw_mixtures
from espnet_tse_ser.mixtures.mixing import Levels
from espnet_tse_ser.mixtures.mixture_dir import MixtureDir
from espnet_tse_ser.mixtures.pool import Pool
from espnet_tse_ser.mixtures.simulation import signal_paths, simulate, write_mixture_dir
from espnet_tse_ser.mixtures.table import read_mixtures, write_mixtures


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def pools(corpora):
    return Pool.read(corpora.emo), Pool.read(corpora.interferer)


@pytest.fixture(scope="module")
def mixtures(pools):
    return draw_mixtures(*pools, Levels(), seed=0)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, pools, mixtures):
    directory = tmp_path_factory.mktemp("mix")
    assert simulate(mixtures, *pools, directory) == (len(mixtures), 0)
    write_mixture_dir(directory, mixtures, pools[0])
    return directory


def read(directory, mixture):
    """The rendered signals of a mixture as 64-bit floats."""
    signals = {}
    for name, path in signal_paths(directory, mixture).items():
        signals[name], rate = soundfile.read(path, dtype="float64")
        info = soundfile.info(path)
        assert (rate, info.channels, info.subtype) == (FS, 1, "PCM_16")
    return signals


def audio_bytes(directory):
    """Contents of all files under ``audio``, hidden ones included."""
    root = Path(directory) / "audio"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_signals(rendered, pools, mixtures):
    for mixture in mixtures:
        signals = read(rendered, mixture)
        assert list(signals) == ["mix", "spk1", "spk2"]
        length = pools[0][mixture.target].num_samples
        assert {len(s) for s in signals.values()} == {length}
        np.testing.assert_allclose(
            signals["mix"], signals["spk1"] + signals["spk2"], atol=2 / 32768
        )
        target, _ = soundfile.read(pools[0][mixture.target].wav)
        gain = 10 ** (mixture.gain_db / 20)
        np.testing.assert_allclose(signals["spk1"], gain * target, atol=2 / 32768)


def test_interferers_are_placed_or_cropped(rendered, pools, mixtures):
    kinds = set()
    for mixture in mixtures:
        scaled, _ = soundfile.read(pools[1][mixture.sources[0].utt].wav)
        scaled *= 10 ** (mixture.sources[0].gain_db / 20)
        placed, offset = read(rendered, mixture)["spk2"], mixture.sources[0].offset
        kinds.add(np.sign(offset))
        if offset < 0:
            expected = scaled[-offset:][: len(placed)]
            np.testing.assert_allclose(placed[: len(expected)], expected, atol=2 / 32768)
        else:
            end = offset + len(scaled)
            np.testing.assert_allclose(placed[offset:end], scaled, atol=2 / 32768)
            assert not placed[:offset].any() and not placed[end:].any()
    assert {-1, 1} <= kinds


def test_loudness_is_that_of_librimix(rendered, mixtures):
    measured = []
    for mixture in mixtures:
        signals = read(rendered, mixture)
        assert np.abs(signals["mix"]).max() < 0.5  # nothing here had to be lowered
        offset = max(0, mixture.sources[0].offset)
        sounding = signals["spk2"][offset : len(np.trim_zeros(signals["spk2"], "b"))]
        measured += [(loudness(signals["spk1"]), loudness(sounding))]
    measured = np.array(measured)
    assert measured[:, 0].min() > -33.02 and measured[:, 0].max() < -24.98
    # a crop of stationary noise has nearly the loudness of the whole
    assert measured[:, 1].min() > -33.5 and measured[:, 1].max() < -24.5
    assert (measured.max(axis=0) > -26.5).all() and (measured.min(axis=0) < -31.5).all()


def test_snr_of_the_table_is_that_of_the_files(rendered, mixtures):
    for mixture in mixtures:
        signals = read(rendered, mixture)
        ratio = 10 * np.log10(np.sum(signals["spk1"] ** 2) / np.sum(signals["spk2"] ** 2))
        assert ratio == pytest.approx(mixture.snr_db, abs=0.02)


@pytest.mark.parametrize("count", [1, 2])
def test_snr_mode_gives_what_was_asked(tmp_path, pools, count):
    levels = Levels("snr", snr=(4.0, 4.0))
    mixtures = draw_mixtures(*pools, levels, seed=3, num_sources=count)[::5]
    simulate(mixtures, *pools, tmp_path)
    for mixture in mixtures:
        signals = read(tmp_path, mixture)
        others = sum(signals[f"spk{i}"] for i in range(2, count + 2))
        ratio = 10 * np.log10(np.sum(signals["spk1"] ** 2) / np.sum(others**2))
        assert ratio == pytest.approx(4.0, abs=0.02)
        assert -33.02 < loudness(signals["spk1"]) < -24.98


def test_loud_mixtures_do_not_clip(tmp_path, pools):
    mixtures = draw_mixtures(*pools, Levels("snr", (-4, -2), (0, 0)), seed=0)[::6]
    simulate(mixtures, *pools, tmp_path)
    for mixture in mixtures:
        signals = read(tmp_path, mixture)
        assert 0.85 < max(np.abs(s).max() for s in signals.values()) <= 0.9
        assert mixture.snr_db == pytest.approx(0.0, abs=0.01)


def test_several_interferers(tmp_path, pools):
    mixtures = draw_mixtures(*pools, Levels(), seed=0, num_sources=2)
    simulate(mixtures, *pools, tmp_path)
    write_mixture_dir(tmp_path, mixtures, pools[0])
    uid = mixtures[0].mixture
    assert read_table(tmp_path / "spk3.scp")[uid] == str(tmp_path / f"audio/spk3/{uid}.flac")
    interferers = MixtureDir(tmp_path, [uid]).interferers(uid)
    assert len(interferers) == 2
    signals = read(tmp_path, mixtures[0])
    np.testing.assert_array_equal(interferers[1], signals["spk3"].astype(np.float32))


def test_restart_renders_only_what_is_missing(tmp_path, rendered, pools, mixtures):
    simulate(mixtures[:10], *pools, tmp_path)
    signal_paths(tmp_path, mixtures[3])["spk1"].unlink()
    signal_paths(tmp_path, mixtures[6])["mix"].write_bytes(b"")
    kept = signal_paths(tmp_path, mixtures[4])["mix"]
    before = kept.stat().st_mtime_ns
    assert simulate(mixtures, *pools, tmp_path) == (len(mixtures) - 8, 0)
    assert kept.stat().st_mtime_ns == before
    assert audio_bytes(tmp_path) == audio_bytes(rendered)
    assert simulate(mixtures, *pools, tmp_path) == (0, 0)


def test_what_another_set_has_is_copied(tmp_path, rendered, pools, mixtures):
    other = tmp_path / "other"
    simulate(mixtures[2:], *pools, other)
    table = [replace(mixtures[2], gain_db=mixtures[2].gain_db - 1), *mixtures[3:]]
    write_mixtures(other / "mixtures.tsv", table)
    signal_paths(other, mixtures[5])["mix"].unlink()
    found = simulate(mixtures, *pools, tmp_path / "set", other=other)
    assert found == (4, len(mixtures) - 4)  # two are not there, one differs, one is not whole
    assert audio_bytes(tmp_path / "set") == audio_bytes(rendered)


def test_another_set_of_other_audio(tmp_path, rendered, pools, mixtures):
    other = tmp_path / "other"
    simulate(mixtures[:2], *pools, other)
    write_mixtures(other / "mixtures.tsv", mixtures[:2])
    path = signal_paths(other, mixtures[0])["spk1"]
    write_audio(path, 0.5 * read_audio(path)[0][:, 0], pools[0].fs)
    with pytest.raises(UserError, match=f"{path}: is not what the row of .* render it again"):
        simulate(mixtures, *pools, tmp_path / "set", other=other)


def test_unrendered_mixtures(tmp_path, pools, mixtures):
    simulate(mixtures[:-1], *pools, tmp_path)
    for _ in range(2):
        message = f"{mixtures[-1].mixture}.flac: not rendered; run stage 4"
        with pytest.raises(UserError, match=message):
            write_mixture_dir(tmp_path, mixtures, pools[0])
        assert not (tmp_path / "wav.scp").exists()
        simulate(mixtures, *pools, tmp_path)
        signal_paths(tmp_path, mixtures[-1])["mix"].write_bytes(b"")


def options(corpora, root, mixtures):
    write_mixtures(root / "table" / "mixtures.tsv", mixtures)
    directories = ["--table_dir", str(root / "table"), "--output_dir", str(root / "mix")]
    return [*pool_options(corpora), *directories]


def test_full_disk(tmp_path, corpora, rendered, mixtures, monkeypatch, capsys):
    write_bytes, count = Path.write_bytes, 0

    def full_after_ten(path, data):
        nonlocal count
        count += 1
        if count > 10:
            write_bytes(path, bytes(data)[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    arguments = options(corpora, tmp_path, mixtures)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_after_ten)
        assert run(command.main, arguments) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    where = signal_paths(tmp_path / "mix", mixtures[3])["spk1"]
    assert message == (
        f"error: no space left on the device while writing {where}; free some space and run the "
        "same command again"
    )
    left, whole = audio_bytes(tmp_path / "mix"), audio_bytes(rendered)
    assert len(left) == 10 and left.items() <= whole.items()
    assert run(command.main, arguments) == 0
    assert audio_bytes(tmp_path / "mix") == whole


def test_really_full_disk(tmp_path, corpora, rendered, mixtures, capsys):
    disk = tmp_path / "mix"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted here")
    try:
        arguments = options(corpora, tmp_path, mixtures)
        whole = audio_bytes(rendered)
        for _ in range(2):  # a second try on the full disk changes nothing
            assert run(command.main, arguments) == 2
            error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
            assert (
                len(error) == 1 and f"no space left on the device while writing {disk}" in error[0]
            )
            left = audio_bytes(disk)
            assert len(left) > 3 and left.items() <= whole.items()
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert run(command.main, arguments) == 0
        assert audio_bytes(disk) == whole
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_tables(rendered, pools, mixtures):
    for name in "wav.scp spk1.scp spk2.scp enroll_spk1.scp utt2num_samples".split():
        assert list(read_table(rendered / name)) == [m.mixture for m in mixtures]
    first = mixtures[0]
    assert read_table(rendered / "utt2spk")[first.mixture] == "t1f"
    assert read_table(rendered / "spk2utt")["t1f"] == " ".join(f"t1f-{i}" for i in range(5))
    assert read_table(rendered / "spk2gender") == pools[0].gender
    assert read_table(rendered / "utt2emo") == {m.mixture: m.emotion for m in mixtures}
    assert read_table(rendered / "utt2fold") == {m.mixture: m.fold for m in mixtures}
    assert read_table(rendered / "utt2category") == {m.mixture: m.gender_state for m in mixtures}
    assert read_mixtures(rendered / "mixtures.tsv") == mixtures
    enrollment = read_table(rendered / "enroll_spk1.scp")[first.mixture]
    assert enrollment == pools[0][first.enrollment[0]].wav


def test_mixture_dir(rendered, pools, mixtures):
    ids = [mixtures[7].mixture, mixtures[2].mixture]
    data = MixtureDir(rendered, ids)
    assert data.ids == ids
    assert data.lengths == {u: pools[0][u].num_samples for u in ids}
    signals = read(rendered, mixtures[7])
    uid, example = data.example(None, ids[0])
    assert uid == ids[0] and str(example["emotion"]) == mixtures[7].emotion
    np.testing.assert_array_equal(example["speech_mix"], signals["mix"].astype(np.float32))
    np.testing.assert_array_equal(example["speech_ref1"], signals["spk1"].astype(np.float32))
    (enrollment,) = mixtures[7].enrollment
    np.testing.assert_array_equal(example["enroll_ref1"], pools[0].audio(enrollment))
    (interferer,) = data.interferers(ids[0])
    np.testing.assert_array_equal(interferer, signals["spk2"].astype(np.float32))
    clean = MixtureDir(rendered, ids, scp=rendered / "spk1.scp")
    np.testing.assert_array_equal(clean.audio(clean.input, ids[0]), clean.audio("ref", ids[0]))


def test_mixture_dir_errors(rendered, tmp_path):
    with pytest.raises(UserError, match=r"wav.scp: 1 of 2 id\(s\) are missing, first 'x'"):
        MixtureDir(rendered, ["t1f-0", "x"])
    with pytest.raises(UserError, match="wav.scp: no such file"):
        MixtureDir(tmp_path, ["t1f-0"])
