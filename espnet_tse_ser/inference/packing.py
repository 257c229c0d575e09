"""Packing a trained model into one archive, and uploading it."""

import os
import re
import zipfile
from pathlib import Path

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import atomic_path
from espnet_tse_ser.frontends.hub import refusal
from espnet_tse_ser.training.checkpoints import chosen_criterion, find_weights, read_config

_ANSWERS = {  # of the hub to an upload: what is wrong, and what to do
    401: ("not logged in", "log in with `hf auth login`, with a token that may write"),
    403: ("no permission", "take a token that may write, and a repository of your own"),
    404: ("there is no such user or repository", "correct --hf_repo"),
}


def pack(model_dir, archive):
    """Write ``config.yaml`` and the best weights of a joint or SER experiment to a zip archive.

    ``TSESER.from_pretrained`` and ``tse-ser infer`` take it as it is, or unpacked.
    Modules of one's own that the model is made of are in its directory ``code``.

    Raises:
        UserError: the experiment is not finished, or cannot be loaded; or the archive would replace
            a part of it.
    """
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.models.build_ser import KINDS
    from espnet_tse_ser.own_classes import file_of, find_module, own_classes

    model_dir = Path(model_dir)
    path = model_dir / "config.yaml"
    config = read_config(model_dir)
    weights = find_weights(model_dir, chosen_criterion(config, path))
    if os.path.realpath(archive) in map(os.path.realpath, (path, weights)):
        raise UserError(f"{archive}: is a part of the model; choose another name for the archive")
    TSESER.from_pretrained(model_dir, weights)  # what is packed can be used
    parts = {"config.yaml": path, weights.name: weights}
    for key, name in own_classes(config.get("ser", config), KINDS).items():
        parts[f"code/{file_of(name)}"] = find_module(name, f"{path}: {key}")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for name, source in parts.items():
            # A fixed time stamp: the same model gives the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            target.writestr(entry, source.read_bytes())


def upload(archive, repository):
    """Upload an archive to a model repository of the Hugging Face hub, which is made if need be.

    Args:
        archive: what `pack` wrote. repository: its name, ``<user or organization>/<name>``.

    Raises:
        UserError: the name is none, the archive is missing or is none, huggingface_hub is not
            installed, or there is no upload: no network, no login, no permission.
    """
    archive = Path(archive)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repository, re.ASCII):
        raise UserError(
            f"--hf_repo {repository!r}: is no name of a repository; expected a user or an "
            "organization, '/' and a name, e.g. user/tse_ser"
        )
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive; run stage 16 (pack)")
    if not _is_packed(archive):
        raise UserError(f"{archive}: is no archive of a model; delete it and run stage 16 (pack)")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UserError("uploading needs huggingface_hub: pip install huggingface_hub") from None
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_file(path_or_fileobj=archive, path_in_repo=archive.name, repo_id=repository)
    except Exception as error:  # of three libraries, in versions with other classes
        reason, remedy = refusal(error, _ANSWERS)
        raise UserError(
            f"{repository}: the upload failed: {reason} ({first_line(error)}); {remedy}"
        ) from None


def _is_packed(archive):
    with open(archive, "rb") as stream:
        try:
            with zipfile.ZipFile(stream) as source:
                return "config.yaml" in source.namelist() and source.testzip() is None
        except Exception:  # of a broken one: zipfile's, zlib's, OSError, EOFError, ...
            return False
