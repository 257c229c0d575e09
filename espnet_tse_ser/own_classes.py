"""Classes of a user's own, which a configuration names as ``module:Class``.

A module is one file in the directory that `VARIABLE`, a variable of the environment, names: in a
recipe ``local``, so that ``my_encoder:MyEncoder`` is in ``local/my_encoder.py``. As it is code, it
is taken from nowhere else, wherever a model comes from. The configuration of a trained model has
the checksum of the file (``modules``); another file is refused before it runs.
"""

import functools
import importlib.machinery
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from espnet_tse_ser.errors import UserError, first_line
from espnet_tse_ser.files import checksum
from espnet_tse_ser.values.kinds import Kind, Mapping, Maybe, check_option, options_of
from espnet_tse_ser.values.numbers import shown

VARIABLE = "ESPNET_TSE_SER_CODE"

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.ASCII)


@dataclass(frozen=True)
class OwnClass(Kind):
    """The name of such a class."""

    def read(self, value):
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ValueError
        return value

    def __str__(self):
        return "a class of your own (module:Class)"


def own_classes(config, keys):
    """Key -> name, of those of the ``keys`` of a configuration that name such a class."""
    names = {key: config.get(key) for key in keys}
    return {key: name for key, name in names.items() if isinstance(name, str) and ":" in name}


def checksums(names, where):
    """Module -> SHA-256 of its file.

    Args:
        names: as `own_classes` gives them. where: function of a key -> beginning of messages.

    Raises:
        UserError: a name is none, no directory is named, or it has no such file.
    """
    return {
        name.partition(":")[0]: checksum(find_module(name, where(key)))
        for key, name in names.items()
    }


def check_modules(names, recorded, where):
    """Check that the modules of classes are those that are recorded.

    Args:
        names, where: as of `checksums`. recorded: ``modules`` of a configuration.

    Raises:
        UserError: as `checksums`; or one is not recorded, or is another file.
    """
    recorded = check_option(recorded, Maybe(Mapping()), where("modules")) or {}
    for key, name in names.items():
        path, module = find_module(name, where(key)), name.partition(":")[0]
        if recorded.get(module) != checksum(path):
            raise UserError(
                f"{where(key)}: {name}: {path} is not the file that the model was trained with "
                f"(SHA-256 {shown(recorded.get(module))}): let {VARIABLE} name the directory of "
                "that one, or train again"
            )


def find_module(name, where):
    """The file of the module of a class.

    Args:
        where: beginning of messages.

    Raises:
        UserError: as `checksums`.
    """
    file = file_of(check_option(name, OwnClass(), where))
    directory = os.environ.get(VARIABLE)
    if not directory:
        raise UserError(
            f"{where}: {name} is a class in a file {file}, which would be run: if you trust it, "
            f"set {VARIABLE} to its directory (local of a recipe, code of an unpacked archive)"
        )
    path = Path(directory) / file
    if not path.is_file():
        raise UserError(f"{where}: {name}: {path}: no such file; {VARIABLE} is {directory}")
    return path


def file_of(name):
    """The file of the module of a class within its directory.

    >>> file_of("models.mine:Mine")
    'models/mine.py'
    """
    return f"{name.partition(':')[0].replace('.', '/')}.py"


def load_class(name, where):
    """The class of this name, a `torch.nn.Module` with options of known kinds.

    Raises:
        UserError: as `checksums`; or the module cannot be imported, or has no such class.
    """
    import torch

    path = find_module(name, where)
    where = f"{where}: {name}: {path}"
    module, _, attribute = name.partition(":")
    try:
        loaded = _load(module, path, checksum(path))
    except Exception as error:  # whatever it does when it is run
        raise UserError(
            f"{where}: cannot be imported ({type(error).__name__}: {first_line(error)}): correct "
            "it; it is one file, and may import what is installed"
        ) from error
    found = getattr(loaded, attribute, None)
    if not isinstance(found, type) or not issubclass(found, torch.nn.Module):
        raise UserError(f"{where}: has no class {attribute} that is a torch.nn.Module; write one")
    try:
        options_of(found)
    except (TypeError, NameError) as error:
        raise UserError(f"{where}: {first_line(error)}") from None
    return found


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the file itself: what lies in __pycache__ need not be of it."""

    def path_stats(self, path):
        raise OSError


@functools.cache
def _load(module, path, _checksum):
    name = f"{__name__}.{module}"
    loader = _Loader(name, str(path))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = loaded  # where dataclasses look for it
    loader.exec_module(loaded)
    return loaded
