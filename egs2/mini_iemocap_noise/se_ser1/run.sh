#!/usr/bin/env bash
# Synthetic speech and noise in the layouts of IEMOCAP, LibriSpeech, ESC-50 and MUSAN: every stage in
# minutes, no download. Two of the five folds and three levels, to be short.
set -e -u -o pipefail

exec ./se_ser.sh \
    --folds "1 2" \
    --snr_set "clean 10 0" \
    "$@"
