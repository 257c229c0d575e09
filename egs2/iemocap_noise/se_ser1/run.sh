#!/usr/bin/env bash
# IEMOCAP in the noise of ESC-50, one speaker out at a time: what TRNet's authors do. Noise of MUSAN is
# for tests only.
set -e -u -o pipefail

exec ./se_ser.sh \
    --scheme loso_speaker \
    --folds "1 2 3 4 5 6 7 8 9 10" \
    "$@"
