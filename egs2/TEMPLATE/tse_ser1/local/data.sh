#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from the corpora.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
subset=train-clean-100 # LibriSpeech subset for interferers and pretraining
complete=true          # assert the known totals of the subset
parts=70,30            # shares of its speakers: pretraining, interferers

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db LIBRISPEECH

prepare() { python3 -m espnet_tse_ser.bin.prepare "$@"; }

# The emotional corpus, data/emo: wav.scp utt2spk spk2utt spk2gender utt2emo utt2fold
# (docs/add_a_corpus.md). Replace the next two lines by the command.
echo "local/data.sh: fill in how data/emo is made" >&2
false # stops the script

part=1
for set in pretrain interferer; do
    prepare librispeech --root "${LIBRISPEECH}" --subsets "${subset}" --parts "${parts}" \
        --part "${part}" --complete "${complete}" --output_dir "data/${set}"
    part=$((part + 1))
done
