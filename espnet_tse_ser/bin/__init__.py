"""Command lines: ``python -m espnet_tse_ser.bin.<name>``."""

from espnet_tse_ser import fast_import

fast_import.install()
