#!/usr/bin/env bash
# RAVDESS in the noise of UrbanSound8K, with LibriSpeech for the front-end's pretraining.
set -e -u -o pipefail

exec ./se_ser.sh \
    --folds "1 2 3 4 5" \
    "$@"
