"""Configurations of trainings, which may say only what differs from another: ``base: OTHER.yaml``.

The path is relative to the directory of the file that says it, of the real file where that is a
link. Mappings are merged key by key, all else is replaced. Where a file names a component
(``encoder: shift_lstm``), the options that its base has for one (``encoder_conf``) are dropped.

Imports nothing outside the standard library: the steps of a recipe ask for `chain`.
"""

import os

from espnet_tse_ser.errors import UserError


class Configuration(dict):
    """What a training is configured with, whatever files it stands in.

    Args:
        path: the file that is given. places: key -> the files that its value is from, in words.
    """

    def __init__(self, values, path, places):
        super().__init__(values)
        self._path, self.places = path, places

    def where(self, key):
        """Beginning of messages about a key: the file that it stands in."""
        return f"{self.places.get(key, self._path)}: {key}"


def read_configuration(path):
    """Read the configuration of a training and put it together with its bases.

    Returns:
        a `Configuration`, without ``base``.

    Raises:
        UserError: as `chain` and `files.read_yaml`.
    """
    from espnet_tse_ser.files import read_yaml  # takes a while to import

    values, places = {}, {}
    for file in reversed(chain(path)):
        own = read_yaml(file)
        if own.pop("base", None) != _find_base(file)[1]:
            raise UserError(
                f"{file}: write base as a line of its own without quotes: base: OTHER.yaml"
            )
        values = merge(values, own)
        for key, value in own.items():
            is_own = values[key] is value
            places[key] = file if is_own else f"{file} (base: {places[key]})"
    return Configuration(values, path, {key: places[key] for key in values})


def chain(path):
    """The paths of a configuration and its bases, the nearest first.

    Raises:
        UserError: one is not there, or is based on itself; the message has the file and the line.
    """
    paths, known = [str(path)], {os.path.realpath(path)}
    while True:
        line, base = _find_base(paths[-1])
        if base is None:
            return paths
        where = f"{paths[-1]}: line {line}: base: {base}"
        directory = os.path.dirname(os.path.realpath(paths[-1]))
        base = os.path.realpath(os.path.join(directory, base))
        if not os.path.isfile(base):
            raise UserError(f"{where}: no such file; correct the path, from {directory}")
        if base in known:
            raise UserError(f"{where}: goes round in a circle; drop a base of {' '.join(paths)}")
        known.add(base)
        paths.append(base if os.path.isabs(path) else os.path.relpath(base))


def _find_base(path):
    """The line of a file's ``base`` and its text; None and None without one."""
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such configuration")
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("base:"):
                return number, line[5:].partition(" #")[0].strip()
    return None, None


def merge(values, own):
    """The values of a base with those of a file on it.

    >>> base = {"encoder": "a", "encoder_conf": {"size": 1}, "optim_conf": {"lr": 1, "eps": 2}}
    >>> merge(base, {"encoder": "b", "optim_conf": {"lr": 3}})
    {'encoder': 'b', 'optim_conf': {'lr': 3, 'eps': 2}}
    """
    dropped = {f"{key}_conf" for key in own}  # of components that the file names itself
    merged = {key: value for key, value in values.items() if key not in dropped}
    for key, value in own.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = merge(old, value) if both else value
    return merged
