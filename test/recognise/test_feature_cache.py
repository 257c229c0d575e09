"""Kept features: equal to fresh ones, and computed again where audio, model or archive changed."""

import kaldiio
import numpy as np
import omniio
import pytest
import soundfile
import torch
from tiny_ssl import ARCH, frontend_conf, write_weights

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import read_tsv
from espnet_tse_ser.recognise import feature_cache
from espnet_tse_ser.recognise.feature_cache import FeatureCache, combine, compute
from espnet_tse_ser.recognise.frontend import LogMelFrontend
from espnet_tse_ser.recognise.ssl_frontend import SSLFrontend, count_frames

FS = 16000


@pytest.fixture
def frontend(tmp_path):
    return SSLFrontend(**frontend_conf(write_weights(tmp_path / "ssl.pt"))).train()


@pytest.fixture
def wavs(tmp_path):
    rng = np.random.default_rng(0)
    paths = {f"u{i}": tmp_path / f"u{i}.wav" for i in range(5)}
    for number, path in enumerate(paths.values()):
        soundfile.write(path, 0.1 * rng.standard_normal(900 + 333 * number), FS)
    return paths


@pytest.fixture
def cache_dir(tmp_path, frontend, wavs, monkeypatch):
    """Five utterances in shards of two."""
    monkeypatch.setattr(feature_cache, "SHARD_UTTERANCES", 2)
    assert len(compute(tmp_path / "feats", frontend, wavs, FS, "float32")) == 5
    combine(tmp_path / "feats", frontend, wavs, "float32")
    return tmp_path / "feats"


def _expected(frontend, path):
    speech = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
    with torch.no_grad():
        return frontend.eval()(speech, torch.tensor([speech.shape[1]]))[0][0].numpy()


def _update(directory, frontend, wavs, dtype="float32"):
    written = compute(directory, frontend, wavs, FS, dtype)
    combine(directory, frontend, wavs, dtype)
    return [entry.id for entry in written]


def test_features_are_those_of_the_frontend(cache_dir, frontend, wavs):
    cache = FeatureCache(cache_dir)
    cache.check(wavs)
    cache.check_frontend(frontend)
    scp = dict(omniio.kaldi.load_scp(str(cache_dir / "feats.scp")))
    assert list(scp) == sorted(wavs)
    for row in read_tsv(cache_dir / "index.tsv"):
        expected = _expected(frontend, wavs[row["id"]])
        for feats in (cache.load(row["id"]), scp[row["id"]]):
            assert feats.dtype == np.float32 and feats.shape[1] == 16
        np.testing.assert_array_equal(cache.load(row["id"]), expected)
        np.testing.assert_array_equal(scp[row["id"]], expected)
        assert len(expected) == int(row["frames"])
        assert len(expected) == count_frames(int(row["samples"]), "custom", ARCH)
    assert len(list(cache_dir.glob("shards/*/*.ark"))) == 3


def test_another_length_is_another_frontend(tmp_path, cache_dir, frontend, wavs):
    fixed = SSLFrontend(**frontend_conf(tmp_path / "ssl.pt", fixed_seconds=0.1))
    with pytest.raises(UserError, match="fixed_samples is null, the model has 1600"):
        FeatureCache(cache_dir).check_frontend(fixed)
    assert _update(cache_dir, fixed, wavs) == list(wavs)
    for utt, path in wavs.items():
        feats = FeatureCache(cache_dir).load(utt)
        assert len(feats) == count_frames(1600, "custom", ARCH)
        np.testing.assert_array_equal(feats, _expected(fixed, path))


def test_half_precision(tmp_path, frontend, wavs, cache_dir):
    half = tmp_path / "half"
    assert len(_update(half, frontend, wavs, "float16")) == 5
    scp = dict(kaldiio.load_scp(str(half / "feats.scp")))
    for utt, path in wavs.items():
        expected = _expected(frontend, path)
        assert scp[utt].dtype == np.float16
        np.testing.assert_array_equal(FeatureCache(half).load(utt), scp[utt].astype(np.float32))
        np.testing.assert_allclose(scp[utt], expected, rtol=2**-11, atol=1e-7)
    sizes = [sum(p.stat().st_size for p in d.glob("shards/*/*.ark")) for d in (half, cache_dir)]
    assert sizes[0] < 0.6 * sizes[1]


def test_float16_refuses_what_it_cannot_hold(tmp_path, frontend, wavs):
    state = frontend.ssl.state_dict()
    loud = {k: v * 1e6 for k, v in state.items() if k.endswith("final_layer_norm.weight")}
    torch.save(state | loud, tmp_path / "loud.pt")
    frontend = SSLFrontend(**frontend_conf(tmp_path / "loud.pt"))
    with pytest.raises(UserError, match=r"'u0' .*float16 cannot hold; use float32"):
        compute(tmp_path / "half", frontend, wavs, FS, "float16")
    assert not list(tmp_path.glob("half/**/*.ark"))


def test_only_what_changed_is_computed(cache_dir, frontend, wavs):
    arks = {p: p.stat().st_mtime_ns for p in cache_dir.glob("shards/*/*.ark")}
    assert _update(cache_dir, frontend, wavs) == []
    assert {p: p.stat().st_mtime_ns for p in cache_dir.glob("shards/*/*.ark")} == arks
    samples, _ = soundfile.read(wavs["u3"])
    soundfile.write(wavs["u3"], samples[::-1], FS)  # as long as it was
    new = wavs["u0"].with_name("new.wav")
    soundfile.write(new, samples[:800], FS)
    with pytest.raises(UserError, match=r"audio of 1 of 5 id\(s\) has changed .* 'u3' .*stage 9"):
        FeatureCache(cache_dir).check(wavs)
    with pytest.raises(UserError, match=r"2 of 6 id\(s\) are not computed, first 'u3'; run stage"):
        combine(cache_dir, frontend, wavs | {"v0": new}, "float32")
    FeatureCache(cache_dir)  # is left as it was
    assert _update(cache_dir, frontend, wavs | {"v0": new}) == ["u3", "v0"]
    cache = FeatureCache(cache_dir)
    cache.check(wavs | {"v0": new})
    np.testing.assert_array_equal(cache.load("u3"), _expected(frontend, wavs["u3"]))
    # The shards of u0 and u1, u2 and the old u3, u4, u3 and v0; without u2 and u3 one less.
    assert len(list(cache_dir.glob("shards/*/*.ark"))) == 4
    combine(cache_dir, frontend, {u: p for u, p in wavs.items() if u in ("u0", "u3")}, "float32")
    assert len(list(cache_dir.glob("shards/*/*.ark"))) == 2
    assert list(FeatureCache(cache_dir).entries) == ["u0", "u3"]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("weights", {}, "weights is "),
        ("layer", {"layer": 1}, "layer is 2, the model has 1"),
        ("heads", {"arch_conf": ARCH | {"encoder_num_heads": 4}}, "architecture is "),
    ],
)
def test_another_frontend_invalidates_all(cache_dir, wavs, tmp_path, name, changes, message):
    seed = 1 if name == "weights" else 0
    other = SSLFrontend(**frontend_conf(write_weights(tmp_path / "other.pt", seed)) | changes)
    with pytest.raises(UserError, match=f"another front-end than the model's: {message}"):
        FeatureCache(cache_dir).check_frontend(other)
    with pytest.raises(UserError, match=r"5 of 5 id\(s\) are not computed"):
        combine(cache_dir, other, wavs, "float32")
    assert _update(cache_dir, other, wavs) == list(wavs)
    FeatureCache(cache_dir).check_frontend(other)
    assert len(list(cache_dir.glob("shards/*"))) == 1
    expected = _expected(other, wavs["u1"])
    np.testing.assert_array_equal(FeatureCache(cache_dir).load("u1"), expected)


def test_another_precision_invalidates_all(cache_dir, frontend, wavs):
    assert _update(cache_dir, frontend, wavs, "float16") == list(wavs)
    FeatureCache(cache_dir).check_frontend(frontend)


def test_what_lies_beyond_the_end_of_an_archive_is_computed_again(cache_dir, frontend, wavs):
    cache = FeatureCache(cache_dir)
    entry = cache.entries["u1"]  # behind u0
    with open(entry.ark, "r+b") as stream:
        stream.truncate(entry.end - 1)
    with pytest.raises(UserError, match=r"'u1' are missing or cut short .*run stage 9"):
        cache.check(wavs)
    with pytest.raises(UserError, match=r"features of 'u1': .*cut short"):
        cache.load("u1")
    cache.load("u0")
    assert _update(cache_dir, frontend, wavs) == ["u1"]
    cache = FeatureCache(cache_dir)
    cache.check(wavs)
    cache.entries["u2"].ark.unlink()
    with pytest.raises(UserError, match="'u2' are missing or cut short"):
        cache.check(wavs)
    assert _update(cache_dir, frontend, wavs) == ["u2", "u3"]


def test_an_interrupted_job_loses_one_shard(tmp_path, frontend, wavs, monkeypatch):
    monkeypatch.setattr(feature_cache, "SHARD_UTTERANCES", 2)
    features, computed = feature_cache._features, []

    def killed(frontend, speech):
        computed.append(speech)
        if len(computed) == 4:
            raise KeyboardInterrupt
        return features(frontend, speech)

    monkeypatch.setattr(feature_cache, "_features", killed)
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "feats", frontend, wavs, FS, "float32")
    shard = next(tmp_path.glob("feats/shards/*"))
    assert len(list(shard.glob("*.ark"))) == 1
    # An archive without its index, and what a killed job has left, are not taken for done.
    (shard / "0123456789abcdef.ark").write_bytes(b"u2 half")
    (shard / ".tmp.1.ark").write_bytes(b"u2 half")
    with pytest.raises(UserError, match=r"3 of 5 id\(s\) are not computed, first 'u2'"):
        combine(tmp_path / "feats", frontend, wavs, "float32")
    with pytest.raises(UserError, match="holds no features"):
        FeatureCache(tmp_path / "feats")
    assert _update(tmp_path / "feats", frontend, wavs) == ["u2", "u3", "u4"]
    assert len(list(shard.glob("*.ark"))) == 3 and not list(shard.glob(".tmp*"))
    FeatureCache(tmp_path / "feats").check(wavs)


def test_wrong_ids_and_damaged_tables(cache_dir, wavs, tmp_path):
    with pytest.raises(UserError, match=r"index.tsv: 1 of 6 id\(s\) are missing, first 'x'"):
        FeatureCache(cache_dir).check(wavs | {"x": wavs["u0"]})
    wavs["u0"].unlink()
    with pytest.raises(UserError, match="u0.wav: no such audio file"):
        FeatureCache(cache_dir).check(wavs)
    table = (cache_dir / "index.tsv").read_text()
    (cache_dir / "index.tsv").write_text(table.replace("u0\t", "u0\tmany\t", 1))
    with pytest.raises(UserError, match="index.tsv: "):
        FeatureCache(cache_dir)
    with pytest.raises(UserError, match="none: holds no features .index.tsv.; run stage 9"):
        FeatureCache(tmp_path / "none")


def test_signals_in_an_archive(tmp_path, frontend):
    rng = np.random.default_rng(1)
    samples = {f"u{i}": (1e4 * rng.standard_normal(1000)).astype(np.int16) for i in range(2)}

    def write(samples):
        ark, scp = str(tmp_path / "wav.ark"), str(tmp_path / "wav.scp")
        kaldiio.save_ark(ark, {u: (FS, x) for u, x in samples.items()}, scp=scp)
        return dict(line.split() for line in (tmp_path / "wav.scp").read_text().splitlines())

    assert _update(tmp_path / "feats", frontend, write(samples)) == ["u0", "u1"]
    samples["u1"] = -samples["u1"]
    assert _update(tmp_path / "feats", frontend, write(samples)) == ["u1"]


def test_frontends_that_change_cannot_be_kept(tmp_path, wavs):
    weights = write_weights(tmp_path / "ssl.pt")
    for changes, message in (
        ({"finetune": True}, "finetune: true changes"),
        ({"layer": "weighted"}, "layer: weighted is learned"),
    ):
        frontend = SSLFrontend(**frontend_conf(weights, **changes))
        with pytest.raises(UserError, match=f"features cannot be kept: {message}"):
            compute(tmp_path / "feats", frontend, wavs, FS, "float32")
    with pytest.raises(UserError, match="front-end 'LogMelFrontend'"):
        compute(tmp_path / "feats", LogMelFrontend(), wavs, FS, "float32")
