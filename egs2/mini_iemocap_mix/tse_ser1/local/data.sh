#!/usr/bin/env bash
# Has the mini corpora spoken and makes data/{emo,interferer,pretrain,esd} from them.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
seed=0      # of the corpora
parts=75,25 # shares of the LibriSpeech speakers: pretraining, interferers
esd=false   # true: also make data/esd, for --source_set esd
noise=false # true: also make data/noise and data/other_noise, for --source_set noise

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db MINI

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

prepare mini --output_dir "${MINI}" --seed "${seed}"
prepare iemocap --root "${MINI}/IEMOCAP_full_release" --expected_total 320 --output_dir data/emo
part=1
for set in pretrain interferer; do
    prepare librispeech --root "${MINI}/LibriSpeech" --subsets train-mini --parts "${parts}" \
        --part "${part}" --output_dir "data/${set}"
    part=$((part + 1))
done
if [ "${esd}" != false ]; then
    prepare esd --root "${MINI}/ESD" --complete false --output_dir data/esd
fi
if [ "${noise}" != false ]; then
    prepare esc50 --root "${MINI}/noise/ESC-50" --complete false --output_dir data/noise
    prepare musan --root "${MINI}/noise/musan" --complete false --output_dir data/other_noise
fi
