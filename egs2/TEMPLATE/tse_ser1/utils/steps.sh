#!/usr/bin/env bash
# To be sourced by a recipe's main script: steps that are done once.
#
#   step [options] DIR COMMAND [ARGUMENTS...]
#
# runs `${python} -m espnet_tse_ser.bin.COMMAND ARGUMENTS` through ${train_cmd}; it writes DIR.
#   --input FILE      the step depends on this file's content (may be repeated)
#   --writes PATTERNS files that it leaves in DIR, e.g. "wav.scp utt2*": without one it is done again
#   --name NAME       tells several steps apart that write into one DIR
#   --nj N            JOB=1:N with `--job JOB --nj N`, then once `--combine --nj N`
#   --train THREADS   a training: ${cuda_cmd}, --ngpu and --num_threads
#   --batch           only note it: run_batch runs all that are noted, side by side
#   --unrecorded "A"  arguments that cannot change the result (jobs, batch size)
#   --redo            when the settings differ, simply do it again
#
# What a step has done is written to DIR/.done[.NAME]: the command, its options and the checksums
# of its inputs. Until then the file is called .begun[.NAME]; the job itself renames it, so that what
# is done stays done whatever happens to this script. A step that is done with the same settings is
# skipped, unless something that it wrote is gone: then it is done again, which goes on from what is
# there. One that was done, or begun, with other settings stops the script, unless --redo.
# Inputs can be other steps' .done files: then a change upstream is seen everywhere below. That of
# a training has a line of its own for each run, as training twice need not give the same model.
#
# While a step is worked on, DIR/.lock[.NAME] says who does: a second script refuses to.
#
# Uses: python train_cmd cuda_cmd ngpu num_nodes max_jobs expdir.

. utils/processes.sh
. utils/outputs.sh

# The wrappers end their jobs when this process is gone.
RECIPE_PROCESS="$$ $(start_of $$)"
export RECIPE_PROCESS
_me="$(uname -n) ${RECIPE_PROCESS}"
_locks=()
_current_pid=
_batch_dir=
_batch_steps=() # of each noted step its directory, suffix and log

log() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# stop_steps: end everything that runs; to be called by a trap on INT, TERM and HUP.
stop_steps() {
    trap '' INT TERM HUP
    local group=${_current_pid:-$(jobs -p | tail -n 1)}
    # The wrapper outlives the subshell that leads its group, as its jobs save their work.
    [ -z "${group}" ] || _end_group "${group}" ||
        echo "${0##*/}: processes of group ${group} do not end: kill -KILL -- -${group}" >&2
    wait
    echo "${0##*/}: interrupted; the same command goes on from here" >&2
    exit 130
}

# leave_steps: what a trap on EXIT has to do.
leave_steps() {
    _release_locks
    [ -z "${_batch_dir}" ] || rm -rf "${_batch_dir}"
}

_release_locks() {
    [ ${#_locks[@]} -eq 0 ] || rm -f "${_locks[@]}"
    _locks=()
}

# run_killable COMMAND...: run it in a process group of its own, so that a signal to this script
# ends all of it. (bash handles a signal only between commands, but at once during `wait`.)
run_killable() {
    _spawn "$@"
    local status=0
    wait "${_current_pid}" || status=$?
    # it may have been killed without what it started
    _end_group "${_current_pid}" || fail "processes of group ${_current_pid} do not end;" \
        "kill -KILL -- -${_current_pid}"
    _current_pid=
    return "${status}"
}

# _end_group GROUP: ask what is left of a process group to end, and wait until it has; what is
# cancelled on a cluster takes its time.
_end_group() {
    local end=$((SECONDS + 120))
    kill -TERM -- "-$1" 2>/dev/null || return 0
    while kill -0 -- "-$1" 2>/dev/null; do
        [ "${SECONDS}" -lt "${end}" ] || return 1
        sleep 0.1
    done
}

step() {
    local name='' nj='' train='' batch=false unrecorded='' redo=false writes='' inputs=()
    while [ $# -gt 0 ]; do
        case $1 in
            --input) inputs+=("$2"); shift 2 ;;
            --writes) writes=$2; shift 2 ;;
            --name) name=.$2; shift 2 ;;
            --nj) nj=$2; shift 2 ;;
            --train) train=$2; shift 2 ;;
            --batch) batch=true; shift ;;
            --unrecorded) unrecorded=$2; shift 2 ;;
            --redo) redo=true; shift ;;
            *) break ;;
        esac
    done
    local dir=$1 command=$2 text
    local logs=${dir}/log/${command}
    shift 2
    text=$(step_record "${command}" "$@" -- "${inputs[@]}") || exit 1
    begin_step "${dir}" "${name}" "${text}" "${redo}"
    [ "${_todo}" = true ] || return 0
    # shellcheck disable=SC2154,SC2206
    local run=(${python} -m "espnet_tse_ser.bin.${command}" "$@" ${unrecorded})
    if [ -n "${nj}" ]; then
        log "  ${dir}: ${command}, ${nj} job(s), log in ${logs}.*.log"
        run_killable _work_array || fail "${dir}: failed (${command})"
        _release_locks
        log "  ${dir}: written"
        return 0
    fi
    # What an interrupted run wrote is worth keeping.
    [ ! -f "${logs}.log" ] || mv "${logs}.log" "${logs}.previous.log"
    mkdir -p "${dir}/log"
    _note_step
    [ "${batch}" = true ] || run_batch
}

# step_record COMMAND ARGUMENTS... -- INPUTS...: print what identifies a step, one option a line.
step_record() {
    local text=$1 word
    shift
    while [ "$1" != -- ]; do
        word=$1
        [[ ${word} == --* ]] && text+=$'\n'"${word}" || text+=" ${word}"
        shift
    done
    shift
    for word; do
        [ -f "${word}" ] || fail "${word} is missing: run the stage that makes it first"
    done
    # cksum prints "checksum bytes file" and needs no read of a second program's output format
    [ $# -eq 0 ] || text+=$'\n'$(cksum "$@")
    printf '%s' "${text}"
}

# begin_step DIR SUFFIX TEXT REDO: if the step is to be run, set _todo to true, lock it and mark it
# as begun.
begin_step() {
    local dir=$1 suffix=$2 text=$3 redo=$4 file="" gone="" had
    _todo=false
    if _is_done "${dir}" "${suffix}" "${text}"; then
        log "  ${dir}${suffix/./ }: done already"
        _clear_stale "${dir}/.lock${suffix}"
        return 0
    fi
    mkdir -p "${dir}"
    _take_lock "${dir}/.lock${suffix}"
    if _is_done "${dir}" "${suffix}" "${text}"; then
        log "  ${dir}${suffix/./ }: done by another script meanwhile"
        return 0
    fi
    for had in begun 'done'; do
        [ ! -f "${dir}/.${had}${suffix}" ] || file=${dir}/.${had}${suffix}
    done
    if [ -n "${file}" ]; then
        if [ -n "${gone}" ]; then
            log "  ${dir}${suffix/./ }: again, as ${gone} is gone or empty"
        elif _settings_are "${file}" "${text}"; then
            log "  ${dir}${suffix/./ }: going on with what was begun"
        elif [ "${redo}" = true ]; then
            log "  ${dir}${suffix/./ }: again, as its settings or inputs changed"
        else
            {
                echo "${0##*/}: ${dir} was made with other settings ('<' what it has, '>' what is asked):"
                diff <(grep -v '^run: ' "${file}") <(echo "${text}") | grep '^[<>]' | sed 's/^/    /' || true
                echo "Remove ${dir} to make it again, or use another tag or directory, or remove only"
                echo "${file} to keep what is there and go on from it."
            } >&2
            exit 1
        fi
    fi
    rm -f "${dir}/.done${suffix}" "${dir}/.wrote${suffix}"
    printf '%s\n' "${text}" >"${dir}/.begun${suffix}.tmp"
    mv "${dir}/.begun${suffix}.tmp" "${dir}/.begun${suffix}"
    _todo=true
}

# _is_done DIR SUFFIX TEXT: whether it was done with these settings, and all that was written is there.
# Sets gone to the first that is not.
_is_done() {
    gone=
    _settings_are "$1/.done$2" "$3" || return 1
    gone=$(first_gone "$1" "$2")
    [ -z "${gone}" ]
}

# _settings_are FILE TEXT: whether a mark exists and was made with these settings.
_settings_are() {
    local had
    [ -f "$1" ] || return 1
    had=$(<"$1")
    [ "${had%%$'\n'"run: "*}" = "$2" ]
}

# end_step DIR SUFFIX PATTERNS: mark as done.
end_step() {
    note_outputs "$1" "$2" "$3" || fail "$1: nothing can be written there; make room"
    mv "$1/.begun$2" "$1/.done$2"
    _release_locks
}

# The functions below see the variables of `step` that called them.

# The wrappers let the job's shell expand words, as Kaldi's do, so they get only the names of scripts.

# _write_script FILE COMMAND...: a script that becomes this command, with its own arguments after it.
_write_script() {
    mkdir -p "${1%/*}"
    { printf '%q ' exec "${@:2}"; echo '"$@"'; } >"$1"
}

# A step of N jobs and one that puts together what they wrote.
# shellcheck disable=SC2154
_work_array() {
    # bash ignores `set -e` in all that is called before an `||`.
    _write_script "${logs}.sh" "${run[@]}" || exit 1
    _write_script "${logs}.combine.sh" run_step.sh --writes "${writes}" "${dir}" "${name}" false \
        "${run[@]}" || exit 1
    ${train_cmd} JOB=1:"${nj}" "${logs}.JOB.log" bash "${logs}.sh" --job JOB --nj "${nj}" || exit 1
    ${train_cmd} "${logs}.combine.log" bash "${logs}.combine.sh" --combine --nj "${nj}" || exit 1
}

# Note a step for run_batch: N.sh does it, N.log leads to its log.
# shellcheck disable=SC2154
_note_step() {
    local number=$((${#_batch_steps[@]} + 1))
    local words=(run_step.sh --writes "${writes}" "${dir}" "${name}" false)
    if [ "${number}" = 1 ]; then
        _make_batch_dir
        _batch_train=${train}
    fi
    if [ -n "${train}" ]; then
        # Threads are set beside the command, not in this shell: a queue's job script sources path.sh.
        words=(run_step.sh --writes "${writes}" "${dir}" "${name}" true)
        run=(env OMP_NUM_THREADS="${train}" "${run[@]}")
        if _is_distributed; then
            words+=("${python}" -m espnet2.bin.launch --cmd "${cuda_cmd}" --log "${logs}.log"
                --ngpu "${ngpu}" --num_nodes "${num_nodes}"
                --init_file_prefix "${dir}/.dist_init_" -- bash "${_batch_dir}/${number}.train.sh")
            logs+=.launch
            _write_script "${_batch_dir}/${number}.train.sh" "${run[@]}"
            run=()
        else
            # What launch would issue for one process, without the seconds of its import.
            run+=(--ngpu "${ngpu}")
        fi
    fi
    words+=("${run[@]}")
    _write_script "${_batch_dir}/${number}.sh" "${words[@]}"
    ln -s "$(realpath -m "${logs}.log")" "${_batch_dir}/${number}.log"
    _batch_steps+=("${dir}|${name}|${logs}.log")
    log "  ${dir}: ${command}, log in ${logs}.log"
}

_is_distributed() { [ "${num_nodes}" -gt 1 ] || [ "${ngpu}" -gt 1 ]; }

# run_batch: run what was noted, at most --max_jobs at a time, as one job array.
run_batch() {
    [ ${#_batch_steps[@]} -gt 0 ] || return 0
    local entry dir name logs failed=()
    run_killable _work_batch || true # each step's mark tells
    for entry in "${_batch_steps[@]}"; do
        IFS='|' read -r dir name logs <<<"${entry}"
        rm -f "${dir}"/.dist_init_* # of launch
        if [ -f "${dir}/.done${name}" ]; then
            log "  ${dir}: written"
        else
            failed+=("${dir} (log in ${logs})")
        fi
    done
    _batch_steps=()
    rm -rf "${_batch_dir}"
    _batch_dir=
    _release_locks
    [ ${#failed[@]} -eq 0 ] || fail "failed: $(printf '%s; ' "${failed[@]}")"
}

# shellcheck disable=SC2086,SC2154
_work_batch() {
    local cmd=${train_cmd} count=${#_batch_steps[@]} options=()
    [ -z "${max_jobs}" ] || options=(--max-jobs-run "${max_jobs}")
    if [ -n "${_batch_train}" ] && _is_distributed; then
        # launch itself calls ${cuda_cmd}, on this machine, once for each training
        cmd="run.pl --grace 120"
        if ${on_cluster}; then
            options=(--max-jobs-run "${max_jobs:-${count}}")
        else
            options+=(--gpu "${ngpu}")
        fi
    else
        if [ -n "${_batch_train}" ]; then
            cmd=${cuda_cmd}
            options+=(--gpu "${ngpu}" --num_threads "${_batch_train}")
        fi
    fi
    ${cmd} "${options[@]}" JOB=1:"${count}" "${_batch_dir}/JOB.log" bash "${_batch_dir}/JOB.sh"
}

# shellcheck disable=SC2154
_make_batch_dir() {
    local old
    for old in "${expdir}/.batch.$(uname -n)".*; do # of scripts that were killed
        [ ! -d "${old}" ] || [ -d "/proc/${old##*.}" ] || rm -rf "${old}"
    done
    _batch_dir=${expdir}/.batch.$(uname -n).$$
    mkdir -p "${_batch_dir}"
}

# _take_lock FILE: or stop, naming who has it. One whose process on this machine is gone is taken.
_take_lock() {
    local file=$1 mine=$1.$$ holder said tries=0
    { printf '%s\nsince %(%F %T)T by: %s\n' "${_me}" -1 "$0" >"${mine}"; } 2>/dev/null ||
        { rm -f "${mine}"; fail "${file%/*}: nothing can be written there; make room, or choose another place"; }
    until said=$(ln "${mine}" "${file}" 2>&1); do
        holder=$(head -n 1 "${file}" 2>/dev/null) || true
        if [ ! -e "${file}" ]; then # it has just gone, or there is another trouble
            ((++tries < 20)) || { rm -f "${mine}"; fail "${file}: cannot be made (${said})"; }
            sleep 0.1
        elif [ "${holder}" = "${_me}" ] || ! is_gone "${holder}"; then
            # shellcheck disable=SC2086
            set -- ${holder}
            rm -f "${mine}"
            fail "${file%/.lock*}: process ${2:-?} on ${1:-?} is working on it ($(tail -n 1 "${file}" 2>/dev/null));" \
                "wait for it or stop it. If it has ended (or its machine), remove ${file}"
        else
            _wait_for_rest_of "${file}" "${holder#* }"
            drop_stale "${file}" "${holder}"
        fi
    done
    rm -f "${mine}"
    _locks+=("${file}")
    _clear_stale "${file}"
}

# _clear_stale FILE: remove what scripts that were killed have left of a lock.
_clear_stale() {
    local file
    for file in "$1" "$1".*; do
        [ ! -f "${file}" ] || ! is_gone "$(head -n 1 "${file}")" || rm -f "${file}"
    done
}

# _wait_for_rest_of FILE "PID START": the jobs of a script that was killed are ending; they save their
# work. A group's number may be another's by now: what the script has started has its mark.
_wait_for_rest_of() {
    local group pid
    sed -n 's/^group //p' "$1" | while read -r group; do
        for pid in $(pgrep -g "${group}"); do
            if grep -q -s -z -x "RECIPE_PROCESS=$2" "/proc/${pid}/environ"; then
                _end_group "${group}" || fail "$1: processes of group ${group} of a script that was" \
                    "killed still run: kill -KILL -- -${group}"
                break
            fi
        done
    done || exit 1
}

# Start a command in the background as the leader of a process group; sets _current_pid.
_spawn() {
    local file
    set -m
    "$@" </dev/null &
    _current_pid=$!
    set +m
    for file in "${_locks[@]}"; do
        echo "group ${_current_pid}" >>"${file}"
    done
}
