"""Global normalisation: ESPnet's class on the same statistics, and errors."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from espnet2.layers.global_mvn import GlobalMVN as ESPnetGlobalMVN
from evil_files import Payload

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.recognise.normalize import GlobalMVN


@pytest.fixture
def stats(tmp_path):
    feats = np.random.default_rng(0).standard_normal((50, 6)) * 3 + 2
    path = tmp_path / "feats_stats.npz"
    np.savez(path, count=50, sum=feats.sum(0), sum_square=(feats**2).sum(0))
    return path


def test_equals_espnet(stats):
    torch.manual_seed(0)
    feats, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 1])
    ours = GlobalMVN(6)
    ours.read_stats(stats)
    expected, _ = ESPnetGlobalMVN(stats)(feats.double(), lengths)
    out, num_frames = ours(feats, lengths)
    torch.testing.assert_close(out, expected.float(), atol=1e-5, rtol=1e-5)
    assert num_frames is lengths


def test_a_checkpoint_replaces_the_file(stats):
    trained, rebuilt = GlobalMVN(6), GlobalMVN(6)
    trained.read_stats(stats)
    rebuilt.load_state_dict(trained.state_dict())
    torch.testing.assert_close(rebuilt.mean, trained.mean)
    torch.testing.assert_close(rebuilt.std, trained.std)


def test_wrong_files_are_user_errors(stats, tmp_path):
    with pytest.raises(UserError, match="no such statistics; run stage 9"):
        GlobalMVN(6).read_stats(tmp_path / "none.npz")
    with pytest.raises(UserError, match="6 features, but the front-end has 5"):
        GlobalMVN(5).read_stats(stats)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(stats.read_bytes()[:100])
    with pytest.raises(UserError, match=r"broken.npz: is not a feats_stats.npz"):
        GlobalMVN(6).read_stats(broken)
    for changes in (
        {"sum": np.array([print] * 6)},
        {"sum": np.array(["a"] * 6)},
        {"sum": np.full(6, 1j)},
        {"count": True},
        {"sum": np.zeros((6, 6))},
        {"count": np.ones(6)},
        {"sum": 3.0},
        {"sum_square": np.ones(5)},
        {"sum": np.ones((6, 1))},
    ):
        np.savez(tmp_path / "odd.npz", **dict(np.load(stats)) | changes)
        with pytest.raises(UserError, match=r"odd.npz: is not a feats_stats.npz"):
            GlobalMVN(6).read_stats(tmp_path / "odd.npz")
    for changes in (
        {"count": 0},
        {"count": -3},
        {"count": np.nan},
        {"sum": np.full(6, np.inf)},
        {"sum_square": np.full(6, np.nan)},
        {"sum_square": np.full(6, -1.0)},
        {"sum_square": np.zeros(6)},
    ):
        np.savez(tmp_path / "odd.npz", **dict(np.load(stats)) | changes)
        with pytest.raises(UserError, match=r"odd.npz: a mean or variance is not finite, or of"):
            GlobalMVN(6).read_stats(tmp_path / "odd.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(6))
    with pytest.raises(UserError, match=r"other.npz: is not a feats_stats.npz"):
        GlobalMVN(6).read_stats(tmp_path / "other.npz")


@pytest.mark.parametrize("kind", ["npz", "npy", "pickle", "npy of numbers", "text", "zip"])
def test_files_that_are_none_run_no_code(tmp_path, kind):
    path = tmp_path / "feats_stats.npz"
    objects = np.array([Payload(tmp_path / "ran")], dtype=object)
    with open(path, "wb") as stream:
        if kind == "npz":
            np.savez(stream, allow_pickle=True, count=objects, sum=objects, sum_square=objects)
        elif kind == "npy":
            np.save(stream, objects, allow_pickle=True)
        elif kind == "npy of numbers":
            np.save(stream, np.ones(6))
        elif kind == "zip":
            with zipfile.ZipFile(stream, "w") as archive:
                for name in ("count", "sum", "sum_square"):
                    archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\0v\0{'descr': ")
        else:
            stream.write(pickle.dumps(objects) if kind == "pickle" else b"count 3")
    with pytest.raises(UserError, match="feats_stats.npz: is not a feats_stats.npz"):
        GlobalMVN(6).read_stats(path)
    assert not (tmp_path / "ran").exists()
