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

# worker: who still works on the directory; nothing if nobody does.
worker() {
    local process job
    IFS='|' read -r process job 2>/dev/null <"${file}" || return 0
    if [ -z "${job}" ]; then
        is_gone "${process}" || echo "process ${process} (host, pid, start)"
    elif [ "${job}" != "${slurm_job}" ] && [ -n "$(squeue --noheader --jobs="${job}" 2>/dev/null)" ]; then
        echo "Slurm job ${job} (scancel ${job})"
    fi
}

# What was killed or cancelled just now needs a while to end.
for ((second = 0; second < 60; second++)); do
    other=$(worker)
    [ -n "${other}" ] || break
    [ "${second}" != 0 ] || echo "run_step.sh: ${dir}: ${other} still works on it; waiting"
    sleep 1
done
[ -z "${other}" ] || fail "${other} still works on it; wait for it or stop it; if it has ended," \
    "remove ${file}"
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
