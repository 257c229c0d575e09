# One task of a job array. slurm.pl writes what it submits: assignments, then this text.
#   name, first      the word that stands for the task's index, and the index of a single job
#   command, log     with that word in them
#   attempt          1 for the first submission
#   statuses         where the task leaves an empty file INDEX.ATTEMPT.STATUS when it ends
#   directory        where it runs
# shellcheck shell=bash disable=SC1091,SC2154,SC2329

index=${first}
if [ -z "${name}" ]; then
    unset "${!SLURM_ARRAY_@}" # of a job array that this was submitted from
else
    index=${SLURM_ARRAY_TASK_ID}
    command=${command//"${name}"/${index}}
    log=${log//"${name}"/${index}}
fi
started=$(date +%s)
warned=false

# An empty file needs no room on a full disk, and is there at once or not at all.
finish() {
    local status=$?
    trap '' TERM INT HUP USR1
    echo "# Accounting: begin_time=${started} end_time=$(date +%s)" \
        "time=$(($(date +%s) - started)) threads=${SLURM_CPUS_PER_TASK:-1}"
    echo "# Finished at $(date) with status ${status}"
    # 75: what was asked to stop has saved its work (espnet_tse_ser.errors.REQUEUE_STATUS)
    [ "${status}" != 75 ] || ! ${warned} || status=saved
    : >"${statuses}/${index}.${attempt}.${status}"
}
trap finish EXIT

# Slurm's signals go on to the command. Before there is one they end the job, but for the warning:
# left to itself, bash would end it with the status of the last command, which may be 0.
child=
forward() {
    signalled=true
    warned=true
    if [ -n "${child}" ]; then
        kill "-$1" -- "-${child}" 2>/dev/null
    elif [ "$1" = TERM ]; then
        exit 143
    fi
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM INT HUP

cd "${directory}" || exit 1
export SLURM_WAIT=300 # when a process of srun has failed, the others do not wait for ever
unset RECIPE_PROCESS JOB_WRAPPERS # of the machine it was submitted from
mkdir -p "$(dirname "${log}")" || exit 1
if [ "${attempt}" = 1 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    exec >"${log}" 2>&1 || exit 1
else
    exec >>"${log}" 2>&1 || exit 1 # goes on from what the lost attempt did
fi
echo "# Running on $(hostname), Slurm job ${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID}} task ${index}"
echo "# Started at $(date)"
echo "# ${command}"

if [ -f path.sh ]; then
    . ./path.sh
fi

# The command is the leader of a process group, so that a signal reaches all of it. It is started
# with SIGUSR1, Slurm's warning before a time limit, ignored: a training handles it, others work on.
set -m
(
    trap - TERM
    trap '' USR1
    exec bash -c "${command}"
) </dev/null &
child=$!
set +m
while true; do
    signalled=false
    wait "${child}"
    status=$?
    # a trap ends `wait` early; asked again it waits on, or tells how the command has ended
    ${signalled} || break
done
# a command that was killed may have left children
[ "${status}" -le 128 ] || kill -KILL -- "-${child}" 2>/dev/null
exit "${status}"
