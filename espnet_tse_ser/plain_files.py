"""Files of PyTorch that hold tensors and plain values, read so that nothing in them can run.

A pickle may name any function and have it called. `load_plain` calls none but those that make
tensors; with `only_plain_files` so do ESPnet, which otherwise lets users trust a file, and
torchaudio. What is to be read again is written with `plain`.
"""

import collections
import contextlib
import errno
import pickletools
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch._weights_only_unpickler import _get_allowed_globals

from espnet_tse_ser.errors import UserError, first_line

_load = torch.load  # as it is outside of `only_plain_files`


class DamagedFile(UserError):
    """A file that was cut or changed, or is none of PyTorch; ``reason`` says why."""

    def __init__(self, path, reason, remedy):
        super().__init__(
            f"{path}: is damaged, or not as torch.save writes files by default ({reason}); {remedy}"
        )
        self.reason = reason


class OtherObjects(UserError):
    """A file that holds other objects than tensors and plain values; ``names`` is a set of them."""

    def __init__(self, path, names, remedy):
        shown = ", ".join(name.encode("unicode_escape").decode()[:60] for name in names[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        super().__init__(
            f"{path}: holds other objects than tensors and plain values ({shown}{more}): it may "
            f"run code, and is not read; {remedy}"
        )
        self.names = set(names)


def load_plain(path, remedy):
    """Read what `torch.save` has written, on the CPU.

    Args:
        path: of a file. remedy: what to do if it cannot be read, the end of the message.

    Returns:
        tensors, and numbers, texts, lists, dicts ... of them.

    Raises:
        UserError: there is no such file; a `DamagedFile`; or `OtherObjects`, which are not made.
    """
    path = Path(path)
    if not path.is_file():
        what = "is no file" if path.exists() else "no such file"
        raise UserError(f"{path}: {what}; {remedy}")
    _check_size(path, remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old ways to write files, and of other protocols
            return _load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle leads its reader to KeyError, IndexError, ...
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is torch's, of zips
            raise
        others = _other_objects(path)
        if others:
            raise OtherObjects(path, others, remedy) from None
        raise DamagedFile(path, _reason(error), remedy) from None


def plain(value):
    """``value`` as `load_plain` can read it: NumPy's numbers as Python's.

    Raises:
        UserError: there is something in it that has no such form, e.g. a function.

    >>> plain({"loss": np.float64(0.5)})
    {'loss': 0.5}
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (dict, collections.defaultdict, collections.OrderedDict, collections.Counter):
        items = {plain(key): plain(item) for key, item in value.items()}
        if type(value) is not collections.OrderedDict:
            return items
        ordered = collections.OrderedDict(items)
        ordered.__dict__.update(value.__dict__)  # the versions of a state dict's modules
        return ordered
    if type(value) in (list, tuple, set):
        return type(value)(map(plain, value))
    if value is None or isinstance(value, _PLAIN):
        return value
    raise UserError(
        f"the state of this training holds '{value!r:.80}' ({type(value).__qualname__}), which "
        "cannot be read again safely; choose another optimizer or scheduler"
    )


@contextlib.contextmanager
def only_plain_files():
    """Let ``torch.load`` read files as `load_plain` does in the body, whatever it is told."""
    before = torch.load

    def load(file, *args, **keywords):
        if hasattr(file, "read"):  # what processes of one training send each other
            return before(file, *args, **keywords)
        value = load_plain(file, "copy it again or make it again")
        device = keywords.get("map_location") or (args[0] if args else None)
        return _to(value, "cpu" if device is None else device)

    torch.load = load
    try:
        yield
    finally:
        torch.load = before


def _to(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value


_PLAIN = (bool, int, float, str, bytes, torch.Tensor, torch.Size, torch.dtype, torch.device)


def _check_size(path, remedy):
    """Refuse an archive that would unpack to more than itself: torch never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            spoilt = archive.testzip() if size <= path.stat().st_size else None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # torch will say so, or read it
        return
    if spoilt is not None:
        raise DamagedFile(path, f"the checksum of its part {spoilt} is another", remedy)
    if size > path.stat().st_size:
        raise DamagedFile(path, f"its parts are said to have {size} bytes, it has fewer", remedy)


def _reason(error):
    """One line about why a file could not be read, without torch's advice to trust it."""
    if isinstance(error, RuntimeError):
        return first_line(error).partition(". ")[0]
    if "Unsupported operand" in str(error):
        return "a pickle of another protocol than 2, or none"
    return "a broken pickle"


def _other_objects(path):
    """Names of what a file would call or make besides tensors and plain values."""
    names = set()
    with contextlib.suppress(Exception):  # of a damaged file, wherever
        for stream in _pickles(path):
            with contextlib.suppress(ValueError):  # what follows is not, or no longer, a pickle
                while stream.peek(1):
                    names.update(_names(stream))
    return sorted(names - _get_allowed_globals().keys())


def _pickles(path):
    """Streams of the pickles in a file."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                with archive.open(name) as stream:
                    yield stream


def _names(stream):
    """Names, ``module.function``, in one pickle of a stream."""
    texts, memo = [None, None], {}
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield argument.replace(" ", ".").replace("__builtin__.", "builtins.")
        elif opcode.name == "STACK_GLOBAL" and None not in texts[-2:]:
            yield ".".join(texts[-2:])
        elif opcode.name.startswith("EXT"):
            yield f"number {argument} of copyreg's extensions"
        elif opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = texts[-1]
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            texts.append(memo.get(argument))
        else:  # a text, or anything else that may lie on the stack
            texts.append(argument if isinstance(argument, str) else None)
