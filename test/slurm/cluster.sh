#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for the tests: cluster.sh COMMAND DIR [NODE]
#
#   start DIR            start munged, slurmctld and slurmd for n1 and n2; print SLURM_CONF
#   stop DIR             cancel every job and end all daemons
#   kill_node DIR NODE   kill -9 of a node: its slurmd and all that runs on it
#   start_node DIR NODE  bring a node (back) into service
#   kill_controller DIR, start_controller DIR
#
# Needs root and Debian's packages slurm-wlm and munge. Everything is in DIR; nothing of the
# system's own Slurm or munge is touched. Environment: MAX_ARRAY_SIZE (101), KILL_WAIT (10 s).
set -e -u -o pipefail

command=${1:?"usage: cluster.sh start|stop|kill_node|start_node|kill_controller|start_controller DIR [NODE]"}
dir=$(realpath -m "${2:?cluster.sh: which directory?}")
node=${3:-}
export SLURM_CONF=${dir}/slurm.conf

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "${SECONDS}" -lt "${end}" ] || return 1
        sleep 0.2
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
}

configure() {
    local host cpus
    host=$(hostname)
    cpus=$(nproc --all)
    rm -rf "${dir}"/{state,spool.n1,spool.n2} # of a cluster that was here before
    mkdir -p "${dir}"/{state,spool.n1,spool.n2,log,run}
    cat >"${SLURM_CONF}" <<END
ClusterName=test
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${dir}/run/munge.socket
SlurmctldPort=$(free_port)
SlurmdTimeout=10
KillWait=${KILL_WAIT:-10}
MaxArraySize=${MAX_ARRAY_SIZE:-101}
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU,CR_LLN
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
StateSaveLocation=${dir}/state
SlurmdSpoolDir=${dir}/spool.%n
SlurmctldPidFile=${dir}/run/slurmctld.pid
SlurmdPidFile=${dir}/run/slurmd.%n.pid
SlurmctldLogFile=${dir}/log/slurmctld.log
SlurmdLogFile=${dir}/log/slurmd.%n.log
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(free_port) CPUs=${cpus}
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(free_port) CPUs=${cpus}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
END
}

start_munge() {
    mkdir -p "${dir}/munge"
    dd if=/dev/urandom of="${dir}/munge/key" bs=64 count=1 status=none
    chmod 700 "${dir}/munge"
    chmod 400 "${dir}/munge/key"
    munged --force --socket="${dir}/run/munge.socket" --key-file="${dir}/munge/key" \
        --pid-file="${dir}/run/munged.pid" --log-file="${dir}/log/munged.log" \
        --seed-file="${dir}/munge/seed" --num-threads=2
}

answers() { scontrol ping | grep -q 'is UP'; }
ready() { [ "$(sinfo --noheader --Node --format %t | grep -c -E '^(idle|mix|alloc)$')" = 2 ]; }
no_jobs() { [ -z "$(squeue --noheader)" ]; }
node_ready() { sinfo --noheader --nodes "${node}" --format %t | grep -q -E '^(idle|mix|alloc)$'; }

start_controller() {
    slurmctld || fail "slurmctld does not start; see ${dir}/log/slurmctld.log"
    wait_for 30 answers || fail "slurmctld does not answer; see ${dir}/log/slurmctld.log"
}

start_node() {
    slurmd -N "$1" || fail "slurmd of $1 does not start; see ${dir}/log/slurmd.$1.log"
}

# Processes of a node: its slurmd, the slurmstepd of its jobs, and what these started.
node_processes() {
    local pid
    for pid in $(pgrep slurmstepd || true) $(pgrep -x slurmd || true); do
        find "/proc/${pid}/fd" -lname "${dir}/log/slurmd.$1.log" 2>/dev/null | grep -q . && echo "${pid}"
    done
    grep -l -z -x "SLURMD_NODENAME=$1" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ pid _; do
        tr '\0' '\n' <"/proc/${pid}/environ" 2>/dev/null | grep -q -x "SLURM_CONF=${SLURM_CONF}" && echo "${pid}" || true
    done
}

kill_pid_file() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 0
    kill "-$2" "${pid}" 2>/dev/null || return 0
    wait_for 20 test ! -e "/proc/${pid}" || kill -9 "${pid}"
}

case ${command} in
    start)
        [ "$(id -u)" = 0 ] || fail "needs root"
        for program in slurmctld slurmd munged sbatch; do
            command -v "${program}" >/dev/null || fail "${program} is not installed: apt-get install slurm-wlm munge"
        done
        configure
        start_munge
        start_controller
        start_node n1
        start_node n2
        wait_for 60 ready || fail "the nodes do not come up; see ${dir}/log"
        echo "${SLURM_CONF}"
        ;;
    stop)
        scancel --user=root >/dev/null 2>&1 || true
        wait_for 10 no_jobs || true
        for one in n1 n2; do node_processes "${one}" | xargs -r kill -9 2>/dev/null || true; done
        for one in slurmd.n1 slurmd.n2 slurmctld munged; do kill_pid_file "${dir}/run/${one}.pid" TERM; done
        ;;
    kill_node) node_processes "${node:?which node?}" | sort -u | xargs -r kill -9 2>/dev/null || true ;;
    start_node)
        start_node "${node:?which node?}"
        wait_for 60 node_ready || fail "${node} does not come up; see ${dir}/log"
        ;;
    kill_controller)
        # It writes what has changed up to 5 s later. Tasks that are lost to it would be started twice,
        # and it takes a node that tells of them for broken.
        sleep 6
        kill_pid_file "${dir}/run/slurmctld.pid" KILL
        ;;
    start_controller) start_controller ;;
    *) fail "unknown command ${command}" ;;
esac
