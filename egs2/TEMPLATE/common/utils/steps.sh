#!/usr/bin/env bash
# To be sourced by a recipe's main script: steps that are done once.
#
#   step [options] DIR COMMAND [ARGUMENTS...]
#
# declares that `${python} -m espnet_tse_ser.bin.COMMAND ARGUMENTS` writes DIR; run_steps waits until
# all that was declared is done, in this order. espnet_tse_ser/jobs/steps.py does them, and lists the
# options.
#
# Uses: python train_cmd cuda_cmd ngpu num_nodes max_jobs expdir on_cluster, and stage_table.

_steps=() # of each the number of its words, then these

log() { printf '[%(%H:%M:%S)T] %s\n' -1 "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# start_steps: start the process that does the steps. It ends with this one, and takes its jobs along.
# shellcheck disable=SC2154
start_steps() {
    exec {_stdout}>&1
    set -m # in a process group of its own: Ctrl-C reaches it through _stop_steps, once
    coproc STEPS {
        exec python3 -S -m espnet_tse_ser.jobs.steps script="$0" pid=$$ python="${python}" \
            train_cmd="${train_cmd}" cuda_cmd="${cuda_cmd}" ngpu="${ngpu}" \
            num_nodes="${num_nodes}" max_jobs="${max_jobs}" expdir="${expdir}" \
            on_cluster="${on_cluster}" stages="$(stage_table)" 9>&1 >&"${_stdout}" {_stdout}>&-
    }
    set +m
    _steps_pid=${STEPS_PID}
    trap _stop_steps INT TERM HUP
}

step() { _steps+=($# "$@"); }

run_steps() {
    [ ${#_steps[@]} -gt 0 ] || return 0
    printf '%s\0' "${#_steps[@]}" "${_steps[@]}" >&"${STEPS[1]}"
    _steps=()
    # A signal ends `read` for its trap, as it does `wait`, but no command.
    read -r -u "${STEPS[0]}" || _end_steps
}

# finish_steps: to be called at the end of the script.
finish_steps() {
    # shellcheck disable=SC1083,SC2093
    exec {STEPS[1]}>&-
    wait "${_steps_pid}"
}

# _end_steps: wait for the end of the process that does the steps, and end like it.
_end_steps() {
    local status=0
    wait "${_steps_pid}" || status=$?
    [ "${status}" -le 128 ] || echo "${0##*/}: interrupted; the same command goes on from here" >&2
    exit "${status}"
}

_stop_steps() {
    trap '' INT TERM HUP
    kill -TERM "${_steps_pid}" 2>/dev/null || true
    _end_steps
}
