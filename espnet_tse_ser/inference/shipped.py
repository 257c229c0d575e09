"""Models that come with the package, by name: a directory each, written by `pack --small`."""

from pathlib import Path

from espnet_tse_ser.files import find_files

DIRECTORY = Path(__file__).parents[1] / "pretrained"
DEFAULT = "ravdess_libri"


def names():
    """The names of these models, sorted."""
    return [path.parent.name for path in find_files(DIRECTORY, "*/config.yaml")]
