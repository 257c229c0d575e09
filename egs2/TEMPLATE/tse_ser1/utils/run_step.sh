#!/usr/bin/env bash
# Do one step, as a job: run_step.sh DIR SUFFIX IS_TRAINING COMMAND...
#
# Runs COMMAND and, when it succeeds, marks the step as done: DIR/.begun[SUFFIX] becomes .done. While
# it runs, DIR/.job[SUFFIX] says where: a job that was forgotten (its submitter's machine went down)
# and one that was submitted after it never work on the same directory.

set -u
. "$(dirname "$0")/processes.sh"

dir=$1 suffix=$2 is_training=$3
shift 3
file=${dir}/.job${suffix}
slurm_job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}}
slurm_job=${slurm_job:-${SLURM_JOB_ID:-}}

fail() {
    echo "run_step.sh: ${dir}: $*" >&2
    exit 1
}

if [ -f "${file}" ]; then
    IFS='|' read -r process job <"${file}" || true
    if [ -n "${job:-}" ] && [ "${job}" != "${slurm_job}" ] && command -v squeue >/dev/null; then
        [ -z "$(squeue --noheader --jobs="${job}" 2>/dev/null)" ] ||
            fail "Slurm job ${job} still works on it; wait for it, or scancel ${job}"
    elif [ -z "${job:-}" ] && ! is_gone "${process}"; then
        fail "process ${process} (host, pid, start) still works on it; stop it, or remove ${file}" \
            "if it has ended"
    fi
fi
[ -f "${dir}/.begun${suffix}" ] || fail "has no .begun${suffix}: run the recipe's script"
echo "$(uname -n) $$ $(start_of $$)|${slurm_job}" >"${file}" || exit 1

# Signals reach the command too; this shell stays to say how it ended.
trap : INT TERM HUP USR1
echo "# $*"
"$@"
status=$?
rm -f "${file}"
[ "${status}" = 0 ] || exit "${status}"
[ "${is_training}" = false ] || printf 'run: %(%s)T.%s\n' -1 "${RANDOM}" >>"${dir}/.begun${suffix}" || exit 1
mv "${dir}/.begun${suffix}" "${dir}/.done${suffix}"
