#!/usr/bin/env bash
# Target-speech extraction and speech emotion recognition, from a corpus to the table of results.
# Run it through a recipe's run.sh, from the recipe's directory.

set -e -u -o pipefail

# --help prints the lines up to "End of options": one variable, its default and what it means.
## Stages
stage=1                   # first stage to run, a number or a name
stop_stage=17             # last stage to run, a number or a name
status=false              # true: only print how far every training and inference is
## Machine
nj=                       # jobs of data, extraction and scoring (empty: all cores; 32 on a cluster)
max_jobs=                 # trainings or inferences at a time (empty: what fits; all on a cluster)
num_threads=              # threads of a training (empty: all cores, 4 on a cluster, for TSE; 1 for a fold's)
ngpu=0                    # GPUs of a training, on each node; 0: CPU
num_nodes=1               # nodes of a training (above 1 only with a cluster's cmd.sh)
batch_size=16             # utterances at once in SER inference; the result does not depend on it
python=python3            # Python to use
## Data
local_data_opts=          # options for local/data.sh
dumpdir=dump              # where the audio goes
expdir=exp                # where models and results go: one directory for each set of experiments
folds="1 2 3 4 5"         # folds to train and to test on
labels="ang hap neu sad"  # emotion classes
seed=0                    # seed of the protocol and of every training
more_seeds=               # further seeds of SER and joint trainings, pooled in the results, e.g. "1 2"
num_interferers=1         # interferers in a mixture
interferer_set=interferer # where interferers come from: data/<name>; emo: other speakers of the corpus
mix_tag=                  # another set of mixtures beside the main one: its models and scores get this name
levels=loudness           # loudness: every source at a random loudness; snr: a random SNR
snr_range=                # "lowest highest" SNR in dB, for levels=snr
gender_state=random       # random, or only mixtures of the same or of different gender
protocol=loso             # loso; loso_speaker: dev is the rest of the fold; best_test_epoch: dev is test
dev_split=speaker         # dev is cut from the training side by speaker or by utterance
dev_share=0.1             # share of the training side that becomes dev
## Models
tse_config=conf/train_tse.yaml            # config of TSE pretraining
ser_config=conf/train_ser.yaml            # config of SER training
joint_config=conf/train_tse_ser.yaml      # config of joint training
tse_tag=                  # name of the TSE model (empty: the config's, without train_tse_)
ser_tag=                  # name of the SER models (empty: the config's, without train_ser_)
joint_tag=                # name of the joint models (empty: the config's, without train_tse_ser_)
tse_args=                 # more options for TSE training, e.g. "--max_epoch 50"
ser_args=                 # more options for SER training
joint_args=               # more options for joint training
feats_dtype=float32       # precision of kept frozen SSL features: float32, float16, or none (keep none)
conditions="clean noisy denoised"         # what SER models are trained on
train_joint=true          # false: no joint training, and no ft
joint_init=denoised       # the SER model that joint training starts from; none: from scratch
tests=                    # test variations, of conf/tests (empty: all that are there; none)
## Publishing
hf_repo=                  # Hugging Face repository, user/name (empty: no upload)
# End of options

# Number (the line's), name, what it does, what it reads, what it writes.
stage_table() {
    cat <<EOF
data|Data preparation|db.sh local/data.sh|data/{emo,interferer,pretrain} ${dumpdir}/clean
protocol|Mixture protocol|${dumpdir}/clean|${protocol_dir}
check|Data check|${dumpdir}/clean ${protocol_dir}|${protocol_dir}/log
simulate|Simulation|${dumpdir}/clean ${protocol_dir}|${mix}
tse_stats|TSE statistics|${dumpdir}/clean/pretrain ${tse_config}|${tse_stats}
tse|TSE pretraining|${dumpdir}/clean/pretrain ${tse_config}|${tse_exp}
extract|Extraction: the denoised sets|${tse_exp} ${mix}|${denoised}
tse_score|TSE scoring|${mix} ${denoised}|${tse_scores}
ser_stats|SER features and statistics|${mix} ${denoised} ${ser_config}|${ser_stats}; ${dumpdir}/feats_${ser_tag} of a frozen SSL front-end
ser|SER training: ${conditions}; folds ${folds}|${mix} ${denoised} ${ser_config}|${expdir}/ser_*_${ser_tag}
joint|Joint TSE-SER training: folds ${folds}|${tse_exp} ${expdir}/ser_${joint_init}_${ser_tag} ${joint_config}|${joint_exp}
infer|SER inference|${expdir}/ser_*_${ser_tag} ${joint_exp} ${dumpdir}|${scores}/*/fold*
score|SER scoring|${scores}/*/fold* ${tse_scores}|${scores}/*/score_utt.tsv ${preserved}
results|Results|${scores}|${results}/RESULTS.md ${results}/results.json ${results}/plots
tests|Tests: variations of the mixtures|conf/tests ${expdir}/ser_*_${ser_tag} ${joint_exp}|${results}/RESULTS_TESTS.md ${tests_dir}
pack|Packing|${joint_exp}|${joint_exp}/fold*.zip
upload|Upload|${joint_exp}/fold*.zip|${hf_repo:-nothing: --hf_repo is not given}
EOF
}

# Print every option with its present value and its comment, then the stages.
print_help() {
    local line name
    echo "Usage: ${0##*/} [--option value]..."
    while IFS= read -r line; do
        case ${line} in
            "## "*) printf '\n%s\n' "${line#\#\# }" ;;
            "# End of options") break ;;
            [a-z]*=*"# "*)
                name=${line%%=*}
                printf '  --%-15s %s [%s]\n' "${name}" "${line#*# }" "${!name}"
                ;;
        esac
    done <"${BASH_SOURCE[0]}"
    printf '\nStages\n'
    name_directories
    stage_table | awk -F'|' '{ printf "  %2d %-10s %s\n", NR, $1, $2 }'
}

# Tags and the directories that are named after them.
name_directories() {
    tse_tag=${tse_tag:-$(tag_of "${tse_config}" train_tse)}
    ser_tag=${ser_tag:-$(tag_of "${ser_config}" train_ser)}
    joint_tag=${joint_tag:-$(tag_of "${joint_config}" train_tse_ser)}
    local suffix=${mix_tag:+_${mix_tag}}
    ser_tag+=${suffix}
    joint_tag+=${suffix}
    clean=${dumpdir}/clean
    protocol_dir=data/mix${suffix}
    mix=${dumpdir}/mix${suffix}
    denoised=${dumpdir}/denoised_${tse_tag}${suffix}
    tse_stats=${expdir}/tse_stats_${tse_tag}
    tse_exp=${expdir}/tse_${tse_tag}
    tse_scores=${tse_exp}/scoring${suffix}
    ser_stats=${expdir}/ser_stats_${ser_tag}
    joint_exp=${expdir}/tse_ser_${joint_tag}
    scores=${expdir}/scores${suffix}
    preserved=${expdir}/preservation${suffix}
    tests_dir=${expdir}/tests${suffix}
    results=${expdir}${mix_tag:+/results_${mix_tag}}
}

# tag_of CONFIG PREFIX: the name that a config gives to its models.
tag_of() {
    local tag=${1##*/}
    tag=${tag%.y*ml}
    tag=${tag#"$2"}
    tag=${tag#_}
    echo "${tag:-default}"
}

. utils/parse_options.sh
. ./path.sh
. ./cmd.sh
. utils/steps.sh

usage_error() {
    echo "${0##*/}: $*; see --help" >&2
    exit 2
}

# is_path TEXT, is_name TEXT: whether it can be (a part of) a path that jobs write to and that their
# commands name; the wrappers let a shell expand these, and put a number in place of JOB.
is_path() { [[ $1 =~ ^[A-Za-z0-9_./+=,:@][-A-Za-z0-9_./+=,:@]*$ && $1 != *JOB* ]]; }
is_name() { is_path "$1" && [[ $1 != */* && $1 != .* ]]; }
path_rule="only letters, digits and -_./+=,:@ can be in it, no dash first, and not JOB, which stands for a job's number"
name_rule="only letters, digits and -_.+=,:@ can be in it, no dash or dot first, and not JOB, which stands for a job's number"

# What runs at a time: on this machine what cores or GPUs allow, on a cluster all.
set_jobs() {
    cores=$(env -u OMP_NUM_THREADS nproc) # path.sh sets what nproc would report
    on_cluster=true
    [[ ! ${cuda_cmd%% *} =~ ^(.*/)?(run|stdout)\.pl$ ]] || on_cluster=false
    if ${on_cluster}; then
        nj=${nj:-32}
        tse_threads=${num_threads:-4}
        return
    fi
    nj=${nj:-${cores}}
    tse_threads=${num_threads:-${cores}}
    if [ -z "${max_jobs}" ] && [ "${ngpu}" = 0 ]; then # run.pl itself counts the GPUs
        max_jobs=$((cores / ${num_threads:-1}))
        [ "${max_jobs}" -gt 0 ] || max_jobs=1
    fi
}

# Every training and inference as a line "row, column, directory, mark, command".
print_status() {
    local condition system run
    {
        printf 'TSE\tall\t%s\t\ttse_train\n' "${tse_exp}"
        for condition in ${conditions}; do
            while read -r run _; do
                printf 'SER %s\t%s\t%s\t\tser_train\n' "${condition}" "${run}" \
                    "${expdir}/ser_${condition}_${ser_tag}/${run}"
            done < <(runs)
        done
        while read -r run _; do
            [ "${train_joint}" = false ] ||
                printf 'joint\t%s\t%s\t\ttse_ser_train\n' "${run}" "${joint_exp}/${run}"
        done < <(runs)
        while read -r system _; do
            while read -r run _; do
                printf 'scores %s\t%s\t%s\t\trecognize\n' "${system}" "${run}" "${scores}/${system}/${run}"
            done < <(runs)
        done < <(systems)
    } | ${python} -m espnet_tse_ser.bin.status
}

# stage_number NAME_OR_NUMBER
stage_number() {
    local number
    number=$(stage_table | awk -F'|' -v asked="$1" '$1 == asked || NR == asked { print NR }')
    echo "${number:-none}"
}

# --- the stages -----------------------------------------------------------------------------

stage_data() {
    local set name path files record
    # Where the corpora are belongs to the settings.
    record="local/data.sh ${local_data_opts}"$'\n'$(cksum local/data.sh)
    . ./db.sh
    while IFS='=' read -r name _; do
        [ -z "${!name}" ] || record+=$'\n'"${name}=${!name}"
    done < <(grep '^[A-Z0-9_]*=' db.sh)
    begin_step data .local "${record}" true
    if [ "${_todo}" = true ]; then
        # shellcheck disable=SC2086
        run_killable local/data.sh ${local_data_opts} || fail "local/data.sh failed"
        for set in emo interferer pretrain; do
            [ -s "data/${set}/wav.scp" ] || fail "local/data.sh wrote no data/${set}/wav.scp"
        done
        end_step data .local "*/wav.scp */segments */utt2spk */spk2gender */utt2emo */utt2fold"
    fi
    for path in data/*/wav.scp; do
        set=${path%/wav.scp}
        set=${set#data/}
        is_name "${set}" || fail "data/$(printf %q "${set}"): ${name_rule}; rename the directory"
        files=()
        for name in wav.scp segments utt2spk spk2gender utt2emo utt2fold; do
            [ ! -f "data/${set}/${name}" ] || files+=(--input "data/${set}/${name}")
        done
        step --nj "${nj}" "${files[@]}" --writes "wav.scp utt2* spk2*" "${clean}/${set}" \
            format_audio --data_dir "data/${set}" --output_dir "${clean}/${set}"
    done
}

stage_protocol() {
    local range=()
    [ -z "${snr_range}" ] || range=(--snr_range "${snr_range}")
    [ -d "${clean}/${interferer_set}" ] || fail "--interferer_set ${interferer_set}: there is no" \
        "${clean}/${interferer_set}; local/data.sh has to make data/${interferer_set} (stage 1)"
    step --input "${clean}/emo/.done" --input "${clean}/${interferer_set}/.done" \
        --writes "protocol.tsv splits/*/*.lst" "${protocol_dir}" \
        protocol --protocol "${protocol}" --targets "${clean}/emo" \
        --interferers "${clean}/${interferer_set}" \
        --output_dir "${protocol_dir}" --num_interferers "${num_interferers}" --levels "${levels}" \
        "${range[@]}" --gender_state "${gender_state}" --dev_split "${dev_split}" \
        --dev_share "${dev_share}" --seed "${seed}"
}

stage_check() {
    step --redo --name check --input "${protocol_dir}/.done" --input "${clean}/pretrain/.done" \
        "${protocol_dir}" check_data --protocol "${protocol}" --targets "${clean}/emo" \
        --interferers "${clean}/${interferer_set}" \
        --pretrain "${clean}/pretrain" --protocol_dir "${protocol_dir}" --labels "${labels}" \
        --folds "${folds}"
}

stage_simulate() {
    step --nj "${nj}" --input "${protocol_dir}/.done" --input "${protocol_dir}/protocol.tsv" \
        --writes "*.scp utt2* spk2* protocol.tsv" "${mix}" \
        simulate --protocol_dir "${protocol_dir}" --targets "${clean}/emo" \
        --interferers "${clean}/${interferer_set}" --output_dir "${mix}"
}

stage_tse_stats() {
    step --input "${tse_config}" --input "${clean}/pretrain/.done" --writes stats.json "${tse_stats}" \
        tse_stats --config "${tse_config}" --pool "${clean}/pretrain" --output_dir "${tse_stats}" \
        --seed "${seed}"
}

# shellcheck disable=SC2086
stage_tse() {
    step --train "${tse_threads}" --input "${tse_config}" \
        --input "${clean}/pretrain/.done" --writes "config.yaml *.best.pth" "${tse_exp}" \
        tse_train --config "${tse_config}" --pool "${clean}/pretrain" \
        --output_dir "${tse_exp}" --seed "${seed}" ${tse_args}
}

stage_extract() {
    step --nj "${nj}" --input "${tse_exp}/.done" --input "${mix}/.done" \
        --writes "*.scp utt2* spk2* protocol.tsv" "${denoised}" \
        extract --model_dir "${tse_exp}" --data_dir "${mix}" --output_dir "${denoised}"
}

stage_tse_score() {
    step --redo --unrecorded "--nj ${nj}" --input "${denoised}/.done" --input "${mix}/.done" \
        --writes score_utt.tsv "${tse_scores}" \
        tse_score --data_dir "${mix}" --denoised_dir "${denoised}" \
        --output "${tse_scores}/score_utt.tsv"
}

# Each training of a system: the name of its directory, the fold and the seed.
runs() {
    local one fold
    for one in ${seed} ${more_seeds}; do
        for fold in ${folds}; do
            [ "${one}" = "${seed}" ] && echo "fold${fold} ${fold} ${one}" ||
                echo "fold${fold}_seed${one} ${fold} ${one}"
        done
    done
}

# scp_of CONDITION: its audio. done_of CONDITION: the mark of the step that wrote it.
scp_of() {
    case $1 in
        clean) echo "${mix}/spk1.scp" ;;
        noisy) echo "${mix}/wav.scp" ;;
        denoised) echo "${denoised}/wav.scp" ;;
    esac
}

done_of() {
    case $1 in
        denoised) echo "${denoised}/.done" ;;
        *) echo "${mix}/.done" ;;
    esac
}

# feats_of CONDITION: where the features of a frozen SSL front-end are kept; nothing if none are.
feats_of() {
    if [ "${feats_dtype}" = none ] || ! is_frozen_ssl; then
        return 0
    fi
    case $1 in
        denoised) echo "${dumpdir}/feats_${ser_tag}/denoised_${tse_tag}" ;;
        *) echo "${dumpdir}/feats_${ser_tag}/$1" ;;
    esac
}

# Whether the features that ${ser_config} asks for never change (ser_features makes sure of it).
is_frozen_ssl() {
    grep -Eq '^frontend: *["'\'']?ssl["'\'']? *(#.*)?$' "${ser_config}" &&
        ! grep -Eq '^[^#]*(finetune: *(true|yes|on)|layer: *["'\'']?weighted)' "${ser_config}"
}

# keep_features CONDITION...: compute what feats_of names.
keep_features() {
    local condition dir
    for condition; do
        dir=$(feats_of "${condition}")
        [ -n "${dir}" ] || continue
        step --redo --nj "${nj}" --input "${ser_config}" \
            --input "$(done_of "${condition}")" --writes "frontend.json index.tsv feats.scp" "${dir}" \
            ser_features --config "${ser_config}" --scp "$(scp_of "${condition}")" \
            --output_dir "${dir}" --dtype "${feats_dtype}"
        # How many they are, their size, and the time they took.
        sed -n 's/^.* INFO: \(.* utterances, .*\)$/    \1/p' "${dir}/log/ser_features.combine.log" || true
    done
}

# use_features CONDITION: set feats to the arguments of a command that reads them, needs to its input.
use_features() {
    local dir
    dir=$(feats_of "$1")
    feats=(${dir:+--feats "${dir}"})
    needs=(${dir:+--input "${dir}/.done"})
}

# shellcheck disable=SC2086
stage_ser_stats() {
    local condition feats needs
    keep_features ${conditions}
    for condition in ${conditions}; do
        use_features "${condition}"
        step --batch --input "${ser_config}" --input "$(done_of "${condition}")" "${needs[@]}" \
            --writes "fold*/feats_stats.npz" "${ser_stats}/${condition}" \
            ser_stats --config "${ser_config}" --scp "$(scp_of "${condition}")" "${feats[@]}" \
            --splits "${protocol_dir}/splits" --output_dir "${ser_stats}/${condition}"
    done
    run_batch
}

# shellcheck disable=SC2086
stage_ser() {
    local condition run fold run_seed dir feats needs
    for condition in ${conditions}; do
        use_features "${condition}"
        while read -r run fold run_seed; do
            dir=${expdir}/ser_${condition}_${ser_tag}/${run}
            step --train "${num_threads:-1}" --batch --input "${ser_config}" \
                --input "${ser_stats}/${condition}/.done" "${needs[@]}" \
                --writes "config.yaml *.best.pth" "${dir}" \
                ser_train --config "${ser_config}" --scp "$(scp_of "${condition}")" "${feats[@]}" \
                --data_dir "${mix}" --split "${protocol_dir}/splits/fold${fold}" \
                --stats "${ser_stats}/${condition}/fold${fold}/feats_stats.npz" \
                --output_dir "${dir}" --seed "${run_seed}" --labels ${labels} ${ser_args}
        done < <(runs)
    done
    run_batch
}

# shellcheck disable=SC2086,SC2206
stage_joint() {
    local run fold run_seed dir ser_dir stats from needs low high mixing=()
    if [ "${train_joint}" = false ]; then
        log "  not asked for (--train_joint false)"
        return 0
    fi
    if [ "${levels}" = snr ]; then # fresh mixtures are like those of the protocol
        read -r low high <<<"${snr_range:--5 5}"
        mixing=(--mixing_conf levels=snr --mixing_conf "snr=[${low},${high}]")
    fi
    # From scratch: the features of what is most like the extracted speech.
    stats=${ser_stats}/${conditions##* }
    [[ " ${conditions} " != *" denoised "* ]] || stats=${ser_stats}/denoised
    while read -r run fold run_seed; do
        dir=${joint_exp}/${run}
        ser_dir=${expdir}/ser_${joint_init}_${ser_tag}/${run}
        if [ "${joint_init}" = none ]; then
            from=(--ser_config "${ser_config}" --labels ${labels}
                --stats "${stats}/fold${fold}/feats_stats.npz")
            needs=(--input "${ser_config}" --input "${stats}/.done")
        else
            from=(--ser_dir "${ser_dir}")
            needs=(--input "${ser_dir}/.done")
        fi
        step --train "${num_threads:-1}" --batch --input "${joint_config}" \
            --input "${mix}/.done" --input "${tse_exp}/.done" "${needs[@]}" \
            --writes "config.yaml *.best.pth" "${dir}" \
            tse_ser_train --config "${joint_config}" --data_dir "${mix}" \
            --targets "${clean}/emo" --interferers "${clean}/${interferer_set}" \
            --split "${protocol_dir}/splits/fold${fold}" --tse_dir "${tse_exp}" "${from[@]}" \
            --output_dir "${dir}" --seed "${run_seed}" "${mixing[@]}" ${joint_args}
    done < <(runs)
    run_batch
}

# Each system: its name, the condition it is trained on (joint: both parts), the one it is tested on.
systems() {
    local name train test trained=${conditions}
    [ "${train_joint}" = false ] || trained+=" joint"
    while read -r name train test; do
        [[ " ${trained} " != *" ${train} "* ]] || echo "${name} ${train} ${test}"
    done <<'EOF'
clean_clean clean clean
clean_noisy clean noisy
noisy_noisy noisy noisy
clean_denoised clean denoised
base denoised denoised
ft joint noisy
EOF
}

stage_infer() {
    local run fold system train test dir model feats needs also=() audio
    [ "${protocol}" != best_test_epoch ] || also=(--by_ua_and_wa)
    # shellcheck disable=SC2046
    keep_features $(systems | awk '$2 != "joint" { print $3 }' | sort -u)
    while read -r system train test; do
        use_features "${test}"
        [ "${train}" != joint ] || feats=() needs=()
        while read -r run fold _; do
            dir=${scores}/${system}/${run}
            model=${expdir}/ser_${train}_${ser_tag}/${run}
            audio=()
            [ "${train}" != joint ] || model=${joint_exp}/${run}
            # The main seed's extracted speech is what preservation compares.
            [ "${system} ${run}" != "ft fold${fold}" ] || audio=(--output_audio "${dir}/audio")
            step --redo --batch --unrecorded "--batch_size ${batch_size}" \
                --input "${model}/.done" --input "$(done_of "${test}")" "${needs[@]}" \
                --writes "hyp.tsv audio/wav.scp" "${dir}" \
                recognize --model_dir "${model}" --data_dir "${mix}" --scp "$(scp_of "${test}")" \
                "${feats[@]}" --ids "${protocol_dir}/splits/fold${fold}/test.lst" \
                --output "${dir}/hyp.tsv" "${also[@]}" "${audio[@]}"
        done < <(runs)
    done < <(systems)
    run_batch
}

stage_score() {
    local inputs=() system run tables=()
    while read -r system _; do
        tables+=("${system}/score_utt.tsv")
        while read -r run _; do
            inputs+=(--input "${scores}/${system}/${run}/.done")
        done < <(runs)
    done < <(systems)
    step --redo "${inputs[@]}" --input "${tse_scores}/.done" --writes "${tables[*]}" "${scores}" \
        score --scores_dir "${scores}" --protocol_dir "${protocol_dir}" \
        --tse_scores "${tse_scores}/score_utt.tsv" --folds "${folds}" \
        --seed "${seed}" --seeds "${more_seeds}" --protocol "${protocol}" \
        --systems "$(systems | cut -d' ' -f1 | paste -s -d ' ')"
    preservation
}

# How dev was made, in words for the tables.
dev_set() {
    [ "${protocol}" != loso ] || echo "${dev_split} ${dev_share}"
}

# What mixtures and extracted speech keep of the target's voice and emotion; the main seed only.
preservation() {
    local fold dir model system inputs=() also=()
    [ "${protocol}" != best_test_epoch ] || also=(--by_ua_and_wa) # the epoch of the clean systems
    if [[ " ${conditions} " != *" clean "* ]] || [[ " ${conditions} " != *" denoised "* ]] ||
        [ "${train_joint}" = false ]; then
        log "  without ${preserved}, which needs clean, denoised and joint models"
        return 0
    fi
    for fold in ${folds}; do
        dir=${preserved}/clean_ft/fold${fold}
        model=${expdir}/ser_clean_${ser_tag}/fold${fold}
        step --redo --batch --unrecorded "--batch_size ${batch_size}" \
            --input "${model}/.done" --input "${scores}/ft/fold${fold}/.done" --writes hyp.tsv "${dir}" \
            recognize --model_dir "${model}" --data_dir "${mix}" \
            --scp "${scores}/ft/fold${fold}/audio/wav.scp" \
            --ids "${protocol_dir}/splits/fold${fold}/test.lst" --output "${dir}/hyp.tsv" "${also[@]}"
        inputs+=(--input "${dir}/.done")
        for system in clean_clean clean_noisy clean_denoised; do
            inputs+=(--input "${scores}/${system}/fold${fold}/.done")
        done
    done
    run_batch
    step --redo --unrecorded "--nj ${nj}" --input "${mix}/.done" --input "${denoised}/.done" \
        "${inputs[@]}" --writes "preservation_utt.tsv preservation.json PRESERVATION.md" "${preserved}" \
        preservation --data_dir "${mix}" --folds "${folds}" --output_dir "${preserved}" \
        --protocol "${protocol}" --dev "$(dev_set)" \
        --clean_hyp "${scores}/clean_clean/fold{fold}/hyp.tsv" \
        --condition noisy "${mix}/wav.scp" "${scores}/clean_noisy/fold{fold}/hyp.tsv" \
        --condition denoised "${denoised}/wav.scp" "${scores}/clean_denoised/fold{fold}/hyp.tsv" \
        --condition ft "${scores}/ft/fold{fold}/audio/wav.scp" "${preserved}/clean_ft/fold{fold}/hyp.tsv"
}

stage_results() {
    local plots="plots/ladder_*.png plots/confusion_*.png plots/training_*.png"
    step --redo --name results --input "${scores}/.done" \
        --writes "RESULTS.md results.json ${plots}" "${results}" \
        results --scores_dir "${scores}" --exp_dir "${expdir}" --output_dir "${results}" \
        --protocol "${protocol}" --dev "$(dev_set)"
    cat "${results}/RESULTS.md"
}

# The tests that are asked for: names of files in conf/tests.
test_names() {
    local path
    if [ -n "${tests}" ]; then
        [ "${tests}" = none ] || tr ' ' '\n' <<<"${tests}"
        return
    fi
    for path in conf/tests/*.yaml; do
        [ ! -f "${path}" ] || basename "${path}" .yaml
    done
}

# One job a variation, for all systems that are trained and all folds and seeds.
stage_tests() {
    local condition name run dir set others trained=${conditions} models=() needs=() inputs=()
    [ "${train_joint}" = false ] || trained+=" joint"
    for condition in ${trained}; do
        dir=${expdir}/ser_${condition}_${ser_tag}
        [ "${condition}" != joint ] || dir=${joint_exp}
        models+=("${condition}=${dir}")
        while read -r run _; do
            needs+=(--input "${dir}/${run}/.done")
        done < <(runs)
    done
    while read -r name; do
        set=$(sed -nE 's/^interferers: *["'\'']?([A-Za-z0-9_.-]+).*/\1/p' "conf/tests/${name}.yaml")
        others=(${set:+--input "${clean}/${set}/.done"})
        step --redo --batch --unrecorded "--batch_size ${batch_size}" "${others[@]}" \
            --input "conf/tests/${name}.yaml" --input "${protocol_dir}/.done" \
            --input "${tse_exp}/.done" "${needs[@]}" \
            --writes "protocol.tsv */score_utt.tsv" "${tests_dir}/${name}" \
            evaluate --config "conf/tests/${name}.yaml" --targets "${clean}/emo" \
            --interferers "${clean}/${interferer_set}" --protocol_dir "${protocol_dir}" \
            --protocol "${protocol}" --gender_state "${gender_state}" --levels "${levels}" \
            --folds "${folds}" --models "${models[*]}" --tse_dir "${tse_exp}" \
            --seed "${seed}" --seeds "${more_seeds}" --output_dir "${tests_dir}/${name}"
        inputs+=(--input "${tests_dir}/${name}/.done")
    done < <(test_names)
    run_batch
    [ ${#inputs[@]} -gt 0 ] || return 0
    step --redo --name tests_report "${inputs[@]}" --input "${scores}/.done" \
        --writes "RESULTS_TESTS.md tests.json plots/sweep_*.png" "${results}" \
        tests_report --tests_dir "${tests_dir}" --conf_dir conf/tests --scores_dir "${scores}" \
        --output_dir "${results}" --protocol "${protocol}" --dev "$(dev_set)" \
        --tests "$(test_names | paste -s -d ' ')"
    log "  see ${results}/RESULTS_TESTS.md"
}

stage_pack() {
    local fold
    [ "${train_joint}" = true ] || return 0
    for fold in ${folds}; do
        step --redo --name "pack${fold}" --input "${joint_exp}/fold${fold}/.done" \
            --writes "fold${fold}.zip" "${joint_exp}" \
            pack --model_dir "${joint_exp}/fold${fold}" --output "${joint_exp}/fold${fold}.zip"
    done
}

stage_upload() {
    local fold
    if [ -z "${hf_repo}" ] || [ "${train_joint}" = false ]; then
        log "  not asked for: give --hf_repo user/name to upload ${joint_exp}/fold*.zip"
        return 0
    fi
    for fold in ${folds}; do
        step --redo --name "upload${fold}" --input "${joint_exp}/.done.pack${fold}" "${joint_exp}" \
            upload --hf_repo "${hf_repo}" --archive "${joint_exp}/fold${fold}.zip"
    done
}

# --- run them -------------------------------------------------------------------------------

[ $# -eq 0 ] || usage_error "no argument is expected, but '$1' is given"
name_directories
first=$(stage_number "${stage}")
last=$(stage_number "${stop_stage}")
[ "${first}" != none ] || usage_error "--stage ${stage} is no number or name of a stage"
[ "${last}" != none ] || usage_error "--stop_stage ${stop_stage} is no number or name of a stage"
[ "${first}" -le "${last}" ] || usage_error "--stage ${stage} comes after --stop_stage ${stop_stage}"
for option in python dumpdir expdir folds labels conditions tse_config ser_config joint_config; do
    [ -n "${!option// /}" ] || usage_error "--${option} is empty"
done
while read -r option; do
    [[ ${!option} != *[[:cntrl:]]* ]] ||
        usage_error "--${option} $(printf %q "${!option}"): a line break or another control character is in it"
done < <(sed -n '/^# End of options/q; s/^\([a-z_]*\)=.*/\1/p' "${BASH_SOURCE[0]}")
for option in tse_config ser_config joint_config; do
    [ -f "${!option}" ] || usage_error "--${option} ${!option}: no such file"
    [[ ${!option} != -* && ${!option} != *"|"* ]] ||
        usage_error "--${option} ${!option}: it must not begin with a dash or have a | in it; rename the file"
done
for option in nj max_jobs num_threads num_nodes batch_size num_interferers; do
    [[ ${!option:-1} =~ ^[1-9][0-9]*$ ]] || usage_error "--${option} ${!option}: expected a number above 0"
done
[[ ${ngpu} =~ ^[0-9]+$ ]] || usage_error "--ngpu ${ngpu}: expected a number"
number='(0|[1-9][0-9]*)' # 01 would be another name for 1
[[ ${folds} =~ ^${number}(\ ${number})*$ ]] || usage_error "--folds '${folds}': expected numbers with a space between"
[[ ${seed} =~ ^${number}$ ]] || usage_error "--seed ${seed}: expected a number"
[[ ${more_seeds} =~ ^(${number}(\ ${number})*)?$ ]] || usage_error "--more_seeds '${more_seeds}': expected numbers with a space between"
[[ ${protocol} =~ ^(loso|loso_speaker|best_test_epoch)$ ]] || usage_error "--protocol ${protocol}: it is loso, loso_speaker or best_test_epoch"
[[ ${labels} =~ ^[A-Za-z0-9_+=:@.\ -]+$ && " ${labels}" != *" "[.-]* ]] ||
    usage_error "--labels '${labels}': expected names with a space between; only letters, digits and -_.+=:@ can be in one"
for list in "folds:${folds}" "more_seeds:${seed} ${more_seeds}" "conditions:${conditions}" "labels:${labels}"; do
    twice=$(tr ' ' '\n' <<<"${list#*:}" | sort | uniq -d | head -n 1)
    [ -z "${twice}" ] || usage_error "--${list%%:*} '${list#*:}': ${twice} is there twice"
done
for condition in ${conditions//[*?[]/x}; do # no wildcards
    [[ ${condition} =~ ^(clean|noisy|denoised)$ ]] || usage_error "--conditions: '${condition}' is not clean, noisy or denoised"
done
[[ ${feats_dtype} =~ ^(float32|float16|none)$ ]] || usage_error "--feats_dtype '${feats_dtype}' is not float32, float16 or none"
[[ ${joint_init} =~ ^(clean|noisy|denoised|none)$ ]] || usage_error "--joint_init: '${joint_init}' is not clean, noisy, denoised or none"

[[ ${mix_tag} =~ ^[A-Za-z0-9_.-]*$ && ${mix_tag} != *JOB* ]] || usage_error "--mix_tag '${mix_tag}': only letters, digits and _.- can be in it"
is_name "${interferer_set}" || usage_error "--interferer_set '${interferer_set}': give the name of a directory in data/; ${name_rule}"
while read -r name; do
    is_name "${name}" || usage_error "--tests: '${name}' of conf/tests: ${name_rule}"
    [ -f "conf/tests/${name}.yaml" ] || usage_error "--tests: there is no conf/tests/${name}.yaml"
done < <(test_names)

for option in dumpdir expdir; do
    is_path "${!option}" || usage_error "--${option} '${!option}': ${path_rule}"
done
for option in tse_tag ser_tag joint_tag; do
    is_name "${!option}" || usage_error "--${option} '${!option}': ${name_rule}"
done
[ -z "${hf_repo}" ] || is_path "${hf_repo}" || usage_error "--hf_repo '${hf_repo}': expected user/name"

[[ ${train_joint} =~ ^(true|false)$ ]] || usage_error "--train_joint ${train_joint}: it is true or false"
joint=$(stage_number joint)
if [ "${train_joint}" = true ] && [ "${joint}" -ge "${first}" ] && [ "${joint}" -le "${last}" ] &&
    [ "${joint_init}" != none ] &&
    [[ " ${conditions} " != *" ${joint_init} "* ]]; then
    for fold in ${folds}; do
        [ -f "${expdir}/ser_${joint_init}_${ser_tag}/fold${fold}/.done" ] || usage_error "--joint_init" \
            "${joint_init} is not among --conditions ${conditions}, and fold ${fold} of it is not" \
            "trained: add it to --conditions, or start from another (--joint_init ${conditions%% *})"
    done
fi

set_jobs
${on_cluster} || [ "${num_nodes}" = 1 ] || usage_error "--num_nodes ${num_nodes} needs a cluster (cmd_backend in cmd.sh)"
if [ "${status}" = true ]; then
    print_status
    exit
fi

trap stop_steps INT TERM HUP
trap leave_steps EXIT
number=0
while IFS='|' read -r name title reads writes; do
    number=$((number + 1))
    if [ "${number}" -ge "${first}" ] && [ "${number}" -le "${last}" ]; then
        started=${SECONDS}
        log "Stage ${number} ${name}: ${title}"
        log "  reads ${reads}"
        "stage_${name}" </dev/null
        log "Stage ${number} ${name} done in $((SECONDS - started)) s: ${writes}"
    fi
done < <(stage_table)
