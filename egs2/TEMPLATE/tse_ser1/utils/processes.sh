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

# drop_stale FILE HOLDER: remove a lock that was seen to be HOLDER's, its first line. Of several who
# see that it is stale one moves it; what is not stale any more is put back.
drop_stale() {
    local stale=$1.$$.stale
    if mv "$1" "${stale}" 2>/dev/null && [ "$(head -n 1 "${stale}")" != "$2" ]; then
        ln "${stale}" "$1" 2>/dev/null || true
    fi
    rm -f "${stale}"
}
