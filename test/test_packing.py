import zipfile

import pytest

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.packing import pack, upload


def make_experiment(path):
    path.mkdir()
    (path / "config.yaml").write_text("labels: [ang, hap]\n")
    (path / "3epoch.pth").write_bytes(b"weights")
    (path / "valid.ua.best.pth").symlink_to("3epoch.pth")
    return path


def test_archive_holds_config_and_weights_and_is_reproducible(tmp_path):
    model_dir = make_experiment(tmp_path / "exp")
    pack(model_dir, tmp_path / "a.zip")
    pack(model_dir, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("valid.ua.best.pth") == b"weights"
        assert archive.read("config.yaml") == b"labels: [ang, hap]\n"
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_unfinished_experiment_is_refused_and_leaves_nothing(tmp_path):
    model_dir = make_experiment(tmp_path / "exp")
    (model_dir / "valid.ua.best.pth").unlink()
    with pytest.raises(UserError, match="has the training .* finished"):
        pack(model_dir, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == [model_dir]


def test_upload_without_hub_or_archive_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="huggingface_hub|no such archive"):
        upload(tmp_path / "none.zip", "user/model")
