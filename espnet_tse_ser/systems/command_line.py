"""How command lines name rows of systems and what belongs to the tags of their parts."""

from espnet_tse_ser.errors import UserError
from espnet_tse_ser.systems.system import Row
from espnet_tse_ser.systems.tags import check_tag, split_tag


def rows_of(options, systems, where="--row"):
    """Parse options ``SYSTEM/TAG ...``.

    Args:
        options: lists of texts, the first of each SYSTEM/TAG. systems: name -> `System`.

    Returns:
        list of (`Row`, further texts).

    Raises:
        UserError: a system is unknown or there twice, or its tag is not of its parts.
    """
    rows = {}
    for text, *more in options:
        name, _, tag = text.partition("/")
        if name not in systems:
            raise UserError(f"{where} {text}: no system '{name}'; known: {' '.join(systems)}")
        if not tag:
            raise UserError(f"{where} {text}: no tag; give {name}/TAG")
        try:
            for part in split_tag(tag, len(systems[name].parts)):
                check_tag(part, f"{where} {text}")
        except ValueError as error:
            raise UserError(f"{where} {text}: {error}; correct it") from None
        if text in rows:
            raise UserError(f"{where} {text}: is there twice; name it once")
        rows[text] = (Row(name, systems[name], tag), *more)
    return list(rows.values())


def chosen_rows(text):
    """The rows of the option ``--rows`` as a list of SYSTEM/TAG; None for None: all.

    Raises:
        UserError: it is empty.
    """
    rows = None if text is None else text.split()
    if rows == []:
        raise UserError('--rows is empty; name rows, e.g. "ft/default", or leave it out for all')
    return rows


def parse_tagged(text, where):
    """Parse an option ``TAG=VALUE ...`` into a dict.

    Raises:
        UserError: an item has no tag or value, or a tag is there twice.
    """
    values = {}
    for item in text.split():
        tag, _, value = item.partition("=")
        if not tag or not value:
            raise UserError(f"{where}: '{item}': expected a tag, '=' and a value")
        if tag in values:
            raise UserError(f"{where}: '{tag}' is there twice; name it once")
        values[tag] = value
    return values
