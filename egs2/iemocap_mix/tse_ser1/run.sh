#!/usr/bin/env bash
# The recipe of the paper: IEMOCAP, with LibriSpeech for interferers and pretraining. README.md says
# why dev is cut by utterance.
set -e -u -o pipefail

exec ./tse_ser.sh \
    --tse_config conf/train_tse.yaml \
    --ser_config conf/train_ser.yaml \
    --joint_config conf/train_tse_ser.yaml \
    --folds "1 2 3 4 5" \
    --dev_split utterance \
    --sweeps "snr_* talkers_* overlap_* gender_* emotional enroll_*" \
    "$@"
