#!/usr/bin/env bash
# Makes data/{emo,interferer,pretrain} from RAVDESS and LibriSpeech, and perhaps other corpora to pretrain on.
set -e -u -o pipefail

# --help prints these: one variable and what it means a line.
labels="ang hap neu sad" # RAVDESS classes; calm counts as neutral unless cal is one of them
trim_silence=true        # cut the silence before and after the speech
subsets=train-clean-100  # LibriSpeech subsets
parts=80,20              # shares of their speakers: pretraining, interferers
complete=speakers        # assert that every speaker of a subset is there; true: every utterance
piece_seconds=0          # cut LibriSpeech into pieces this long; 0: whole utterances, mixing crops them
pretrain_too=""          # corpora to pretrain on besides: speechocean762 (250 speakers), ased (61, emotional), or both: speechocean762,ased

. utils/parse_options.sh
. ./path.sh
. ./db.sh
require_db RAVDESS LIBRISPEECH
repeated=$(tr , '\n' <<<"${pretrain_too}" | sort | uniq -d | head -n 1)
if [ -n "${repeated}" ]; then
    echo "--pretrain_too ${pretrain_too}: has ${repeated} twice; give each corpus once" >&2
    exit 1
fi
for corpus in ${pretrain_too//,/ }; do
    case ${corpus} in
        speechocean762 | ased) require_db "${corpus^^}" ;;
        *)
            echo "--pretrain_too ${corpus}: this recipe knows speechocean762 and ased" >&2
            exit 1
            ;;
    esac
    if [ "${piece_seconds}" != 0 ]; then
        echo "--pretrain_too is for whole utterances; drop it or --piece_seconds ${piece_seconds}" >&2
        exit 1
    fi
done

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
for corpus in ${pretrain_too//,/ }; do
    root=${corpus^^}
    prepare "${corpus}" --root "${!root}" --output_dir "data/${corpus}"
    for file in data/pretrain/*; do
        LC_ALL=C sort -o "${file}" "${file}" "data/${corpus}/${file##*/}"
    done
done
