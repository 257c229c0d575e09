#!/usr/bin/env bash
# Do one step, as a job: run_step.sh [--writes PATTERNS] DIR SUFFIX IS_TRAINING COMMAND...
#
# Runs COMMAND and, when it succeeds, marks the step as done: DIR/.begun[SUFFIX] becomes .done, and
# .wrote[SUFFIX] names the files in DIR that match one of PATTERNS. While it runs, DIR/.job[SUFFIX]
# says where: a job whose script is gone (its machine went down) and one that was submitted
# after it never work on the same directory.

set -u
. "$(dirname "$0")/processes.sh"
. "$(dirname "$0")/outputs.sh"

writes=
if [ "$1" = --writes ]; then
    writes=$2
    shift 2
fi
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
    local process='' job='' said
    IFS='|' read -r process job 2>/dev/null <"${file}"
    if [ -z "${job}" ]; then
        [ -z "${process}" ] || is_gone "${process}" || echo "process ${process} (host, pid, start)"
    elif [ "${job}" != "${slurm_job}" ]; then
        if said=$(squeue --noheader --jobs="${job}" --format="state %T" 2>&1); then
            said=$(grep '^state ' <<<"${said}") # a cluster may print more, such as a greeting
        elif [[ ${said} == *"Invalid job id"* ]]; then
            said=''
        fi
        [ -z "${said}" ] || echo "Slurm job ${job} (scancel ${job}; squeue says: ${said})"
    fi
}

# Take the directory. What was killed or cancelled just now needs a while to end.
mine=${file}.$$
{ echo "$(uname -n) $$ $(start_of $$)|${slurm_job}" >"${mine}"; } 2>/dev/null ||
    { rm -f "${mine}"; fail "${mine} cannot be written: make room and run the same command"; }
second=0
until said=$(ln "${mine}" "${file}" 2>&1); do
    held=$(head -n 1 "${file}" 2>/dev/null)
    other=$(worker)
    if [ -n "${other}" ] || [ ! -e "${file}" ]; then
        ((++second <= 60)) || { rm -f "${mine}"; fail "${other:-${said}} still works on it; wait for it" \
            "or stop it; if it has ended, remove ${file}"; }
        [ "${second}" != 1 ] || echo "run_step.sh: ${dir}: ${other:-${said}}; waiting"
        sleep 1
    else
        drop_stale "${file}" "${held}"
    fi
done
rm -f "${mine}"
[ -f "${dir}/.begun${suffix}" ] || { rm -f "${file}"; fail "has no .begun${suffix}: run the recipe's script"; }

# Signals reach the command too; this shell stays to say how it ended.
trap : INT TERM HUP USR1
echo "# $*"
"$@"
status=$?
rm -f "${file}"
[ "${status}" = 0 ] || exit "${status}"
note_outputs "${dir}" "${suffix}" "${writes}" || exit 1
[ "${is_training}" = false ] || printf 'run: %(%s)T.%s\n' -1 "${RANDOM}" >>"${dir}/.begun${suffix}" || exit 1
mv "${dir}/.begun${suffix}" "${dir}/.done${suffix}"
