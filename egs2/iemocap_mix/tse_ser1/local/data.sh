#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from IEMOCAP and LibriSpeech, and data/esd from ESD.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
pretrain_subsets=train-clean-100   # LibriSpeech subsets for TSE pretraining (100 h)
interferer_subsets=train-clean-360 # LibriSpeech subsets for interferers: other speakers
interferer_parts=29,71             # the first of these shares of the speakers is taken (105 h)
complete=true                      # assert the known totals of IEMOCAP, of each subset and of ESD
esd=false                          # true: also make data/esd from ${ESD}, for --source_set esd

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db IEMOCAP LIBRISPEECH
[ "${esd}" = false ] || require_db ESD

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

total=5531
[ "${complete}" = true ] || total=0
prepare iemocap --root "${IEMOCAP}" --expected_total "${total}" --output_dir data/emo
prepare librispeech --root "${LIBRISPEECH}" --subsets "${interferer_subsets}" \
    --parts "${interferer_parts}" --part 1 --complete "${complete}" --output_dir data/interferer
prepare librispeech --root "${LIBRISPEECH}" --subsets "${pretrain_subsets}" \
    --complete "${complete}" --output_dir data/pretrain
if [ "${esd}" != false ]; then
    prepare esd --root "${ESD}" --language english --complete "${complete}" --output_dir data/esd
fi
