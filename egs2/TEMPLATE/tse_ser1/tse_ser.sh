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
nj=                       # jobs of data, simulation, extraction, features and scoring (empty: all cores; 32 on a cluster)
max_jobs=                 # trainings or inferences at a time (empty: what fits; all on a cluster)
num_threads=              # threads of a training (empty: all cores, 4 on a cluster, for TSE; 1 for a fold's)
ngpu=0                    # GPUs of a training, on each node; 0: CPU. Above 0, extraction and inference use one
num_nodes=1               # nodes of a training (above 1 only with a cluster's cmd.sh)
batch_size=16             # utterances at once in SER inference; the result does not depend on it
python=python3            # Python to use
## Data
local_data_opts=          # options for local/data.sh
dumpdir=dump              # where the audio goes
expdir=exp                # where models and results go: one directory for each set of experiments
folds="1 2 3 4 5"         # folds to train and to test on
labels="ang hap neu sad"  # emotion classes
seed=0                    # seed of the mixture table and of every training
more_seeds=               # further seeds of SER and joint trainings, pooled in the results, e.g. "1 2"
num_sources=1             # sources in a mixture beside the target
source_set=interferer     # talkers or noise that disturb: data/<name>; emo: other speakers of the corpus
pretrain_noise=           # noise, data/<name>, that disturbs in pretraining, instead of other talkers
enrollment=true           # false: mixtures without enrollments, for front-ends without one
mix_tag=                  # another set of mixtures beside the main one: its models and scores get this name
levels=loudness           # loudness: target and sources at random loudnesses; snr: a random SNR
snr_range=                # "lowest highest" SNR in dB, for levels=snr
snr_set=                  # or a few SNRs, e.g. "clean 20 10 0", one for each mixture; clean: no source
every_level=false         # true: each utterance at each of them, with the same sources
noise_split=              # none: noise in training disturbs in tests too, and every table says so (empty: groups)
loudness_range=           # "lowest highest" loudness in LUFS: the target's and, with levels=loudness, every source's (empty: -33 -25)
gender_state=random       # random, or only mixtures of the same or of different gender
scheme=loso               # loso; loso_speaker: dev is the rest of the fold; best_test_epoch: dev is test
dev_split=speaker         # dev is cut from the training side by speaker or by utterance
dev_share=0.1             # share of the training side that becomes dev; by speaker at least one of each gender
## Models
systems=                  # systems, of conf/systems: what they need is trained (empty: all that are there)
tse_config=conf/train_tse.yaml            # config of TSE pretraining, where a system names none
frontend=                 # instead of TSE pretraining: a model's directory, weights, zip or Hugging Face name, or deepfilternet3
frontend_fs=              # sampling rate of a model from elsewhere, in Hz (empty: as its configuration says)
ser_config=conf/train_ser.yaml            # config of SER training, where a system names none
joint_config=conf/train_tse_ser.yaml      # config of joint training, where a system names none
tse_tag=                  # name of the front-end (empty: the config's, without train_tse_ or train_se_, or that of --frontend)
ser_tag=                  # name of the SER models (empty: the config's, without train_ser_)
joint_tag=                # name of the joint models (empty: the config's, without train_tse_ser_)
tse_args=                 # more options for TSE training, e.g. "--batch_size 4"
ssl_args=                 # more options for the pretraining of encoders that configurations name
ser_args=                 # more options for SER training
joint_args=               # more options for joint training
pesq=false                # true: PESQ of extracted and enhanced speech too (pip install pesq, which compiles)
feats_dtype=float32       # precision of kept frozen SSL features: float32, float16, or none (keep none)
sweeps=                   # test variations, of conf/sweeps, e.g. "snr_* talkers_3" (empty: all that are there; none)
## Publishing
hf_repo=                  # Hugging Face repository, user/name (empty: no upload)
# End of options

# Number (the line's), name, what it does, what it reads, what it writes.
stage_table() {
    cat <<EOF
data|Data preparation|db.sh local/data.sh|data/{emo,${source_set},pretrain} ${clean}
mixture_table|Mixture table|${dumpdir}/clean|${table_dir}
check|Data check|${dumpdir}/clean ${table_dir}|${table_dir}/log
simulate|Simulation|${dumpdir}/clean ${table_dir}|${mix}
tse_stats|TSE statistics|${clean}/pretrain ${tse_config}|${expdir}/tse_stats_*
tse|Pretraining of front-ends and encoders|${clean}/pretrain ${tse_config}|${expdir}/tse_* ${expdir}/ssl_*
extract|Extraction: the denoised sets|${expdir}/tse_* ${mix}|${dumpdir}/denoised_*
tse_score|TSE scoring|${mix} ${dumpdir}/denoised_*|${expdir}/tse_*/scoring${suffix}
ser_stats|SER features and statistics|${mix} ${dumpdir}/denoised_* ${ser_config}|${expdir}/ser_stats_*; ${dumpdir}/feats_* of a frozen SSL front-end
ser|SER training: folds ${folds}|${mix} ${dumpdir}/denoised_* ${ser_config}|${expdir}/ser_*
joint|Joint TSE-SER training: folds ${folds}|${expdir}/tse_* ${expdir}/ser_* ${joint_config}|${expdir}/tse_ser_*
infer|SER inference|${expdir}/ser_* ${expdir}/tse_ser_* ${dumpdir}|${scores}/*/*/fold*
score|SER scoring|${scores}/*/*/fold* ${expdir}/tse_*/scoring${suffix}|${scores}/*/*/score_utt.tsv ${scores}/*/*/signals ${preserved}
results|Results|${scores}|${results}/RESULTS.md ${results}/results.json ${results}/plots
sweeps|Sweeps: variations of the test mixtures|conf/sweeps ${expdir}/ser_* ${expdir}/tse_ser_*|${results}/RESULTS_SWEEPS.md ${sweeps_dir}
pack|Packing|${expdir}/tse_ser_*|${expdir}/tse_ser_*/fold*.zip
upload|Upload|${expdir}/tse_ser_*/fold*.zip|${hf_repo:-nothing: --hf_repo is not given}
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
    stage_table | awk -F'|' '{ printf "  %2d %-13s %s\n", NR, $1, $2 }'
}

# The directories of a set of mixtures.
name_directories() {
    suffix=${mix_tag:+_${mix_tag}}
    clean=${dumpdir}/clean
    table_dir=data/mix${suffix}
    mix=${dumpdir}/mix${suffix}
    scores=${expdir}/scores${suffix}
    preserved=${expdir}/preservation${suffix}
    sweeps_dir=${expdir}/sweeps${suffix}
    results=${expdir}${mix_tag:+/results_${mix_tag}}
}

# read_plan: what the systems need (see bin/systems.py), for `planned`.
read_plan() {
    plan=$(${python} -m espnet_tse_ser.bin.systems --systems "${systems}" --mix_tag "${mix_tag}" \
        --tse_config "${frontend:-${tse_config}}" --tse_tag "${tse_tag}" \
        --ser_config "${ser_config}" --ser_tag "${ser_tag}" \
        --joint_config "${joint_config}" --joint_tag "${joint_tag}" --sweeps "$(sweep_names | paste -s -d ' ')") || exit
}

# planned KIND: the lines of a kind, without it.
planned() { sed -n "s/^$1|//p" <<<"${plan}"; }

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
    local dir system tag command
    {
        while IFS='|' read -r tag _; do
            printf 'ssl_%s\tall\t%s\t\tssl_train\n' "${tag}" "${expdir}/ssl_${tag}"
        done < <(planned encoder)
        while IFS='|' read -r tag _ command; do
            printf 'tse_%s\tall\t%s\t\t%s\n' "${tag}" "${expdir}/tse_${tag}" "${command}"
        done < <(planned front_end)
        while IFS='|' read -r dir _; do
            print_runs "${dir}" "${expdir}/${dir}" ser_train
        done < <(planned recogniser)
        while IFS='|' read -r dir _; do
            print_runs "${dir}" "${expdir}/${dir}" tse_ser_train
        done < <(planned joint)
        while IFS='|' read -r system tag _; do
            print_runs "scores of ${system} ${tag}${suffix}" "${scores}/${system}/${tag}" recognize
        done < <(planned row)
    } | ${python} -m espnet_tse_ser.bin.status
}

print_runs() {
    local run
    while read -r run _; do
        printf '%s\t%s\t%s\t\t%s\n' "$1" "${run}" "$2/${run}" "$3"
    done < <(runs)
}

# stage_number NAME_OR_NUMBER
stage_number() {
    local number
    number=$(stage_table | awk -F'|' -v asked="$1" '$1 == asked || NR == asked { print NR }')
    echo "${number:-none}"
}

# --- the stages -----------------------------------------------------------------------------

stage_data() {
    local set name path files settings=() expected="pretrain/wav.scp"
    expected+=" emo/wav.scp emo/utt2emo emo/utt2fold"
    for set in "${source_set}" ${pretrain_noise}; do
        [ "${set}" = emo ] || expected+=" ${set}/wav.scp"
    done
    # Where the corpora are belongs to the settings.
    . ./db.sh
    while IFS='=' read -r name _; do
        [ -z "${!name}" ] || settings+=(--setting "${name}=${!name}")
    done < <(grep '^[A-Z0-9_]*=' db.sh)
    step --program --redo --name local --input local/data.sh "${settings[@]}" \
        --writes "*/wav.scp */segments */utt2spk */utt2group */spk2gender */utt2emo */utt2fold" \
        --expects "${expected}" \
        data "local/data.sh ${local_data_opts}"
    run_steps
    for path in data/*/wav.scp; do
        set=${path%/wav.scp}
        set=${set#data/}
        is_name "${set}" || fail "data/$(printf %q "${set}"): ${name_rule}; rename the directory"
        files=()
        for name in wav.scp segments utt2spk utt2group spk2gender utt2emo utt2fold; do
            [ ! -f "data/${set}/${name}" ] || files+=(--input "data/${set}/${name}")
        done
        step --nj "${nj}" "${files[@]}" --writes "wav.scp utt2* spk2*" "${clean}/${set}" \
            format_audio --data_dir "data/${set}" --output_dir "${clean}/${set}"
    done
}

# Set how_loud to the options of a command that draws sources: at which levels, for which folds.
set_levels() {
    how_loud=(--levels "${levels}")
    [ -z "${snr_range}" ] || how_loud+=(--snr_range "${snr_range}")
    [ -z "${snr_set}" ] || how_loud+=(--snr_set "${snr_set}")
    [ -z "${loudness_range}" ] || how_loud+=(--loudness_range "${loudness_range}")
    [ -z "${noise_split}" ] || how_loud+=(--noise_split "${noise_split}")
}

stage_mixture_table() {
    local how_loud further=()
    set_levels
    [ "${enrollment}" = true ] || further+=(--without_enrollment)
    [ "${every_level}" = false ] || further+=(--every_level)
    [ -d "${clean}/${source_set}" ] || fail "--source_set ${source_set}: there is no" \
        "${clean}/${source_set}: local/data.sh has to make data/${source_set} (stage 1); its --help lists" \
        "what it can make, for --local_data_opts"
    step --input "${clean}/emo/.done" --input "${clean}/${source_set}/.done" \
        --writes "mixtures.tsv splits/*/*.lst" "${table_dir}" \
        mixture_table --scheme "${scheme}" --targets "${clean}/emo" \
        --sources "${clean}/${source_set}" \
        --output_dir "${table_dir}" --num_sources "${num_sources}" \
        "${how_loud[@]}" --gender_state "${gender_state}" --dev_split "${dev_split}" \
        --dev_share "${dev_share}" --seed "${seed}" "${further[@]}"
}

stage_check() {
    local noise needs set others=()
    use_noise --pretrain_noise
    # Sources that sweeps alone have are nobody else's.
    for set in $(planned sweep | cut -d '|' -f 2 | sort -u); do
        [ "${set}" != emo ] && [ "${set}" != "${source_set}" ] || continue
        others+=("${clean}/${set}")
        needs+=(--input "${clean}/${set}/.done")
    done
    [ ${#others[@]} -eq 0 ] || others=(--sweep_sources "${others[@]}")
    # It tells the share of dev in each fold, and what is never tested.
    step --redo --name check --tell "fold .*|noise is shared .*|.* never tested.*|.* no violation" \
        --input "${table_dir}/.done" --input "${clean}/pretrain/.done" "${needs[@]}" \
        "${table_dir}" check_data --scheme "${scheme}" --targets "${clean}/emo" \
        --sources "${clean}/${source_set}" \
        --pretrain "${clean}/pretrain" --table_dir "${table_dir}" --labels "${labels}" \
        --folds "${folds}" "${noise[@]}" "${others[@]}" ${noise_split:+--noise_split "${noise_split}"}
}

# use_noise OPTION: with noise in pretraining set noise to this option of a command, needs to its input.
use_noise() {
    noise=() needs=()
    [ -n "${pretrain_noise}" ] || return 0
    noise=("$1" "${clean}/${pretrain_noise}")
    needs=(--input "${clean}/${pretrain_noise}/.done")
}

stage_simulate() {
    local main=${dumpdir}/mix also=
    # What another set has in common with the main one is copied, the same bytes.
    [ -z "${suffix}" ] || [ ! -e "${main}/.done" ] || also="--reuse ${main}"
    step --nj "${nj}" --unrecorded "${also}" --input "${table_dir}/.done" --input "${table_dir}/mixtures.tsv" \
        --writes "*.scp utt2* spk2* mixtures.tsv" "${mix}" \
        simulate --table_dir "${table_dir}" --targets "${clean}/emo" \
        --sources "${clean}/${source_set}" --output_dir "${mix}"
}

stage_tse_stats() {
    local tag config command noise needs
    use_noise --noise
    while IFS='|' read -r tag config command; do
        [ "${command}" = tse_train ] || continue
        step --config "${config}" --input "${clean}/pretrain/.done" "${needs[@]}" \
            --writes stats.json "${expdir}/tse_stats_${tag}" \
            tse_stats --config "${config}" --pool "${clean}/pretrain" "${noise[@]}" \
            --output_dir "${expdir}/tse_stats_${tag}" --seed "${seed}"
    done < <(planned front_end)
}

# shellcheck disable=SC2086
stage_tse() {
    local tag config command of file inputs dir noise needs encoder
    use_noise --noise
    while IFS='|' read -r tag config; do
        step --train "${tse_threads}" --config "${config}" \
            --input "${clean}/pretrain/.done" "${needs[@]}" \
            --writes "config.yaml *.best.pth" "${expdir}/ssl_${tag}" \
            ssl_train --config "${config}" --pool "${clean}/pretrain" "${noise[@]}" \
            --output_dir "${expdir}/ssl_${tag}" --seed "${seed}" ${ssl_args}
    done < <(planned encoder)
    while IFS='|' read -r tag config command; do
        if [ "${command}" = tse_train ]; then
            use_noise --noise
            use_encoder "${config}"
            step --train "${tse_threads}" --config "${config}" \
                --input "${clean}/pretrain/.done" "${needs[@]}" \
                --writes "config.yaml *.best.pth" "${expdir}/tse_${tag}" \
                tse_train --config "${config}" --pool "${clean}/pretrain" "${noise[@]}" "${encoder[@]}" \
                --output_dir "${expdir}/tse_${tag}" --seed "${seed}" ${tse_args}
            continue
        fi
        inputs=()
        while IFS='|' read -r of file; do
            [ "${of}" != "${tag}" ] || inputs+=(--input "${file}")
        done < <(planned file)
        # One that was refused is asked for again with what was said to help.
        dir=${expdir}/tse_${tag}
        [ -f "${dir}/front_end.json" ] || [ -f "${dir}/config.yaml" ] || inputs+=(--redo)
        step "${inputs[@]}" --writes front_end.json "${dir}" \
            front_end --source "${config}" --output_dir "${dir}" \
            ${frontend_fs:+--frontend_fs "${frontend_fs}"}
    done < <(planned front_end)
}

# made_of FRONT_END: the file that changes with it, for --input. Of a model from elsewhere that is its
# record: the mark of its step has no checksum of what the Hugging Face hub gave.
made_of() {
    local record=${expdir}/tse_$1/front_end.json
    [ -f "${record}" ] && echo "${record}" || echo "${expdir}/tse_$1/.done"
}

stage_extract() {
    local tag denoised
    while IFS='|' read -r tag _; do
        denoised=${dumpdir}/denoised_${tag}${suffix}
        step --network --nj "${nj}" --input "$(made_of "${tag}")" --input "${mix}/.done" \
            --writes "*.scp utt2* spk2* mixtures.tsv" "${denoised}" \
            extract --model_dir "${expdir}/tse_${tag}" --data_dir "${mix}" --output_dir "${denoised}"
    done < <(planned front_end)
}

stage_tse_score() {
    local tag denoised dir also=()
    [ "${pesq}" = false ] || also=(--pesq)
    while IFS='|' read -r tag _; do
        denoised=${dumpdir}/denoised_${tag}${suffix}
        dir=${expdir}/tse_${tag}/scoring${suffix}
        step --redo --unrecorded "--nj ${nj}" --input "${denoised}/.done" --input "${mix}/.done" \
            --writes "score_utt.tsv SIGNALS.md" "${dir}" \
            tse_score --data_dir "${mix}" --denoised_dir "${denoised}" --output "${dir}/score_utt.tsv" \
            "${also[@]}"
    done < <(planned front_end)
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

# scp_of CONDITION FRONT_END: its audio. done_of: the mark of the step that wrote it. A joint model
# gets the mixture.
scp_of() {
    case $1 in
        clean) echo "${mix}/spk1.scp" ;;
        noisy | joint) echo "${mix}/wav.scp" ;;
        denoised) echo "${dumpdir}/denoised_$2${suffix}/wav.scp" ;;
    esac
}

done_of() {
    case $1 in
        denoised) echo "${dumpdir}/denoised_$2${suffix}/.done" ;;
        *) echo "${mix}/.done" ;;
    esac
}

# use_features FROZEN CONDITION FRONT_END RECOGNISER: of a frozen SSL front-end set feats to the
# arguments of a command that reads its features, needs to its input; of others to nothing.
use_features() {
    local dir=${dumpdir}/feats_$4${suffix}/$2${3:+_$3}
    feats=() needs=()
    [ "$1" = frozen ] && [ "${feats_dtype}" != none ] || return 0
    feats=(--feats "${dir}")
    needs=(--input "${dir}/.done")
}

# use_encoder CONFIG: where the encoder of a recogniser's or front-end's configuration is pretrained here, set
# encoder to the arguments of a command that takes it, and add its mark to needs.
use_encoder() {
    local config tag
    encoder=()
    while IFS='|' read -r config tag; do
        [ "${config}" = "$1" ] || continue
        encoder=(--encoder "${expdir}/ssl_${tag}")
        needs+=(--input "${expdir}/ssl_${tag}/.done")
    done < <(planned encoded)
}

# keep_features: compute those features, for lines "FROZEN|CONDITION|FRONT_END|RECOGNISER|CONFIG".
keep_features() {
    local frozen condition tag ser_tag config dir feats needs encoder
    while IFS='|' read -r frozen condition tag ser_tag config; do
        use_features "${frozen}" "${condition}" "${tag}" "${ser_tag}"
        [ ${#feats[@]} -gt 0 ] || continue
        dir=${feats[1]}
        needs=()
        use_encoder "${config}"
        # It tells how many they are, their size, and the time they took.
        step --redo --network --nj "${nj}" --tell ".* utterances, .*" --config "${config}" \
            --input "$(done_of "${condition}" "${tag}")" "${needs[@]}" \
            --writes "frontend.json index.tsv feats.scp" "${dir}" \
            ser_features --config "${config}" --scp "$(scp_of "${condition}" "${tag}")" "${encoder[@]}" \
            --output_dir "${dir}" --dtype "${feats_dtype}"
    done
}

stage_ser_stats() {
    local dir condition tag ser_tag config frozen modules module feats needs encoder
    keep_features < <(planned statistics | awk -F'|' -v OFS='|' '{ print $6, $2, $3, $4, $5 }')
    while IFS='|' read -r dir condition tag ser_tag config frozen modules; do
        use_features "${frozen}" "${condition}" "${tag}" "${ser_tag}"
        use_encoder "${config}"
        for module in ${modules//,/ }; do
            needs+=(--input "${module}")
        done
        step --batch --config "${config}" --input "$(done_of "${condition}" "${tag}")" "${needs[@]}" \
            --writes "fold*/feats_stats.npz" "${expdir}/${dir}" \
            ser_stats --config "${config}" --scp "$(scp_of "${condition}" "${tag}")" "${feats[@]}" "${encoder[@]}" \
            --splits "${table_dir}/splits" --output_dir "${expdir}/${dir}"
    done < <(planned statistics)
}

# embed_by TEACHER: what each of its trainings has of clean speech, for others that learn from it.
embed_by() {
    local run fold
    while read -r run fold _; do
        step --network --batch --unrecorded "--batch_size ${batch_size}" \
            --input "${expdir}/$1/${run}/.done" --input "${mix}/.done" \
            --writes "embeddings.scp teacher_*.lst" "${expdir}/$1/${run}/embeddings" \
            ser_embed --model_dir "${expdir}/$1/${run}" --data_dir "${mix}" \
            --scp "${mix}/spk1.scp" --split "${table_dir}/splits/fold${fold}" \
            --output_dir "${expdir}/$1/${run}/embeddings"
    done < <(runs)
}

# shellcheck disable=SC2086
stage_ser() {
    local dir stats condition tag ser_tag config frozen teacher run fold run_seed feats needs taught learns_from encoder embedded=
    while IFS='|' read -r dir stats condition tag ser_tag config frozen teacher _; do
        use_features "${frozen}" "${condition}" "${tag}" "${ser_tag}"
        use_encoder "${config}"
        if [ -n "${teacher}" ] && [[ " ${embedded} " != *" ${teacher} "* ]]; then
            embed_by "${teacher}"
            embedded+=" ${teacher}"
        fi
        while read -r run fold run_seed; do
            taught=() learns_from=()
            if [ -n "${teacher}" ]; then
                taught=(--embeddings "${expdir}/${teacher}/${run}/embeddings/embeddings.scp")
                learns_from=(--input "${expdir}/${teacher}/${run}/embeddings/.done")
            fi
            step --train "${num_threads:-1}" --batch --config "${config}" \
                --unrecorded "--condition ${condition}" \
                --input "${expdir}/${stats}/.done" "${needs[@]}" "${learns_from[@]}" \
                --writes "config.yaml *.best.pth" "${expdir}/${dir}/${run}" \
                ser_train --config "${config}" --scp "$(scp_of "${condition}" "${tag}")" "${feats[@]}" "${encoder[@]}" \
                --data_dir "${mix}" --split "${table_dir}/splits/fold${fold}" \
                --stats "${expdir}/${stats}/fold${fold}/feats_stats.npz" \
                "${taught[@]}" --output_dir "${expdir}/${dir}/${run}" --seed "${run_seed}" \
                --labels ${labels} ${ser_args}
        done < <(runs)
    done < <(planned recogniser)
}

# shellcheck disable=SC2086,SC2206
stage_joint() {
    local dir stats tag ser_config config start run fold run_seed from needs low high mixing=()
    if [ "${levels}" = snr ]; then # fresh mixtures are like those of the mixture table
        read -r low high <<<"${snr_range:--5 5}"
        mixing=(--mixing_conf levels=snr --mixing_conf "snr=[${low},${high}]")
        [ -z "${snr_set}" ] || mixing+=(--mixing_conf "snr_set=[${snr_set// /,}]")
    fi
    [ -z "${loudness_range}" ] || mixing+=(--mixing_conf "loudness=[${loudness_range// /,}]")
    while IFS='|' read -r dir stats tag ser_config config start; do
        while read -r run fold run_seed; do
            if [ -z "${start}" ]; then
                from=(--ser_config "${ser_config}" --labels ${labels}
                    --stats "${expdir}/${stats}/fold${fold}/feats_stats.npz")
                needs=(--config "${ser_config}" --input "${expdir}/${stats}/.done")
            else
                from=(--ser_dir "${expdir}/${start}/${run}")
                needs=(--input "${expdir}/${start}/${run}/.done")
            fi
            step --train "${num_threads:-1}" --batch --config "${config}" \
                --input "${mix}/.done" --input "$(made_of "${tag}")" "${needs[@]}" \
                --writes "config.yaml *.best.pth" "${expdir}/${dir}/${run}" \
                tse_ser_train --config "${config}" --data_dir "${mix}" \
                --targets "${clean}/emo" --sources "${clean}/${source_set}" \
                --split "${table_dir}/splits/fold${fold}" --tse_dir "${expdir}/tse_${tag}" \
                "${from[@]}" --output_dir "${expdir}/${dir}/${run}" --seed "${run_seed}" \
                "${mixing[@]}" ${joint_args}
        done < <(runs)
    done < <(planned joint)
}

stage_infer() {
    local system tag test front_end ser_tag kind model frozen run fold dir feats needs audio also=()
    [ "${scheme}" != best_test_epoch ] || also=(--by_ua_and_wa)
    keep_features < <(planned row | awk -F'|' -v OFS='|' '{ print $8, $3, $4, $5, $9 }' | sort -u)
    while IFS='|' read -r system tag test front_end ser_tag kind model frozen _; do
        use_features "${frozen}" "${test}" "${front_end}" "${ser_tag}"
        while read -r run fold _; do
            dir=${scores}/${system}/${tag}/${run}
            if [ "${kind}" = table ]; then
                step --redo --batch --input "${model}" --input "${mix}/.done" --writes hyp.tsv "${dir}" \
                    import_hypotheses --table "${model}" --data_dir "${mix}" --labels "${labels}" \
                    --ids "${table_dir}/splits/fold${fold}/test.lst" --output "${dir}/hyp.tsv" "${also[@]}"
                continue
            fi
            audio=()
            # The main seed's extracted speech is what preservation compares.
            [[ "${kind} ${run}" != @(joint|enhancer)" fold${fold}" ]] || audio=(--output_audio "${dir}/audio")
            step --redo --network --batch --unrecorded "--batch_size ${batch_size}" \
                --input "${expdir}/${model}/${run}/.done" --input "$(done_of "${test}" "${front_end}")" \
                "${needs[@]}" --writes "hyp.tsv audio/wav.scp" "${dir}" \
                recognize --model_dir "${expdir}/${model}/${run}" --data_dir "${mix}" \
                --scp "$(scp_of "${test}" "${front_end}")" "${feats[@]}" \
                --ids "${table_dir}/splits/fold${fold}/test.lst" --output "${dir}/hyp.tsv" \
                "${also[@]}" "${audio[@]}"
        done < <(runs)
    done < <(planned row)
}

stage_score() {
    local inputs=() run tables=() rows=() tse_scores=() tag
    while IFS='|' read -r system tag _ _ _ _ _ _ _ configs; do
        tables+=("${system}/${tag}/score_utt.tsv")
        rows+=(--row "${system}/${tag}" "${configs}")
        while read -r run _; do
            inputs+=(--input "${scores}/${system}/${tag}/${run}/.done")
        done < <(runs)
    done < <(planned row)
    while IFS='|' read -r tag _; do
        tse_scores+=("${tag}=${expdir}/tse_${tag}/scoring${suffix}/score_utt.tsv")
        inputs+=(--input "${expdir}/tse_${tag}/scoring${suffix}/.done")
    done < <(planned front_end)
    step --redo "${inputs[@]}" --writes "${tables[*]}" "${scores}" \
        score --scores_dir "${scores}" --table_dir "${table_dir}" \
        --tse_scores "${tse_scores[*]}" --folds "${folds}" \
        --seed "${seed}" --seeds "${more_seeds}" --scheme "${scheme}" "${rows[@]}"
    score_signals
    preservation
}

# The speech that joint models and enhancers put out, as stage 8 scores a front-end's; the main seed only.
score_signals() {
    local system tag kind fold dir audio inputs also=()
    [ "${pesq}" = false ] || also=(--pesq)
    while IFS='|' read -r system tag _ _ _ kind _; do
        [[ ${kind} = @(joint|enhancer) ]] || continue
        dir=${scores}/${system}/${tag}
        audio=() inputs=()
        for fold in ${folds}; do
            audio+=("${dir}/fold${fold}/audio")
            inputs+=(--input "${dir}/fold${fold}/.done")
        done
        step --redo --unrecorded "--nj ${nj}" --input "${mix}/.done" "${inputs[@]}" \
            --writes "score_utt.tsv SIGNALS.md" "${dir}/signals" \
            tse_score --data_dir "${mix}" --denoised_dir "${audio[@]}" --folds "${folds}" \
            --output "${dir}/signals/score_utt.tsv" "${also[@]}"
    done < <(planned row)
}

# What mixtures and extracted speech keep of the target's voice and emotion; the main seed only.
preservation() {
    local fold dir name model joint clean_row noisy denoised tag hyp row inputs also=()
    [ "${scheme}" != best_test_epoch ] || also=(--by_ua_and_wa) # the epoch of the clean systems
    while IFS='|' read -r name model joint clean_row noisy denoised tag; do
        inputs=()
        for fold in ${folds}; do
            dir=${preserved}/${name}/${joint%%/*}/fold${fold}
            step --redo --network --batch --unrecorded "--batch_size ${batch_size}" \
                --input "${expdir}/${model}/fold${fold}/.done" \
                --input "${scores}/${joint}/fold${fold}/.done" --writes hyp.tsv "${dir}" \
                recognize --model_dir "${expdir}/${model}/fold${fold}" --data_dir "${mix}" \
                --scp "${scores}/${joint}/fold${fold}/audio/wav.scp" \
                --ids "${table_dir}/splits/fold${fold}/test.lst" --output "${dir}/hyp.tsv" "${also[@]}"
            inputs+=(--input "${dir}/.done")
            for row in "${clean_row}" "${noisy}" "${denoised}"; do
                inputs+=(--input "${scores}/${row}/fold${fold}/.done")
            done
        done
        hyp="fold{fold}/hyp.tsv"
        step --redo --network --unrecorded "--nj ${nj}" --input "${mix}/.done" \
            --input "$(done_of denoised "${tag}")" "${inputs[@]}" \
            --writes "preservation_utt.tsv preservation.json PRESERVATION.md" "${preserved}/${name}" \
            preservation --data_dir "${mix}" --folds "${folds}" --output_dir "${preserved}/${name}" \
            --scheme "${scheme}" --table_dir "${table_dir}" --clean_hyp "${scores}/${clean_row}/${hyp}" \
            --clean_model "${expdir}/${model}/fold{fold}" \
            --condition noisy "${mix}/wav.scp" "${scores}/${noisy}/${hyp}" \
            --condition denoised "$(scp_of denoised "${tag}")" "${scores}/${denoised}/${hyp}" \
            --condition "${joint%%/*}" "${scores}/${joint}/fold{fold}/audio/wav.scp" \
            "${preserved}/${name}/${joint%%/*}/${hyp}"
    done < <(planned preserved)
}

stage_results() {
    local plots="plots/ladder_*.png plots/levels_*.png plots/confusion_*.png plots/training_*.png"
    step --redo --name results --input "${scores}/.done" \
        --writes "RESULTS.md results.json ${plots}" "${results}" \
        results --scores_dir "${scores}" --exp_dir "${expdir}" --output_dir "${results}" \
        --rows "$(row_names)"
    refinement
    run_steps
    cat "${results}/RESULTS.md"
}

# What the refinement of each TRNet does; the main seed only.
refinement() {
    local dir condition tag network fold inputs
    while IFS='|' read -r dir _ condition tag _ _ _ _ network; do
        [ "${network}" = trnet ] || continue
        inputs=()
        for fold in ${folds}; do
            inputs+=(--input "${expdir}/${dir}/fold${fold}/.done")
        done
        step --redo --network --batch --unrecorded "--batch_size ${batch_size}" \
            "${inputs[@]}" --input "$(done_of "${condition}" "${tag}")" \
            --writes "REFINEMENT.md refinement.tsv *.png" "${results}/refinement/${dir}" \
            refinement --model_dir "${expdir}/${dir}" --data_dir "${mix}" \
            --scp "$(scp_of "${condition}" "${tag}")" --table_dir "${table_dir}" --folds "${folds}" \
            --scheme "${scheme}" --output_dir "${results}/refinement/${dir}"
    done < <(planned recogniser)
}

# The rows of tables that are asked for, as SYSTEM/TAG.
row_names() { planned row | cut -d '|' -f 1,2 | tr '|\n' '/ '; }

# The variations that are asked for: names of files in conf/sweeps.
sweep_names() {
    local patterns pattern
    [ "${sweeps}" != none ] || return 0
    read -r -a patterns <<<"${sweeps:-*}"
    for pattern in "${patterns[@]}"; do
        compgen -G "conf/sweeps/${pattern}.yaml" || [ -z "${sweeps}" ] || echo "${pattern}"
    done | sed 's|^conf/sweeps/\(.*\)\.yaml$|\1|' | sort -u
}

# One job a variation, for all systems that are trained and all folds and seeds.
stage_sweeps() {
    local system tag kind model configs name run set others rows=() front_ends=() needs=() inputs=()
    local how_loud
    set_levels
    while IFS='|' read -r system tag _ _ _ kind model _ _ configs; do
        [ "${kind}" != table ] || continue
        rows+=(--row "${system}/${tag}" "${expdir}/${model}" "${configs}")
        while read -r run _; do
            needs+=(--input "${expdir}/${model}/${run}/.done")
        done < <(runs)
    done < <(planned row)
    while IFS='|' read -r tag _; do
        front_ends+=("${tag}=${expdir}/tse_${tag}")
        needs+=(--input "$(made_of "${tag}")")
    done < <(planned front_end)
    while IFS='|' read -r name set; do
        others=(${set:+--input "${clean}/${set}/.done"})
        step --redo --network --batch --unrecorded "--batch_size ${batch_size}" "${others[@]}" \
            --input "conf/sweeps/${name}.yaml" --input "${table_dir}/.done" "${needs[@]}" \
            --writes "mixtures.tsv */*/score_utt.tsv" "${sweeps_dir}/${name}" \
            evaluate --config "conf/sweeps/${name}.yaml" --targets "${clean}/emo" \
            --sources "${clean}/${source_set}" --table_dir "${table_dir}" \
            --scheme "${scheme}" --gender_state "${gender_state}" "${how_loud[@]}" \
            --folds "${folds}" --front_ends "${front_ends[*]}" \
            --seed "${seed}" --seeds "${more_seeds}" --output_dir "${sweeps_dir}/${name}" "${rows[@]}"
        inputs+=(--input "${sweeps_dir}/${name}/.done")
    done < <(planned sweep)
    [ ${#inputs[@]} -gt 0 ] || return 0
    step --redo --name sweeps_report "${inputs[@]}" --input "${scores}/.done" \
        --writes "RESULTS_SWEEPS.md sweeps.json plots/sweep_*.png" "${results}" \
        sweeps_report --sweeps_dir "${sweeps_dir}" --conf_dir conf/sweeps --scores_dir "${scores}" \
        --output_dir "${results}" --rows "$(row_names)" --sweeps "$(sweep_names | paste -s -d ' ')"
    run_steps
    log "  see ${results}/RESULTS_SWEEPS.md"
}

stage_pack() {
    local dir fold calibration inputs
    while IFS='|' read -r dir _; do
        dir=${expdir}/${dir}
        for fold in ${folds}; do
            inputs=(--input "${dir}/fold${fold}/.done")
            calibration=${dir}/fold${fold}/calibration.json # of tse-ser calibrate
            [ ! -f "${calibration}" ] || inputs+=(--input "${calibration}")
            step --redo --name "pack${fold}" "${inputs[@]}" \
                --writes "fold${fold}.zip" "${dir}" \
                pack --model_dir "${dir}/fold${fold}" --output "${dir}/fold${fold}.zip"
        done
    done < <(planned joint)
}

stage_upload() {
    local dir fold
    if [ -z "${hf_repo}" ]; then
        log "  not asked for: give --hf_repo user/name to upload ${expdir}/tse_ser_*/fold*.zip"
        return 0
    fi
    while IFS='|' read -r dir _; do
        dir=${expdir}/${dir}
        for fold in ${folds}; do
            step --redo --name "upload${fold}" --input "${dir}/.done.pack${fold}" "${dir}" \
                upload --hf_repo "${hf_repo}" --archive "${dir}/fold${fold}.zip"
        done
    done < <(planned joint)
}

# --- run them -------------------------------------------------------------------------------

[ $# -eq 0 ] || usage_error "no argument is expected, but '$1' is given"
name_directories
first=$(stage_number "${stage}")
last=$(stage_number "${stop_stage}")
[ "${first}" != none ] || usage_error "--stage ${stage} is no number or name of a stage"
[ "${last}" != none ] || usage_error "--stop_stage ${stop_stage} is no number or name of a stage"
[ "${first}" -le "${last}" ] || usage_error "--stage ${stage} comes after --stop_stage ${stop_stage}"
for option in python dumpdir expdir folds labels tse_config ser_config joint_config; do
    [ -n "${!option// /}" ] || usage_error "--${option} is empty"
done
while read -r option; do
    [[ ${!option} != *[[:cntrl:]]* ]] ||
        usage_error "--${option} $(printf %q "${!option}"): a line break or another control character is in it"
done < <(sed -n '/^# End of options/q; s/^\([a-z_]*\)=.*/\1/p' "${BASH_SOURCE[0]}")
for option in tse_config ser_config joint_config; do
    # A recipe without joint systems has no configuration of these trainings.
    [ -f "${!option}" ] || [ "${!option}" = conf/train_tse_ser.yaml ] ||
        usage_error "--${option} ${!option}: no such file"
    [[ ${!option} != -* && ${!option} != *"|"* ]] ||
        usage_error "--${option} ${!option}: it must not begin with a dash or have a | in it; rename the file"
done
for option in nj max_jobs num_threads num_nodes batch_size num_sources frontend_fs; do
    [[ ${!option:-1} =~ ^[1-9][0-9]*$ ]] || usage_error "--${option} ${!option}: expected a number above 0"
done
[[ ${ngpu} =~ ^[0-9]+$ ]] || usage_error "--ngpu ${ngpu}: expected a number"
number='(0|[1-9][0-9]*)' # 01 would be another name for 1
[[ ${folds} =~ ^${number}(\ ${number})*$ ]] || usage_error "--folds '${folds}': expected numbers with a space between"
[[ ${seed} =~ ^${number}$ ]] || usage_error "--seed ${seed}: expected a number"
[[ ${more_seeds} =~ ^(${number}(\ ${number})*)?$ ]] || usage_error "--more_seeds '${more_seeds}': expected numbers with a space between"
[[ ${scheme} =~ ^(loso|loso_speaker|best_test_epoch)$ ]] || usage_error "--scheme ${scheme}: it is loso, loso_speaker or best_test_epoch"
[[ ${labels} =~ ^[A-Za-z0-9_+=:@.\ -]+$ && " ${labels}" != *" "[.-]* ]] ||
    usage_error "--labels '${labels}': expected names with a space between; only letters, digits and -_.+=:@ can be in one"
for list in "folds:${folds}" "more_seeds:${seed} ${more_seeds}" "labels:${labels}"; do
    twice=$(tr ' ' '\n' <<<"${list#*:}" | sort | uniq -d | head -n 1)
    [ -z "${twice}" ] || usage_error "--${list%%:*} '${list#*:}': ${twice} is there twice"
done
[[ ${feats_dtype} =~ ^(float32|float16|none)$ ]] || usage_error "--feats_dtype '${feats_dtype}' is not float32, float16 or none"
[[ ${mix_tag} =~ ^[A-Za-z0-9_.-]*$ && ${mix_tag} != *JOB* ]] || usage_error "--mix_tag '${mix_tag}': only letters, digits and _.- can be in it"
for option in enrollment every_level pesq; do
    [[ ${!option} =~ ^(true|false)$ ]] || usage_error "--${option} '${!option}': it is true or false"
done
[ -z "${pretrain_noise}" ] || is_name "${pretrain_noise}" ||
    usage_error "--pretrain_noise '${pretrain_noise}': give the name of a directory in data/; ${name_rule}"
is_name "${source_set}" || usage_error "--source_set '${source_set}': give the name of a directory in data/; ${name_rule}"
while read -r name; do
    is_name "${name}" || usage_error "--sweeps: '${name}' of conf/sweeps: ${name_rule}"
    [ -f "conf/sweeps/${name}.yaml" ] || usage_error "--sweeps: there is no conf/sweeps/${name}.yaml"
done < <(sweep_names)

for option in dumpdir expdir; do
    is_path "${!option}" || usage_error "--${option} '${!option}': ${path_rule}"
done
[ -z "${hf_repo}" ] || is_path "${hf_repo}" || usage_error "--hf_repo '${hf_repo}': expected user/name"

read_plan
set_jobs
${on_cluster} || [ "${num_nodes}" = 1 ] || usage_error "--num_nodes ${num_nodes} needs a cluster (cmd_backend in cmd.sh)"
if [ "${status}" = true ]; then
    print_status
    exit
fi

start_steps
number=0
while IFS='|' read -r name title reads writes; do
    number=$((number + 1))
    if [ "${number}" -ge "${first}" ] && [ "${number}" -le "${last}" ]; then
        started=${SECONDS}
        log "Stage ${number} ${name}: ${title}"
        log "  reads ${reads}"
        "stage_${name}" </dev/null
        run_steps
        log "Stage ${number} ${name} done in $((SECONDS - started)) s: ${writes}"
    fi
done < <(stage_table)
finish_steps
