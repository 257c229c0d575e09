#!/usr/bin/env bash
# Makes data/{emo,noise,pretrain,pretrain_noise,unmatched} from IEMOCAP, LibriSpeech, ESC-50 and MUSAN.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
subsets=train-clean-100 # LibriSpeech subsets, for the front-end's pretraining
parts=30,70             # shares of the recordings of ESC-50: pretraining, mixtures
complete=true           # assert the known totals of all corpora

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db IEMOCAP LIBRISPEECH ESC50 MUSAN

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

total=5531
[ "${complete}" = true ] || total=0
prepare iemocap --root "${IEMOCAP}" --expected_total "${total}" --output_dir data/emo
prepare librispeech --root "${LIBRISPEECH}" --subsets "${subsets}" --complete "${complete}" \
    --output_dir data/pretrain
part=1
for set in pretrain_noise noise; do
    prepare esc50 --root "${ESC50}" --complete "${complete}" --parts "${parts}" --part "${part}" \
        --output_dir "data/${set}"
    part=$((part + 1))
done
prepare musan --root "${MUSAN}" --subsets noise/free-sound --complete "${complete}" \
    --output_dir data/unmatched
