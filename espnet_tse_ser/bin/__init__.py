"""Command lines: ``python -m espnet_tse_ser.bin.<name>``."""

from espnet_tse_ser.espnet import fast_import

fast_import.install()
