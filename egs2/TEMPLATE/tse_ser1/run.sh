#!/usr/bin/env bash
# The choices of this recipe; options given to it win, e.g. ./run.sh --stage ser --folds "1 2".
set -e -u -o pipefail

exec ./tse_ser.sh \
    --tse_config conf/train_tse.yaml \
    --ser_config conf/train_ser.yaml \
    --joint_config conf/train_tse_ser.yaml \
    --folds "1 2 3 4 5" \
    "$@"
