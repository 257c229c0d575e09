#!/usr/bin/env bash
# To be sourced by a recipe's main script: steps that are done once.
#
#   step [options] DIR COMMAND [ARGUMENTS...]
#
# runs `${python} -m espnet_tse_ser.bin.COMMAND ARGUMENTS` through ${train_cmd}; it writes DIR.
#   --input FILE      the step depends on this file's content (may be repeated)
#   --name NAME       tells several steps apart that write into one DIR
#   --nj N            JOB=1:N with `--job JOB --nj N`, then once `--combine --nj N`
#   --train THREADS   a training: ${cuda_cmd}, --ngpu and --num_threads
#   --side_by_side N  do not wait for it, but have no more than N at a time; wait_steps waits
#   --unrecorded "A"  arguments that cannot change the result (jobs, batch size)
#   --redo            when the settings differ, simply do it again
#
# What a step has done is written to DIR/.done[.NAME]: the command, its options and the checksums
# of its inputs. While it runs the file is called .begun[.NAME]. A step that is done with the same
# settings is skipped. One that was done, or begun, with others stops the script, unless --redo.
# Inputs can be other steps' .done files: then a change upstream is seen everywhere below. That of
# a training has a line of its own for each run, as training twice need not give the same model.
#
# Uses: python train_cmd cuda_cmd ngpu num_nodes.

declare -A _slot_pid=() # the process in each slot of the steps that run side by side
declare -A _slot_dir=()
_current_pid=

log() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# stop_steps: end everything that runs; to be called by a trap on INT, TERM and HUP.
stop_steps() {
    trap '' INT TERM HUP
    local pid
    for pid in ${_current_pid} "${_slot_pid[@]}"; do
        kill -TERM -- "-${pid}" 2>/dev/null || true
    done
    wait
    echo "${0##*/}: interrupted; the same command goes on from here" >&2
    exit 130
}

# run_killable COMMAND...: run it in a process group of its own, so that a signal to this script
# ends all of it. (bash handles a signal only between commands, but at once during `wait`.)
run_killable() {
    _spawn "$@"
    local status=0
    wait "${_current_pid}" || status=$?
    _current_pid=
    return "${status}"
}

step() {
    local name='' nj='' train='' side_by_side='' unrecorded='' redo=false inputs=()
    while [ $# -gt 0 ]; do
        case $1 in
            --input) inputs+=("$2"); shift 2 ;;
            --name) name=.$2; shift 2 ;;
            --nj) nj=$2; shift 2 ;;
            --train) train=$2; shift 2 ;;
            --side_by_side) side_by_side=$2; shift 2 ;;
            --unrecorded) unrecorded=$2; shift 2 ;;
            --redo) redo=true; shift ;;
            *) break ;;
        esac
    done
    local dir=$1 command=$2 text
    shift 2
    text=$(step_record "${command}" "$@" -- "${inputs[@]}") || exit 1
    begin_step "${dir}" "${name}" "${text}" "${redo}"
    [ "${_todo}" = true ] || return 0

    if [ -z "${side_by_side}" ]; then
        run_killable _work "$@" || fail "${dir}: failed (${command})"
        return 0
    fi
    _wait_for_slot "${side_by_side}"
    # Other wrappers of this machine run at the same time: run.pl picks its GPU by the slot.
    JOB_SLOT=${_slot} _spawn _work "$@"
    _slot_pid[${_slot}]=${_current_pid}
    _slot_dir[${_slot}]=${dir}
    _current_pid=
}

# wait_steps: wait for the steps that run side by side, and stop if one of them failed.
wait_steps() {
    while [ ${#_slot_pid[@]} -gt 0 ]; do
        _collect_slots
        sleep 0.1
    done
    [ -z "${_failed_dirs:-}" ] || fail "failed:${_failed_dirs}"
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

# begin_step DIR SUFFIX TEXT REDO: set _todo to true and mark the step as begun, if it is to be run.
begin_step() {
    _todo=false
    local dir=$1 marker=$1/.done$2 begun=$1/.begun$2 text=$3 redo=$4 file="" had
    [ ! -f "${begun}" ] || file=${begun}
    [ ! -f "${marker}" ] || file=${marker}
    if [ -n "${file}" ]; then
        had=$(<"${file}")
        had=${had%%$'\n'"run: "*}
        if [ "${had}" = "${text}" ]; then
            if [ "${file}" = "${marker}" ]; then
                log "  ${dir}${2/./ }: done already"
                return 0
            fi
            log "  ${dir}${2/./ }: going on with what was begun"
        elif [ "${redo}" = true ]; then
            log "  ${dir}${2/./ }: again, as its settings or inputs changed"
        else
            {
                echo "${0##*/}: ${dir} was made with other settings ('<' what it has, '>' what is asked):"
                diff <(echo "${had}") <(echo "${text}") | grep '^[<>]' | sed 's/^/    /' || true
                echo "Remove ${dir} to make it again, or use another tag or directory, or remove only"
                echo "${file} to keep what is there and go on from it."
            } >&2
            exit 1
        fi
    fi
    mkdir -p "${dir}"
    rm -f "${marker}"
    printf '%s\n' "${text}" >"${begun}.tmp"
    mv "${begun}.tmp" "${begun}"
    _todo=true
}

# end_step DIR SUFFIX: mark as done.
end_step() { mv "$1/.begun$2" "$1/.done$2"; }

# The steps below see the variables of `step` that called them.

# The work of one step, in a process of its own, ending in the mark. Every command that may fail
# says `|| exit`: bash ignores `set -e` in all that is called from an `if` or before an `||`.
# shellcheck disable=SC2086,SC2154,SC2206
_work() {
    local run=(${python} -m "espnet_tse_ser.bin.${command}" "$@" ${unrecorded})
    local logs=${dir}/log/${command}
    [ -z "${side_by_side}" ] || log "  ${dir}: ${command}, log in ${logs}.log"
    if [ -n "${nj}" ]; then
        log "  ${dir}: ${command}, ${nj} job(s), log in ${logs}.*.log"
        ${train_cmd} JOB=1:"${nj}" "${logs}.JOB.log" "${run[@]}" --job JOB --nj "${nj}" || exit 1
        ${train_cmd} "${logs}.combine.log" "${run[@]}" --combine --nj "${nj}" || exit 1
    else
        [ -n "${side_by_side}" ] || log "  ${dir}: ${command}, log in ${logs}.log"
        # What an interrupted run wrote is worth keeping.
        [ ! -f "${logs}.log" ] || mv "${logs}.log" "${logs}.previous.log"
        if [ -z "${train}" ]; then
            ${train_cmd} "${logs}.log" "${run[@]}" || exit 1
        else
            _train || exit 1
        fi
    fi
    [ -z "${train}" ] || printf 'run: %(%s)T.%s\n' -1 "${RANDOM}" >>"${dir}/.begun${name}" || exit 1
    end_step "${dir}" "${name}" || exit 1
    log "  ${dir}: written"
}

# shellcheck disable=SC2086,SC2154
_train() {
    # Threads are set beside the command, not in this shell: a queue's job script sources path.sh.
    local threaded=(env OMP_NUM_THREADS="${train}" "${run[@]}")
    if [ "${num_nodes}" -gt 1 ] || [ "${ngpu}" -gt 1 ]; then
        ${python} -m espnet2.bin.launch --cmd "${cuda_cmd} --num_threads ${train}" \
            --log "${logs}.log" --ngpu "${ngpu}" --num_nodes "${num_nodes}" \
            --init_file_prefix "${dir}/.dist_init_" -- "${threaded[@]}"
    else
        # The command that launch would issue for one process, without the seconds of its import.
        ${cuda_cmd} --gpu "${ngpu}" --num_threads "${train}" "${logs}.log" \
            "${threaded[@]}" --ngpu "${ngpu}"
    fi
}

# Start a command in the background as the leader of a process group; sets _current_pid.
_spawn() {
    set -m
    "$@" &
    _current_pid=$!
    set +m
}

# Set _slot to a free one of N slots; stops when a step has failed, but lets the others finish.
_wait_for_slot() {
    while true; do
        _collect_slots
        [ -z "${_failed_dirs:-}" ] || wait_steps
        for ((_slot = 0; _slot < $1; _slot++)); do
            [ -n "${_slot_pid[${_slot}]:-}" ] || return 0
        done
        sleep 0.1
    done
}

_collect_slots() {
    local slot
    for slot in "${!_slot_pid[@]}"; do
        if ! kill -0 "${_slot_pid[${slot}]}" 2>/dev/null; then
            wait "${_slot_pid[${slot}]}" || _failed_dirs+=" ${_slot_dir[${slot}]}"
            unset "_slot_pid[${slot}]"
        fi
    done
}
