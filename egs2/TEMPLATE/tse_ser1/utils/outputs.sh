#!/usr/bin/env bash
# To be sourced: what a step has written, and whether it is still there.
#
# DIR/.wrote[SUFFIX] names the files in DIR that a step has left there. One is there if it is not empty,
# and a list (*.scp) if all that it lists of DIR is: lists name audio of the corpora too, which no step
# has written.

# note_outputs DIR SUFFIX PATTERNS: write .wrote: what is there and matches one of PATTERNS, words
# relative to DIR that may have wildcards.
note_outputs() {
    local patterns pattern path
    read -r -a patterns <<<"$3"
    [ ${#patterns[@]} -gt 0 ] || return 0
    for pattern in "${patterns[@]}"; do
        compgen -G "$1/${pattern}" || true
    done | sort -u | while IFS= read -r path; do
        [ ! -f "${path}" ] || [ ! -s "${path}" ] || echo "${path#"$1"/}" || exit 1
    done >"$1/.wrote$2.tmp" && mv "$1/.wrote$2.tmp" "$1/.wrote$2"
}

# first_gone DIR SUFFIX: the first of these files that is not there any more; nothing if all are.
first_gone() {
    local path lists=()
    [ -f "$1/.wrote$2" ] || return 0
    while IFS= read -r path; do
        path=$1/${path}
        if [ ! -s "${path}" ]; then
            echo "${path}"
            return
        fi
        [[ ${path} != *.scp ]] || lists+=("${path}")
    done <"$1/.wrote$2"
    [ ${#lists[@]} -gt 0 ] || return 0
    path=$(realpath -sm "$1")/
    # What is in an archive is listed as FILE.ark:BYTE.
    # shellcheck disable=SC2016 # it is sh that expands
    cut -d ' ' -f 2- "${lists[@]}" | sed -E 's/(\.ark):[0-9]+$/\1/' | uniq |
        own=${path} awk 'index($0, ENVIRON["own"]) == 1' |
        xargs -r -d '\n' sh -c 'for file; do [ -s "${file}" ] || { echo "${file}"; exit 255; }; done' sh \
            2>/dev/null || true
}
