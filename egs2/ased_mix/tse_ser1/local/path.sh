# To be sourced by path.sh: what only this recipe needs, such as more directories in PATH.
# shellcheck shell=bash
