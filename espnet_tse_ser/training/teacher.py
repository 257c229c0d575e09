"""Embeddings of a teacher: a trained recogniser that another one is trained towards."""

import logging
from pathlib import Path

from espnet_tse_ser.audio.ark import write_array
from espnet_tse_ser.audio.id_list import read_ids, read_lines, write_ids
from espnet_tse_ser.audio.kaldi_dir import read_table, write_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path

logger = logging.getLogger(__name__)

# What the teacher was trained on, and what its epoch was chosen by: beside the embeddings.
_SEEN = ("train", "dev")


def write_embeddings(directory, embeddings, seen):
    """Write embeddings.scp with its archive, and what the teacher has seen.

    Args:
        embeddings: id -> ``(size,)`` float32. seen: "train" and "dev" -> ids, from `seen_by`.
    """
    directory = Path(directory)
    ark = directory.absolute() / "embeddings.ark"
    with atomic_path(ark) as path, open(path, "wb") as stream:
        places = {i: f"{ark}:{write_array(stream, i, e)}" for i, e in embeddings.items()}
    for side in _SEEN:
        write_ids(directory / _name(side), seen[side])
    write_table(directory / "embeddings.scp", places)


def seen_by(model_dir):
    """What a training has seen: "train" and "dev" -> ids."""
    data = Path(model_dir) / "data"
    return {side: list(read_table(data / side / "speech.scp")) for side in _SEEN}


def check_teacher(seen, split, where):
    """Refuse a teacher that has seen what a fold is tested on.

    Where the scheme has the test fold as dev, a teacher's dev is that as well.

    Args:
        seen: from `seen_by`; None: as it says beside its embeddings, the table ``where``.
        split: directory with dev.lst and test.lst. where: beginning of the message.

    Raises:
        UserError: it has.
    """
    listed = {side: Path(where).parent / _name(side) for side in _SEEN}
    if seen is None and not all(path.is_file() for path in listed.values()):
        message = "%s: what the teacher was trained on is not recorded: no %s"
        logger.warning(message, where, listed["train"])
        return
    seen = seen or {side: read_ids(path) for side, path in listed.items()}
    tested = Path(split) / "test.lst"
    test, dev = {*read_lines(tested)}, {*read_lines(Path(split) / "dev.lst")}
    for side, what in (("train", "was trained on"), ("dev", "was chosen by")):
        both = sorted(test & {*seen[side]})
        if both and (side == "train" or test != dev):
            raise UserError(
                f"{where}: the teacher {what} {len(both)} utterance(s) that {tested} tests: "
                f"{', '.join(both[:3])}{', ...' if len(both) > 3 else ''}; take the teacher of "
                "this fold"
            )


def _name(side):
    return f"teacher_{side}.lst"
