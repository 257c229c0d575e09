"""Batches for inference: as many utterances as the user asks for, as much audio as memory holds."""

from espnet_tse_ser.training.dynamic import length_batches

MAX_SECONDS = 240.0  # of a batch, padding counted: a few GB with networks of the paper's size


def inference_batches(lengths, batch_size, fs):
    """Batch ids of similar length, no batch larger than `MAX_SECONDS` (or one utterance).

    Args:
        lengths: dict id -> samples. batch_size: ids a batch at most. fs: rate in Hz.

    Returns:
        list of lists of ids. They are those of `length_batches` where none of these is too large.
    """
    most = MAX_SECONDS * fs
    batches = []
    for batch in length_batches(lengths, batch_size):
        batches += split_batch(batch, [lengths[key] for key in batch], most)
    return batches


def split_batch(items, lengths, most):
    """Split one batch into parts of which none, padded to its longest, is above ``most`` samples.

    >>> split_batch(["a", "b", "c", "d"], [1, 2, 2, 9], 4)
    [['a', 'b'], ['c'], ['d']]
    """
    parts, longest = [[]], 0
    for item, length in zip(items, lengths, strict=True):
        longest = max(longest, length)
        if parts[-1] and longest * (len(parts[-1]) + 1) > most:
            parts.append([])
            longest = length
        parts[-1].append(item)
    return parts
