#!/usr/bin/env bash
# ASED, Amharic, with LibriSpeech for interferers and pretraining: corpora that anyone may download.
set -e -u -o pipefail

exec ./tse_ser.sh \
    --tse_config conf/train_tse.yaml \
    --ser_config conf/train_ser.yaml \
    --joint_config conf/train_tse_ser.yaml \
    --folds "1 2 3 4 5" \
    "$@"
