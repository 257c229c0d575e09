"""Embeddings of a teacher: a trained recogniser that another one is trained towards."""

from pathlib import Path

from espnet_tse_ser.audio.ark import write_array
from espnet_tse_ser.audio.id_list import read_ids, read_lines
from espnet_tse_ser.audio.kaldi_dir import write_table
from espnet_tse_ser.errors import UserError
from espnet_tse_ser.files import atomic_path, write_text

SEEN = "teacher_train.lst"  # what the teacher was trained on, beside the table of its embeddings


def write_embeddings(directory, embeddings, seen):
    """Write embeddings.scp with its archive, and the ids that the teacher was trained on.

    Args:
        embeddings: id -> ``(size,)`` float32. seen: these ids.
    """
    directory = Path(directory)
    ark = directory.absolute() / "embeddings.ark"
    with atomic_path(ark) as path, open(path, "wb") as stream:
        places = {i: f"{ark}:{write_array(stream, i, e)}" for i, e in embeddings.items()}
    write_text(directory / SEEN, "".join(f"{i}\n" for i in sorted(seen)))
    write_table(directory / "embeddings.scp", places)


def check_teacher(seen, split, where):
    """Refuse a teacher that was trained on what a fold is tested on.

    Args:
        seen: ids that it was trained on; None: as it says beside its embeddings, the table
            ``where``; of one from elsewhere nobody knows.
        split: directory with test.lst, if there is one. where: beginning of the message.

    Raises:
        UserError: it was.
    """
    if seen is None:
        listed = Path(where).parent / SEEN
        seen = read_ids(listed) if listed.is_file() else ()
    tested = Path(split) / "test.lst"
    both = sorted({*seen} & {*read_lines(tested)}) if tested.is_file() else ()
    if both:
        raise UserError(
            f"{where}: the teacher was trained on {len(both)} utterance(s) that {tested} tests: "
            f"{', '.join(both[:3])}{', ...' if len(both) > 3 else ''}; take the teacher of this "
            "fold"
        )
