"""Front-ends from elsewhere: found, tried, noted with checksums, and as ESPnet's own inference."""

import json
import shutil
import sys
import types
import zipfile

import numpy as np
import pytest
import tiny_espnet
import torch
import yaml
from evil_files import write_evil

from espnet_tse_ser.bin import front_end as bin_front_end
from espnet_tse_ser.errors import UserError, run
from espnet_tse_ser.frontends.extraction import Extraction, extract, pad_signals
from espnet_tse_ser.frontends.loading import load_front_end, take_model
from espnet_tse_ser.frontends.model_files import files_of, local_files
from espnet_tse_ser.training.checkpoints import load_state

STFT = ("stft", tiny_espnet.STFT)
WIDE = ("stft", {"n_fft": 960, "hop_length": 480, "default_fs": 48000})
EXTRACTION = {
    "ours": tiny_espnet.tse(),
    "batch norm": tiny_espnet.tse({"norm_type": "BN"}),
    "spectra": tiny_espnet.tse(parts=STFT),
    "two targets": tiny_espnet.tse(model={"num_spk": 2}),
}
ENHANCEMENT = {
    "tcn": tiny_espnet.enh("tcn", tiny_espnet.TCN),
    "at 48 kHz": tiny_espnet.enh("tcn", tiny_espnet.TCN, {"always_forward_in_48k": True}),
    "rnn": tiny_espnet.enh(
        "rnn", {"layer": 1, "unit": 8, "nonlinear": "relu"}, {"normalize_variance": True}, STFT
    ),
    "any rate": tiny_espnet.enh(
        "bsrnn",
        {"num_channels": 4, "num_layers": 1},
        {"normalize_variance_per_ch": True},
        WIDE,
    ),
}
MODELS = EXTRACTION | ENHANCEMENT


def _signals(*lengths):
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in lengths]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """name -> directory of an ESPnet training."""
    root = tmp_path_factory.mktemp("trainings")
    return {n: tiny_espnet.write(root / n.replace(" ", "_"), c) for n, c in MODELS.items()}


@pytest.fixture
def taken(tmp_path, trainings):
    """``taken(name)``: an experiment that stands for a model, of a copy of its own."""

    def taken(name):
        shutil.copytree(trainings[name], tmp_path / "elsewhere")
        take_model(tmp_path / "elsewhere", tmp_path / "exp", 16000)
        return tmp_path / "exp"

    return taken


@pytest.mark.parametrize("name", MODELS)
def test_it_gives_what_espnet_gives(trainings, taken, name):
    """In a batch with padding what ESPnet's own inference gives for each signal alone."""
    front_end = load_front_end(taken(name))
    assert front_end.needs_enrollment == (name in EXTRACTION) and front_end.rate == 16000
    mixtures, enrollments = _signals(4000, 3210), _signals(2500, 3333)
    if isinstance(front_end, Extraction):  # the offset is left out
        mixtures, enrollments = ([s - s.mean() for s in part] for part in (mixtures, enrollments))
    if name in EXTRACTION:
        from espnet2.bin.enh_tse_inference import SeparateSpeech
    else:
        from espnet2.bin.enh_inference import SeparateSpeech
    theirs = SeparateSpeech(
        trainings[name] / "config.yaml", trainings[name] / "valid.loss.best.pth"
    )
    estimates = front_end.enhance(*pad_signals(mixtures, "cpu"), enrollments)
    assert estimates.shape == (2, 4000)
    for estimate, mixture, enrollment in zip(estimates, mixtures, enrollments, strict=True):
        given = {"enroll_ref1": enrollment[None]} if name in EXTRACTION else {}
        expected = theirs(mixture[None], fs=16000, **given)[0][0]
        expected = np.pad(expected, (0, len(mixture)))[: len(mixture)]
        exact = 1e-3 if isinstance(front_end, Extraction) else 1e-6  # its norms see the level
        atol = exact * np.abs(expected).max()
        assert atol > 0
        np.testing.assert_allclose(estimate[: len(mixture)].numpy(), expected, atol=atol)


def test_ours_compute_where_they_can(trainings, tmp_path):
    for name, source in trainings.items():
        take_model(source, tmp_path / name, 16000)
        record = json.loads((tmp_path / name / "front_end.json").read_text())
        assert (
            record["ours"]
            == (name == "ours")
            == isinstance(load_front_end(tmp_path / name), Extraction)
        )
        assert record["kind"] == ("tse" if name in EXTRACTION else "enh")
        assert record["source"] == str(source) and len(record["sha256"]["weights"]) == 64
        assert [p.name for p in (tmp_path / name).iterdir()] == ["front_end.json"]


def test_an_enhancement_model_of_this_package(enhancer_dir, tmp_path):
    """As any other model from elsewhere."""
    take_model(enhancer_dir, tmp_path / "exp", 16000)
    record = json.loads((tmp_path / "exp/front_end.json").read_text())
    assert record["ours"] and record["kind"] == "enh"
    assert not files_of(tmp_path / "exp").needs_enrollment
    assert not files_of(enhancer_dir).needs_enrollment
    trained, taken = load_front_end(enhancer_dir), load_front_end(tmp_path / "exp")
    (first,), (second,) = (extract(one, _signals(4000)) for one in (trained, taken))
    assert np.array_equal(first, second) and not taken.needs_enrollment


def test_an_enrollment_is_asked_for_only_where_it_has_an_effect(taken, tmp_path):
    mixtures, enrollments = _signals(4000), _signals(3000)
    denoiser = load_front_end(taken("tcn"))
    (alone,), (beside,) = extract(denoiser, mixtures), extract(denoiser, mixtures, enrollments)
    assert np.array_equal(alone, beside) and alone.shape == (4000,)
    shutil.rmtree(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "exp")
    extractor = load_front_end(taken("spectra"))
    (first,), (second,) = (extract(extractor, mixtures, _signals(n)) for n in (3000, 2000))
    assert not np.allclose(first, second, atol=1e-3 * np.abs(first).max())
    with pytest.raises(UserError, match="needs an enrollment"):
        extract(extractor, mixtures)


def test_random_numbers_are_the_same_for_every_signal(taken, monkeypatch):
    """Those that a diffusion model draws; and those of others are as before."""
    front_end = load_front_end(taken("tcn"))
    monkeypatch.setattr(front_end, "_enhance", lambda mixture: torch.rand_like(mixture))
    torch.manual_seed(7)
    first = front_end.enhance(*pad_signals(_signals(2000, 2000), "cpu"))
    drawn = torch.rand(3)
    assert torch.equal(first[0], first[1])
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), drawn)


# --- where it is ----------------------------------------------------------------------------


def _pack(directory, archive):
    """As ESPnet packs it."""
    names = {"files": {"model_file": "exp/enh/1epoch.pth"}}
    names |= {"yaml_files": {"train_config": "exp/enh/config.yaml"}}
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("meta.yaml", yaml.safe_dump(names | {"espnet": "202511"}))
        target.write(directory / "valid.loss.best.pth", "exp/enh/1epoch.pth")
        target.write(directory / "config.yaml", "exp/enh/config.yaml")
        target.writestr("exp/enh/images/loss.png", "a picture")
    return archive


def _enhanced(directory):
    return extract(load_front_end(directory), _signals(3000))[0]


@pytest.fixture
def expected(trainings, tmp_path):
    take_model(trainings["tcn"], tmp_path / "expected", 16000)
    return _enhanced(tmp_path / "expected")


def test_a_packed_and_an_unpacked_model(trainings, tmp_path, expected):
    archive = _pack(trainings["tcn"], tmp_path / "model.zip")
    assert local_files(archive) == [archive]
    take_model(archive, tmp_path / "exp", 16000)
    assert not list((tmp_path / "exp").rglob("*.png"))
    (tmp_path / "exp").rename(tmp_path / "moved")  # what is in it is found again
    assert np.array_equal(_enhanced(tmp_path / "moved"), expected)
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    take_model(tmp_path / "unpacked", tmp_path / "other", 16000)
    assert np.array_equal(_enhanced(tmp_path / "other"), expected)


@pytest.mark.parametrize(
    ("given", "name", "taken"),
    [
        ("", "valid.si_snr.best.pth", "valid.si_snr.best.pth"),
        ("", "valid.loss.ave_5best.pth", "valid.loss.ave_5best.pth"),
        ("3epoch.pth", "3epoch.pth", "3epoch.pth"),
        ("", "valid.loss.best.pth train.loss.best.pth valid.acc.best.pth", "valid.loss.best.pth"),
    ],
)
def test_which_weights_are_taken(trainings, tmp_path, expected, given, name, taken):
    (tmp_path / "dir").mkdir()
    shutil.copy(trainings["tcn"] / "config.yaml", tmp_path / "dir")
    for one in name.split():
        shutil.copy(trainings["tcn"] / "valid.loss.best.pth", tmp_path / "dir" / one)
    take_model(tmp_path / "dir" / given, tmp_path / "exp", 16000)
    assert files_of(tmp_path / "exp").weights == tmp_path / "dir" / taken
    assert np.array_equal(_enhanced(tmp_path / "exp"), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rm config.yaml", "/dir: has no config.yaml or meta.yaml; give"),
        ("rm valid.loss.best.pth", "/dir: has no weights .*; give the file"),
        ("rm -r .", "there is no such directory or file, and it is no name of the Hugging Face"),
        ("weights valid.a.best.pth valid.b.best.pth", "several weights .valid.a.best.pth, valid.b"),
        ("meta {}", "meta.yaml: yaml_files: train_config: expected a text"),
        ("meta ../../x", "'../../x' is outside of the model"),
        ("meta /etc/passwd", "'/etc/passwd' is outside of the model"),
        ("meta none.yaml", "/none.yaml: no such file, but .*meta.yaml names it"),
    ],
)
def test_directories_that_are_no_models(trainings, tmp_path, change, message):
    directory = tmp_path / "dir"
    shutil.copytree(trainings["tcn"], directory)
    what, *names = change.split()
    if change == "rm -r .":
        shutil.rmtree(directory)
    elif what == "rm":
        (directory / names[0]).unlink()
    elif what == "weights":
        state = (directory / "valid.loss.best.pth").read_bytes()
        (directory / "valid.loss.best.pth").unlink()
        for name in names:
            (directory / name).write_bytes(state)
    else:
        meta = {"files": {"model_file": "valid.loss.best.pth"}}
        if names != ["{}"]:
            meta["yaml_files"] = {"train_config": names[0]}
        (directory / "meta.yaml").write_text(yaml.safe_dump(meta))
    with pytest.raises(UserError, match=message):
        take_model(directory, tmp_path / "exp", 16000)
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "other files"])
def test_archives_that_are_none(trainings, tmp_path, kind):
    path = _pack(trainings["tcn"], tmp_path / "model.zip")
    data = path.read_bytes()
    if kind == "other files":
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("readme.txt", "nothing")
    else:
        path.write_bytes({"text": b"PK text", "empty": b"", "cut": data[: len(data) // 2]}[kind])
    with pytest.raises(UserError, match=r"model.zip: (is no whole zip|has no configuration)"):
        take_model(path, tmp_path / "exp", 16000)


# --- what it is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"separator": None}, "is no configuration of ESPnet's extraction .* or enhancement"),
        ({"sample_rate": None}, "has no sample_rate; say by --frontend_fs"),
        ({"sample_rate": "16k"}, "sample_rate: expected a whole number"),
        ({"sample_rate": 8000}, "/dir: is a model for 8000 Hz .* the data has 16000 Hz; take"),
        ({"separator": "other"}, r"config.yaml: ESPnet \d+ cannot build this model \(\w+: "),
        ({"separator_conf": {"layers": 3}}, r"cannot build this model \(TypeError: .*layers"),
        ({"separator_conf": tiny_espnet.TCN | {"num_spk": 2}}, "separates 2 talkers"),
        ({"separator_conf": tiny_espnet.TCN | {"num_spk": 1, "layer": 3}}, "another architecture"),
    ],
    ids=str,
)
def test_configurations_that_do_not_fit(trainings, tmp_path, change, message):
    directory = shutil.copytree(trainings["tcn"], tmp_path / "dir")
    config = yaml.safe_load((directory / "config.yaml").read_text()) | change
    config = {k: v for k, v in config.items() if v is not None}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=message):
        take_model(directory, tmp_path / "exp", 16000)
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("saved", [8000, None])
def test_a_rate_that_the_user_knows_better(trainings, tmp_path, saved):
    directory = shutil.copytree(trainings["ours"], tmp_path / "dir")
    config = yaml.safe_load((directory / "config.yaml").read_text()) | {"sample_rate": saved}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    take_model(directory, tmp_path / "exp", 16000, 16000)
    assert load_front_end(tmp_path / "exp").rate == 16000


@pytest.mark.parametrize(
    "config",
    [
        tiny_espnet.tse({"use_spk_emb": True, "spk_emb_dim": 4}),
        tiny_espnet.tse(model={"share_encoder": False}),
    ],
    ids=["embeddings", "enrollments as they are"],
)
def test_a_model_of_other_inputs_is_found_out_by_trying(tmp_path, config):
    with pytest.raises(UserError, match="/dir: does not work on one channel of speech"):
        take_model(tiny_espnet.write(tmp_path / "dir", config), tmp_path / "exp", 16000)


@pytest.mark.parametrize("name", ["ours", "spectra", "tcn"])
@pytest.mark.parametrize("wrong", ["pickle", "cut", "NaN", "one missing", "one more"])
def test_weights_are_read_safely_and_strictly(trainings, tmp_path, monkeypatch, name, wrong):
    monkeypatch.chdir(tmp_path)
    directory = shutil.copytree(trainings[name], tmp_path / "dir")
    path = directory / "valid.loss.best.pth"
    state = load_state(path)
    first = next(iter(state))
    if wrong == "pickle":
        write_evil(path, within=state)
    elif wrong == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif wrong == "NaN":
        torch.save(state | {first: state[first] * torch.nan}, path)
    elif wrong == "one missing":
        torch.save({k: v for k, v in state.items() if k != first}, path)
    else:
        torch.save(state | {"further": torch.ones(1)}, path)
    message = {
        "pickle": "holds other objects",
        "cut": "is damaged",
        "NaN": "hold NaN or infinity",
        "one missing": "1 missing, 0 unknown",
        "one more": "0 missing, 1 unknown",
    }[wrong]
    with pytest.raises(UserError, match=f"valid.loss.best.pth: .*{message}"):
        take_model(directory, tmp_path / "exp", 16000)
    assert not (tmp_path / "pwned").exists() and not (tmp_path / "exp").exists()


# --- what is noted --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.yaml", "valid.loss.best.pth"])
@pytest.mark.parametrize("change", ["changed", "gone"])
def test_a_file_that_changes_later_is_noticed(taken, tmp_path, name, change):
    directory = taken("tcn")
    path = tmp_path / "elsewhere" / name
    if change == "changed":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        path.unlink()
    message = f"{name}: {'was ' * (change == 'changed') or 'is '}{change} since .*front_end.json"
    for use in (load_front_end, files_of):
        with pytest.raises(UserError, match=f"{message} was made of {tmp_path}/elsewhere; bring"):
            use(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "asr"}, "kind: expected"),
        ({"rate": "fast"}, "rate: expected a whole number"),
        ({"sha256": {}}, "config.yaml: was changed since"),
        ({"more": 1}, "more"),
    ],
)
def test_a_record_that_someone_has_edited(taken, change, message):
    path = taken("tcn") / "front_end.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        load_front_end(path.parent)


def test_other_weights_than_those_that_are_noted(taken):
    directory = taken("tcn")
    with pytest.raises(UserError, match="front_end.json names the weights of this model; give"):
        load_front_end(directory, "other.pth")


# --- the command and the hub ----------------------------------------------------------------


class HubError(OSError):
    def __init__(self, status):
        super().__init__(f"{status} Client Error\nRequest ID: x")
        self.response = types.SimpleNamespace(status_code=status)


class OfflineModeIsEnabled(ConnectionError):
    pass


@pytest.fixture
def hub(monkeypatch, trainings, tmp_path):
    """A stand-in for huggingface_hub with the repository user/tcn."""
    hub = types.SimpleNamespace(calls=[], error=None)
    packed = _pack(trainings["tcn"], tmp_path / "hub.zip")

    class HfApi:
        def model_info(self, repository, revision=None):
            if hub.error:
                raise hub.error
            return types.SimpleNamespace(sha=f"commit-of-{revision}")

    def snapshot_download(repository, *, revision, local_dir, allow_patterns):
        hub.calls.append((repository, revision))
        assert {"*.yaml", "*.pth"} <= set(allow_patterns)
        shutil.unpack_archive(packed, local_dir)

    module = types.SimpleNamespace(HfApi=HfApi, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return hub


@pytest.mark.parametrize(("name", "revision"), [("user/tcn", None), ("user/tcn@v1.0", "v1.0")])
def test_a_model_of_the_hub(hub, tmp_path, expected, name, revision):
    assert local_files(name) == []
    assert run(bin_front_end.main, [f"--source={name}", "--output_dir=exp"]) == 0
    assert hub.calls == [("user/tcn", f"commit-of-{revision}")]
    record = json.loads((tmp_path / "exp/front_end.json").read_text())
    assert record["revision"] == f"commit-of-{revision}" and record["source"] == name
    assert record["weights"] == "model/exp/enh/1epoch.pth"
    assert np.array_equal(_enhanced(tmp_path / "exp"), expected)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HubError(401), "there is no such repository or revision for this user (401 Client"),
        (HubError(404), "there is no such repository or revision for this user (404 Client"),
        (HubError(503), "the hub answers with status 503"),
        (OfflineModeIsEnabled("offline"), "the hub cannot be reached (offline); run it again"),
        (ConnectionResetError(104, "reset"), "the hub cannot be reached"),
    ],
    ids=str,
)
def test_what_the_hub_says(hub, capsys, error, expected):
    hub.error = error
    assert run(bin_front_end.main, ["--source=user/tcn", "--output_dir=exp"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: user/tcn: is no directory or file here, and the download failed")
    assert expected in line


def test_without_the_hub_s_library(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run(bin_front_end.main, ["--source=user/tcn", "--output_dir=exp"]) == 2
    assert "pip install huggingface_hub" in capsys.readouterr().err
    for name in ("tcn", "user/tcn/x", "../user", "/user/tcn", "user/tc n", "user/tcn@"):
        assert run(bin_front_end.main, [f"--source={name}", "--output_dir=exp"]) == 2
        assert "it is no name of the Hugging Face hub" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_trained_front_end_is_not_replaced(trainings, tse_dir, tmp_path, capsys):
    shutil.copytree(tse_dir, tmp_path / "exp")
    options = [f"--source={trainings['tcn']}", f"--output_dir={tmp_path}/exp"]
    assert run(bin_front_end.main, options) == 2
    assert "a front-end was trained there; give another tag" in capsys.readouterr().err
    assert not (tmp_path / "exp/front_end.json").exists()
