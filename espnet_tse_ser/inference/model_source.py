"""What may be given as a trained model: a directory, an archive, or a name."""

import contextlib
import shutil
import tempfile
import zipfile
from pathlib import Path

from espnet_tse_ser.errors import UserError, named
from espnet_tse_ser.files import checksum, find_files
from espnet_tse_ser.frontends.hub import NAME, cached
from espnet_tse_ser.frontends.model_files import files_of, recorded_files
from espnet_tse_ser.inference import shipped
from espnet_tse_ser.training.checkpoints import read_config, weights_of

CALIBRATION = "calibration.json"
_CONFIG = "config.yaml"
_PARTS = (".yaml", ".pth", ".json")  # of an archive, and of a repository


@contextlib.contextmanager
def model_directory(source):
    """The directory with the configuration and the weights of a model, as a context manager.

    Args:
        source: the name of a model that comes with the package, the directory of an experiment, an
            archive of stage 16, which is unpacked for a while, or a repository of the Hugging Face
            hub that has one of these, ``user/name`` or ``user/name@revision``.

    Raises:
        UserError: it is none of these, or cannot be downloaded; the archive is none or damaged; or
            it is models that the directory holds.
    """
    source = _find(source)
    if source.is_file():
        with tempfile.TemporaryDirectory() as directory, named({source: directory}):
            _unpack(source, Path(directory))
            yield Path(directory)
        return
    models = [path.parent for path in find_files(source, f"*/{_CONFIG}")]
    if models and not (source / _CONFIG).is_file():
        names = ", ".join(path.name for path in models)
        raise UserError(
            f"{source}: holds models ({names}) and is none itself; give one of them, e.g. "
            f"{models[0]}"
        )
    yield source


def _find(source):
    """The directory or the archive that ``source`` stands for."""
    path, known = Path(source), shipped.names()
    if str(source) in known:
        return shipped.DIRECTORY / source
    if path.exists():
        return path
    if not NAME.fullmatch(str(source)):
        raise UserError(
            f"{source}: is no directory or archive of a model here, and no model that comes with "
            f"this installation ({', '.join(known) or 'there is none'}); give one of these, or a "
            "repository of the Hugging Face hub, user/name"
        )
    path = Path(cached(str(source), [f"*{suffix}" for suffix in (*_PARTS, ".zip")]))
    archives = [] if (path / _CONFIG).is_file() else find_files(path, "*.zip")
    if len(archives) > 1:
        raise UserError(
            f"{source}: has {len(archives)} archives; get one of them, e.g. by `hf download "
            f"{source.partition('@')[0]} {archives[0].name}`, and give that"
        )
    return archives[0] if archives else path


def is_joint(config, path):
    """Whether a configuration, read from ``path``, is of a joint model, and not of a recogniser.

    Raises:
        UserError: it is of neither.
    """
    if config.get("tse") and config.get("ser"):
        return True
    if "labels" in config:
        return False
    advice = "give a directory of stage 11 or 10, e.g. exp/tse_ser_ft_default/fold1"
    if "extractor" in config or "separator" in config:
        advice = (
            "it is a front-end: extract with it by `tse-ser extract`, or give it as --front_end to "
            "a recogniser (stage 10)"
        )
    raise UserError(f"{path}: is neither a joint nor a SER model; {advice}")


def has_recogniser(directory):
    """Whether what is in a directory is a joint model or a recogniser, and not a front-end.

    Raises:
        UserError: the directory has no configuration, or one that cannot be read.
    """
    if recorded_files(directory) is not None:
        return False
    config = read_config(directory)
    return "labels" in config or "ser" in config


def fingerprint(source, front_end=None):
    """The first digits of the checksums of the weights of a joint model or a recogniser.

    Args:
        front_end: experiment of the one that is used with it; its digits follow after a "+", else
            those of the model's calibration.

    Raises:
        UserError: as `model_directory` and `is_joint`, or there are no weights.
    """
    with model_directory(source) as directory:
        is_joint(read_config(directory), directory / _CONFIG)
        digits = checksum(weights_of(directory))[:12]
        calibration = directory / CALIBRATION
        if front_end is None and calibration.is_file():
            digits += f"+{checksum(calibration)[:12]}"
    return digits if front_end is None else f"{digits}+{front_end_fingerprint(front_end)}"


def front_end_fingerprint(model_dir):
    """The same of a front-end."""
    return checksum(files_of(model_dir).weights)[:12]


def _unpack(archive, directory):
    """Put the configuration and the weights of an archive into a directory."""
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [n for n in packed.namelist() if "/" not in n and n.endswith(_PARTS)]
            for name in names:
                with packed.open(name) as source, open(directory / name, "wb") as target:
                    shutil.copyfileobj(source, target)
    except Exception as error:  # of a broken one: zipfile's, zlib's, EOFError, ...
        if isinstance(error, OSError):
            raise
        raise UserError(
            f"{archive}: is no directory of a model, and no whole archive of one ({error}); give "
            "a directory or what stage 16 (pack) wrote, or copy it again"
        ) from None
    if _CONFIG not in names:
        raise UserError(f"{archive}: has no {_CONFIG} in it; give an archive of stage 16 (pack)")
