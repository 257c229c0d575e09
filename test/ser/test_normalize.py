"""Global normalisation: ESPnet's class on the same statistics, and errors."""

import numpy as np
import pytest
import torch
from espnet2.layers.global_mvn import GlobalMVN as ESPnetGlobalMVN

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.ser.normalize import GlobalMVN


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
        {"sum": np.zeros((6, 6))},
        {"count": np.ones(6)},
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
    ):
        np.savez(tmp_path / "odd.npz", **dict(np.load(stats)) | changes)
        with pytest.raises(UserError, match=r"odd.npz: a mean or variance is not finite, or of"):
            GlobalMVN(6).read_stats(tmp_path / "odd.npz")
    np.savez(tmp_path / "other.npz", mean=np.zeros(6))
    with pytest.raises(UserError, match=r"other.npz: is not a feats_stats.npz"):
        GlobalMVN(6).read_stats(tmp_path / "other.npz")
