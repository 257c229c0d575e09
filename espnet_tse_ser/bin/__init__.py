"""Command lines: ``python -m espnet_tse_ser.bin.<name>``."""

from espnet_tse_ser.training.trainer import fast_import

fast_import.install()
