"""Files to write that must not be files to read."""

import os
from pathlib import Path

from espnet_tse_ser.audio.ark import split_place
from espnet_tse_ser.errors import UserError


def check_no_input(path, inputs, option):
    """Check that writing a file or into a directory loses no input.

    Args:
        path: to be written. inputs: files and directories that are read, archives with their
            offset too; None is no input. option: beginning of the message.

    Raises:
        UserError: it is one of ``inputs``, by whatever name or link.
    """
    if not Path(path).exists():
        return
    for name in filter(None, inputs):
        source = split_place(name)[0]
        if os.path.exists(source) and os.path.samefile(path, source):
            raise UserError(
                f"{option} {path}: is an input as well ({name}), which would be lost; choose "
                "another name"
            )
