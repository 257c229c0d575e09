"""Many recordings, one after another: what cannot be used is reported, the others go on."""

import logging
import sys

from espnet_tse_ser.errors import UserError, explain
from espnet_tse_ser.progress import progress

logger = logging.getLogger(__name__)


def run_batch(items, compute, results, label, load):
    """Compute and write what `Results` has not yet.

    Args:
        items: list of `Item`. compute: function of one -> dict with a list "warnings".
        results: `Results`. label: of the bar on a terminal.
        load: what all need; called first, so that no recording is blamed for it. With one recording
            it is not, and ``compute`` can see first whether that can be used.

    Raises:
        UserError: a recording cannot be used; of several, when the others are done.
    """
    todo, failed, said = [item for item in items if item not in results], [], set()
    if todo and len(items) > 1:
        load()
    prints_on_a_terminal = results.path is None and sys.stdout.isatty()
    is_shown = len(items) > 1 and not prints_on_a_terminal
    for item in progress(todo, label) if is_shown else todo:
        try:
            result = compute(item)
        except (UserError, PermissionError) as error:
            if len(items) == 1:
                raise
            failed.append(item.mixture)
            text = str(explain(error) if isinstance(error, OSError) else error)
            where = "" if text.startswith(item.mixture) else f"{item.id}: "
            logger.error("%s%s", where, text)
            continue
        results.write(item, result)
        for text in result["warnings"]:
            if text not in said:  # of an enrollment of many
                logger.warning("%s", text)
            said.add(text)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(items)} recordings could not be used, first {failed[0]}; what "
            "is wrong with each is said above; the others are done"
        )
