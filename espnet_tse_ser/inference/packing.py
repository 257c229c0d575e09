"""Packing a trained model into one archive or directory, and uploading it."""

import hashlib
import io
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import atomic_path
from espnet_tse_ser.frontends.hub import refusal
from espnet_tse_ser.inference.calibration import read_calibration, to_bytes
from espnet_tse_ser.inference.model_source import CALIBRATION
from espnet_tse_ser.training.checkpoints import (
    check_finite,
    chosen_criterion,
    find_weights,
    load_state,
    read_config,
)

_ANSWERS = {  # of the hub to an upload: what is wrong, and what to do
    401: ("not logged in", "log in with `hf auth login`, with a token that may write"),
    403: ("no permission", "take a token that may write, and a repository of your own"),
    404: ("there is no such user or repository", "correct --hf_repo"),
}


def pack(model_dir, output, small=False):
    """Write ``config.yaml`` and the best weights of a joint or SER experiment to one place.

    ``TSESER.from_pretrained`` and ``tse-ser infer`` take it as it is, or unpacked.
    ``calibration.json``, if there is one, becomes that of the weights as they are written.
    Modules of one's own that the model is made of are in its directory ``code``.

    Args:
        output: a zip archive if the name ends so, or a directory. small: the weights get 16 bits
            and the configuration is what a model is built from, without that of its training.

    Raises:
        UserError: the experiment is not finished, or cannot be loaded; a weight has no number of 16
            bits; or a part of the model would be replaced.
    """
    from espnet_tse_ser.inference.model import TSESER
    from espnet_tse_ser.models.build_ser import KINDS
    from espnet_tse_ser.own_classes import file_of, find_module, own_classes

    model_dir, output = Path(model_dir), Path(output)
    path = model_dir / "config.yaml"
    config = read_config(model_dir)
    weights = find_weights(model_dir, chosen_criterion(config, path))
    is_archive = output.suffix == ".zip"
    inside = [] if is_archive else [output / source.name for source in (path, weights)]
    for place in (output, *inside):
        if os.path.realpath(place) in map(os.path.realpath, (path, weights)):
            raise UserError(f"{place}: is a part of the model; choose another name to write to")
    TSESER.from_pretrained(model_dir, weights)  # what is packed can be used
    parts = {source.name: source.read_bytes() for source in (path, weights)}
    if small:
        parts = {path.name: _of_inference(config), weights.name: _half(weights)}
    calibration = read_calibration(model_dir, weights)
    if calibration is not None:  # 16 bits move the probabilities by less than 1e-3
        digest = hashlib.sha256(parts[weights.name]).hexdigest()
        parts[CALIBRATION] = to_bytes(replace(calibration, weights=digest))
    for key, name in own_classes(config.get("ser", config), KINDS).items():
        parts[f"code/{file_of(name)}"] = find_module(name, f"{path}: {key}").read_bytes()
    if not is_archive:
        (output / CALIBRATION).unlink(missing_ok=True)  # of other weights
        for name, data in parts.items():
            with atomic_path(output / name) as temporary:
                temporary.write_bytes(data)
        return
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w") as target:
        for name, data in parts.items():
            # A fixed time stamp: the same model gives the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            target.writestr(entry, data)


def _of_inference(config):
    """What a joint model or a recogniser is built from, of its configuration, as YAML."""
    import yaml

    from espnet_tse_ser.models.build_ser import KINDS

    names = {*KINDS, *(f"{kind}_conf" for kind in KINDS), "labels", "modules", "tse", "ser", "fs"}
    names |= {"condition", "best_model_criterion"}
    kept = {name: value for name, value in config.items() if name in names and value is not None}
    return yaml.safe_dump(kept).encode()


def _half(weights):
    """The same weights, those of other than whole numbers with 16 bits, as a file."""
    import torch

    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in load_state(weights).items()
    }
    check_finite(state, weights, "a number is too large for 16 bits; pack it without --small")
    stream = io.BytesIO()  # the name of a file would be in it
    torch.save(state, stream)
    return stream.getvalue()


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
