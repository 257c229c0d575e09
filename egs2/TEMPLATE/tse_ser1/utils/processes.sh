#!/usr/bin/env bash
# To be sourced: who does what, and whether they are still there.

# start_of PID: when it started, in clock ticks since boot; nothing if there is no such process.
# With it a process id names one process for ever, though ids are used again.
start_of() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    read -r -a stat <<<"${stat##*) }"
    [[ ${stat[0]} == [ZX] ]] || echo "${stat[19]}"
}

# is_gone "HOST PID START": whether it was a process of this machine and has ended. What runs on
# another machine cannot be seen: it is not gone.
is_gone() {
    local host pid start
    read -r host pid start <<<"$1"
    [ "${host}" = "$(uname -n)" ] && [ "$(start_of "${pid:-0}")" != "${start}" ]
}
