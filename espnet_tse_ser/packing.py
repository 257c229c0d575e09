"""Packing a trained model into one archive, and uploading it."""

import zipfile
from pathlib import Path

from espnet_tse_ser.checkpoints import chosen_criterion, find_weights, read_config
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path


def pack(model_dir, archive):
    """Write ``config.yaml`` and the best weights of a joint or SER experiment to a zip archive.

    The unpacked archive is a model directory: ``TSESER.from_pretrained`` and ``bin.infer`` take it.

    Raises:
        UserError: the experiment is not finished.
    """
    model_dir = Path(model_dir)
    weights = find_weights(model_dir, chosen_criterion(read_config(model_dir)))
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for name, source in (("config.yaml", model_dir / "config.yaml"), (weights.name, weights)):
            # A fixed time stamp: the same model gives the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            target.writestr(entry, source.read_bytes())


def upload(archive, repository):
    """Upload an archive to a model repository of the Hugging Face hub.

    Raises:
        UserError: huggingface_hub is not installed, there is no archive, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("uploading needs huggingface_hub: pip install huggingface_hub") from None
    archive = Path(archive)
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive; run stage 16 (pack)")
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_file(path_or_fileobj=archive, path_in_repo=archive.name, repo_id=repository)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{repository}: the upload was refused ({error}); log in with `hf auth login`"
        ) from None
