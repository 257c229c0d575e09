#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from ASED and LibriSpeech.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
labels="ang hap neu sad" # ASED classes; fea is the fifth
subsets=train-clean-100  # LibriSpeech subsets
parts=80,20              # shares of their speakers: pretraining, interferers
complete=speakers        # assert that every speaker of a subset is there; true: every utterance
piece_seconds=0          # cut LibriSpeech into pieces this long; 0: whole utterances, mixing crops them

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db ASED LIBRISPEECH

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

prepare ased --root "${ASED}" --labels "${labels}" --output_dir data/emo
part=1
for set in pretrain interferer; do
    prepare librispeech --root "${LIBRISPEECH}" --subsets "${subsets}" --parts "${parts}" \
        --part "${part}" --complete "${complete}" --piece_seconds "${piece_seconds}" \
        --output_dir "data/${set}"
    part=$((part + 1))
done
