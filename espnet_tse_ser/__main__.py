"""``python -m espnet_tse_ser`` is the command ``tse-ser``."""

import sys

from espnet_tse_ser.console import main

if __name__ == "__main__":
    sys.exit(main())
