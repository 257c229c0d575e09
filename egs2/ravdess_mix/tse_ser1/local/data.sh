#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from RAVDESS and LibriSpeech, and perhaps speechocean762.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
labels="ang hap neu sad" # RAVDESS classes; calm counts as neutral unless cal is one of them
trim_silence=true        # cut the silence before and after the speech
subsets=train-clean-100  # LibriSpeech subsets
parts=80,20              # shares of their speakers: pretraining, interferers
complete=speakers        # assert that every speaker of a subset is there; true: every utterance
piece_seconds=0          # cut LibriSpeech into pieces this long; 0: whole utterances, mixing crops them
speechocean762=false     # pretrain on the 250 speakers of speechocean762 too; SPEECHOCEAN762 says where

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db RAVDESS LIBRISPEECH
if [ "${speechocean762}" = true ]; then
    require_db SPEECHOCEAN762
    if [ "${piece_seconds}" != 0 ]; then
        echo "--speechocean762 true is for whole utterances; drop it or --piece_seconds ${piece_seconds}" >&2
        exit 1
    fi
fi

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

prepare ravdess --root "${RAVDESS}" --labels "${labels}" --trim_silence "${trim_silence}" \
    --output_dir data/emo
part=1
for set in pretrain interferer; do
    prepare librispeech --root "${LIBRISPEECH}" --subsets "${subsets}" --parts "${parts}" \
        --part "${part}" --complete "${complete}" --piece_seconds "${piece_seconds}" \
        --output_dir "data/${set}"
    part=$((part + 1))
done
if [ "${speechocean762}" = true ]; then
    prepare speechocean762 --root "${SPEECHOCEAN762}" --output_dir data/speechocean762
    for file in data/speechocean762/*; do
        LC_ALL=C sort -o "data/pretrain/${file##*/}" "data/pretrain/${file##*/}" "${file}"
    done
fi
