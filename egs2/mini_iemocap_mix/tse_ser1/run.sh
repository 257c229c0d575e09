#!/usr/bin/env bash
# Synthetic speech in the layouts of IEMOCAP and LibriSpeech: every stage in minutes, no download.
# Two of the five folds, to be short; --folds "1 2 3 4 5" runs all.
set -e -u -o pipefail

exec ./tse_ser.sh \
    --tse_config conf/train_tse.yaml \
    --ser_config conf/train_ser.yaml \
    --joint_config conf/train_tse_ser.yaml \
    --folds "1 2" \
    --sweeps "snr_-5 talkers_3 overlap_50 gender_same emotional alone enroll_1s enroll_wrong" \
    "$@"
