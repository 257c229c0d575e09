#!/usr/bin/env bash
# Has the mini corpora spoken and makes data/{emo,noise,pretrain,pretrain_noise,unmatched} from them.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
seed=0      # of the corpora
parts=30,70 # shares of the recordings in ESC-50's layout: pretraining, mixtures

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db MINI

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

prepare mini --output_dir "${MINI}" --seed "${seed}"
prepare iemocap --root "${MINI}/IEMOCAP_full_release" --expected_total 320 --output_dir data/emo
prepare librispeech --root "${MINI}/LibriSpeech" --subsets train-mini --output_dir data/pretrain
part=1
for set in pretrain_noise noise; do
    prepare esc50 --root "${MINI}/noise/ESC-50" --complete false --parts "${parts}" --part "${part}" \
        --output_dir "data/${set}"
    part=$((part + 1))
done
prepare musan --root "${MINI}/noise/musan" --complete false --output_dir data/unmatched
