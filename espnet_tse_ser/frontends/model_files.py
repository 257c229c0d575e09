"""Where the configuration and the weights of a front-end are: trained here, or from elsewhere.

A model from elsewhere stays where it is (what the Hugging Face hub or an archive has is put into
the experiment that stands for it; DeepFilterNet is in the wheel that is installed).
``front_end.json`` of that experiment says where, what it is, and the checksums of its files, which
are compared at every use.
"""

import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import checksum, find_files, read_json, read_yaml, write_json
from espnet_tse_ser.frontends.hub import NAME, download
from espnet_tse_ser.frontends.wheel import (
    DEEPFILTERNET,
    wheel_directory,
    wheel_files,
    wheel_version,
)
from espnet_tse_ser.training.checkpoints import find_weights
from espnet_tse_ser.values.kinds import (
    Choice,
    Flag,
    Mapping,
    Maybe,
    Text,
    check_option,
    check_options,
)
from espnet_tse_ser.values.numbers import RATE

_RECORD = "front_end.json"
_KINDS = {"extractor": "tse", "separator": "enh"}  # what the configurations of ESPnet's tasks have
_WEIGHTS = ("valid.loss.best.pth", "valid.*.best.pth", "*ave*.pth")  # the first that is there
_PARTS = (".yaml", ".yml", ".pth")  # of what is packed
_PACKED = (("yaml_files", "train_config"), ("files", "model_file"))  # in meta.yaml


@dataclass(frozen=True)
class Record:
    """What ``front_end.json`` says.

    Args:
        source: directory, file or name that the user gave; revision: of the hub's repository, or
            the version of the wheel.
        kind: "tse", an extraction model, or "enh", an enhancement model.
        ours: whether this package's extractors have the model's architecture; else ESPnet's
            classes compute, or DeepFilterNet's library.
        rate: in Hz. config (or the library), weights: relative to the experiment or to where the
            wheel is. sha256: of both, by these names.
    """

    source: Text()
    revision: Maybe(Text())
    kind: Choice(*_KINDS.values())
    ours: Flag()
    rate: RATE
    config: Text()
    weights: Text()
    sha256: Mapping()


@dataclass(frozen=True)
class ModelFiles:
    """Paths of a configuration and weights; ``record``: of a model from elsewhere, or None."""

    config: Path
    weights: Path
    record: Record | None = None

    @property
    def needs_enrollment(self):
        """Whether what they are of takes an enrollment."""
        if self.record is not None:
            return self.record.kind == "tse"
        from espnet_tse_ser.models.build_tse import needs_enrollment

        return needs_enrollment(read_yaml(self.config), self.config)


def files_of(model_dir, weights=None):
    """The `ModelFiles` of an experiment.

    Args:
        weights: others than the best ones of a training.

    Raises:
        UserError: there are no weights; or as `recorded_files`.
    """
    files = recorded_files(model_dir)
    if files is None:
        weights = Path(weights) if weights else find_weights(model_dir, "valid.loss")
        return ModelFiles(Path(model_dir) / "config.yaml", weights)
    if weights is not None:
        raise UserError(
            f"{weights}: {model_dir}/{_RECORD} names the weights of this model; give none"
        )
    return files


def recorded_files(model_dir):
    """The `ModelFiles` of the model from elsewhere that an experiment stands for, or None.

    Raises:
        UserError: a file of it is gone or was changed since.
    """
    model_dir = Path(model_dir)
    path = model_dir / _RECORD
    if not path.is_file():
        return None
    record = Record(**check_options(read_json(path), Record, path))
    place = _place(record.source, model_dir)
    files = {name: place / getattr(record, name) for name in ("config", "weights")}
    for name, file in files.items():
        if not file.is_file():
            fault = "is gone"
        elif checksum(file) != record.sha256.get(name):
            fault = "was changed"
        else:
            continue
        raise UserError(
            f"{file}: {fault} since {path} was made of {record.source}; bring it back as it "
            f"was, or remove {model_dir} to take the model as it is now"
        )
    return ModelFiles(**files, record=record)


def write_record(model_dir, files, **facts):
    """Write ``front_end.json`` of `ModelFiles`; facts: the other values of a `Record`."""
    paths = asdict(files)
    del paths["record"]
    sums = {name: checksum(path) for name, path in paths.items()}
    place = _place(facts["source"], model_dir)
    paths = {name: _seen_from(place, path) for name, path in paths.items()}
    write_json(Path(model_dir) / _RECORD, asdict(Record(**paths, sha256=sums, **facts)))


def is_trained(source):
    """Whether a front-end is the configuration of a training, and no model from elsewhere."""
    return Path(source).suffix in (".yaml", ".yml")


def local_files(source):
    """The files here that a model from elsewhere consists of; none of one of the hub.

    Raises:
        UserError: there is no such model.
    """
    path = Path(source)
    if source == DEEPFILTERNET:
        return list(wheel_files())
    if path.suffix == ".zip" and path.is_file():
        return [path]
    if path.is_file():
        return [_beside(path), path]
    if path.is_dir():
        files = _find(path)
        return [files.config, files.weights]
    if NAME.fullmatch(str(source)):
        return []
    raise UserError(
        f"{source}: there is no such directory or file, and it is no name of the Hugging Face hub "
        f"(user/name or user/name@revision), and not {DEEPFILTERNET}; correct it"
    )


def fetch(source, model_dir):
    """Find a model from elsewhere; what the hub or an archive has comes to ``model_dir/model``.

    Returns:
        `ModelFiles`, and the revision of the hub's repository, the version of the wheel, or None.

    Raises:
        UserError: there is none, it has not the files of one, or the hub does not give it.
    """
    local, directory, revision = local_files(source), Path(model_dir) / "model", None
    if len(local) == 2:
        return ModelFiles(*local), wheel_version() if source == DEEPFILTERNET else None
    if local:
        _unpack(local[0], directory)
    else:
        revision = download(source, directory, [f"*{suffix}" for suffix in _PARTS])
    return _find(directory), revision


def kind_and_rate(config, path, rate=None):
    """What a model from elsewhere is: "tse" or "enh"; and its sampling rate in Hz.

    Args:
        config: read from ``path``. rate: what the user says that it is.

    Raises:
        UserError: it is of another task, or the rate is not known.
    """
    kinds = [kind for key, kind in _KINDS.items() if key in config]
    if len(kinds) != 1:
        raise UserError(
            f"{path}: is no configuration of ESPnet's extraction (with an extractor) or "
            "enhancement (with a separator); give a model of one of these"
        )
    if rate is None and config.get("sample_rate") is None:
        raise UserError(
            f"{path}: has no sample_rate; say by --frontend_fs for how many Hz the model was made"
        )
    return kinds[0], rate or check_option(config["sample_rate"], RATE, f"{path}: sample_rate")


def _find(directory):
    """Configuration and weights in a directory."""
    meta = directory / "meta.yaml"
    if meta.is_file():
        return ModelFiles(*_named(meta))
    config = directory / "config.yaml"
    if not config.is_file():
        raise UserError(
            f"{directory}: has no config.yaml or meta.yaml; give the directory of an ESPnet "
            "training or of an unpacked model"
        )
    for pattern in _WEIGHTS:
        found = {path.resolve(): path for path in find_files(directory, pattern)}
        if len(found) == 1:
            return ModelFiles(config, *found.values())
        if found:
            names = ", ".join(path.name for path in found.values())
            raise UserError(f"{directory}: has several weights ({names}); give one of these files")
    raise UserError(
        f"{directory}: has no weights ({', '.join(_WEIGHTS)}); give the file of the weights itself"
    )


def _named(meta):
    """Paths of the configuration and the weights that ``meta.yaml`` of a packed model names."""
    content = read_yaml(meta)
    for group, key in _PACKED:
        name = content[group].get(key) if isinstance(content.get(group), dict) else None
        name = check_option(name, Text(), f"{meta}: {group}: {key}")
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(f"{meta}: {group}: {key}: '{name}' is outside of the model; correct it")
        path = meta.parent / name
        if not path.is_file():
            raise UserError(f"{path}: no such file, but {meta} names it; copy the model again")
        yield path


def _beside(weights):
    config = weights.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"{config}: no such file; weights need the configuration of their training")
    return config


def _unpack(archive, directory):
    """Put configurations and weights of an archive of ESPnet into a directory."""
    try:
        with zipfile.ZipFile(archive) as source:
            for name in source.namelist():
                if name.endswith(_PARTS):
                    source.extract(name, directory)  # never outside of it
    except Exception as error:  # of a broken one: zipfile's, zlib's, EOFError, ...
        if isinstance(error, OSError):
            raise
        raise UserError(f"{archive}: is no whole zip archive ({error}); copy it again") from None
    if not directory.is_dir():
        raise UserError(f"{archive}: has no configuration and no weights in it; give another one")


def _place(source, model_dir):
    """The directory that paths of a record are relative to."""
    return wheel_directory() if source == DEEPFILTERNET else Path(model_dir)


def _seen_from(place, path):
    """A path that leads from ``place`` to ``path``: relative to it only within."""
    path, place = (Path(os.path.abspath(p)) for p in (path, place))
    return str(path.relative_to(place) if path.is_relative_to(place) else path)
