#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from IEMOCAP and LibriSpeech.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
pretrain_subsets=train-clean-100   # LibriSpeech subsets for TSE pretraining (100 h)
interferer_subsets=train-clean-360 # LibriSpeech subsets for interferers: other speakers
interferer_parts=29,71             # the first of these shares of the speakers is taken (105 h)
complete=true                      # assert the known totals of IEMOCAP and of each subset

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db IEMOCAP LIBRISPEECH

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

total=5531
[ "${complete}" = true ] || total=0
prepare iemocap --root "${IEMOCAP}" --expected_total "${total}" --output_dir data/emo
prepare librispeech --root "${LIBRISPEECH}" --subsets "${interferer_subsets}" \
    --parts "${interferer_parts}" --part 1 --complete "${complete}" --output_dir data/interferer
prepare librispeech --root "${LIBRISPEECH}" --subsets "${pretrain_subsets}" \
    --complete "${complete}" --output_dir data/pretrain
