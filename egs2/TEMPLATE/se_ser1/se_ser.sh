#!/usr/bin/env bash
# Speech enhancement and emotion recognition in noise, from corpora to the table of results: the stages
# of tse_ser.sh, with noise in place of talkers and each utterance at every level.
# Run it through a recipe's run.sh, from the recipe's directory.
set -e -u -o pipefail

exec ./tse_ser.sh \
    --source_set noise \
    --pretrain_noise pretrain_noise \
    --enrollment false \
    --levels snr \
    --snr_set "clean 20 15 10 5 0" \
    --every_level true \
    --tse_config conf/train_se.yaml \
    --ser_config conf/train_ser.yaml \
    "$@"
