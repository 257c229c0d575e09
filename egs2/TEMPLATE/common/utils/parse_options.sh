#!/usr/bin/env bash
# To be sourced: sets shell variables from the options of the calling script.
#
# Every variable that is already set is an option: `--stop_stage 3` and `--stop-stage 3` set
# stop_stage. One that holds true or false becomes true if no value follows. An unknown option is an error (status 1), and so is a value other than true or
# false for a variable that holds one of them. `--help` calls the function print_help if there
# is one, else prints $help_message, else the script's lines `name=value # meaning`. What follows
# the options stays in "$@".

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h)
            if declare -F print_help >/dev/null; then
                print_help
            else
                echo "${help_message:-$(sed -n 's/^\([a-z_]*\)=\(.*# .*\)/--\1 \2/p' "$0")}"
            fi
            exit 0
            ;;
        --*=*)
            echo "$0: $1: write it as --name value" >&2
            exit 1
            ;;
        --?*)
            _option=${1#--}
            _option=${_option//-/_}
            if [[ ! ${_option} =~ ^[a-z][a-z0-9_]*$ ]] || [ -z "${!_option+set}" ]; then
                echo "$0: unknown option $1; $0 --help lists the options" >&2
                exit 1
            fi
            if [[ ${!_option} =~ ^(true|false)$ && ${2:---} == --* ]]; then
                set -- "$1" true "${@:2}"
            fi
            if [ $# -lt 2 ]; then
                echo "$0: option $1 needs a value" >&2
                exit 1
            fi
            if [[ ${!_option} =~ ^(true|false)$ && ! $2 =~ ^(true|false)$ ]]; then
                echo "$0: option $1: expected true or false, not '$2'" >&2
                exit 1
            fi
            printf -v "${_option}" %s "$2"
            shift 2
            ;;
        *) break ;;
    esac
done
unset _option
