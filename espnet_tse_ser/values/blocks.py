"""Blocks of a mask network: how many there can be, and which one an enrollment adapts."""

from espnet_tse_ser.values.numbers import Number

COUNT = Number(1, 16, whole=True)  # in a repeat, and repeats; dilations are 1, 2, 4 ...


def check_adapted(block, layer, stack):
    """Raise `ValueError` unless ``block`` is one of ``layer`` x ``stack``, counted from 0."""
    if not 0 <= block < layer * stack:
        raise ValueError(
            f"i_adapt_layer {block} does not exist, so that the enrollment would have no effect: "
            f"there are {layer} x {stack} blocks, 0 to {layer * stack - 1}"
        )
