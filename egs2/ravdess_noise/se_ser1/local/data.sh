#!/usr/bin/env bash
# Makes data/{emo,noise,pretrain,pretrain_noise,unmatched} from RAVDESS, LibriSpeech, UrbanSound8K and a
# folder of other sounds.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
labels="ang hap neu sad" # RAVDESS classes; calm counts as neutral unless cal is one of them
trim_silence=true        # cut the silence before and after the speech
subsets=train-clean-100  # LibriSpeech subsets
complete=speakers        # assert that every speaker of a subset is there; true: every utterance
classes="air_conditioner car_horn dog_bark drilling engine_idling gun_shot jackhammer siren" # of UrbanSound8K
complete_noise=true      # assert that every clip of UrbanSound8K is there
parts=40,60              # shares of its recordings: pretraining, mixtures

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db RAVDESS LIBRISPEECH URBANSOUND8K NOISE

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

prepare ravdess --root "${RAVDESS}" --labels "${labels}" --trim_silence "${trim_silence}" \
    --output_dir data/emo
prepare librispeech --root "${LIBRISPEECH}" --subsets "${subsets}" --complete "${complete}" \
    --output_dir data/pretrain
part=1
for set in pretrain_noise noise; do
    prepare urbansound8k --root "${URBANSOUND8K}" --classes "${classes}" --complete "${complete_noise}" \
        --parts "${parts}" --part "${part}" --output_dir "data/${set}"
    part=$((part + 1))
done
prepare folder --root "${NOISE}" --output_dir data/unmatched
