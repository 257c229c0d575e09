"""Progress of long steps: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time

logger = logging.getLogger(__name__)

LOG_SECONDS = 15.0


def progress(items, label, total=None):
    """Iterate over ``items`` and report how far along the loop is.

    On a terminal this is a tqdm bar on stderr; otherwise a log line every 15 s and one at the
    end, so that logs of batch jobs stay readable.
    """
    total = len(items) if total is None else total
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_SECONDS and count < total:
            last = now
            left = (now - start) / count * (total - count)
            logger.info("%s: %d / %d, about %.0f s left", label, count, total, left)
    logger.info("%s: %d done in %.1f s", label, total, time.monotonic() - start)


def map_progress(function, items, label, nj=1):
    """``[function(item) for item in items]`` in ``nj`` processes, with `progress`.

    With more than one, ``function`` and the items must be such as can be sent to a process.
    """
    if nj <= 1:
        return [function(item) for item in progress(items, label)]
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from espnet_tse_ser.processes import METHOD, end_with_parent

    with ProcessPoolExecutor(nj, get_context(METHOD), end_with_parent) as pool:
        return list(progress(pool.map(function, items, chunksize=8), label, len(items)))


def log_to_stderr(level="INFO"):
    """Configure logging of a command line: time, level and message on stderr."""
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s: %(message)s"
    )
