# To be sourced: the commands that run jobs. Their command line is that of Kaldi's run.pl and
# queue.pl: `X.pl [options] [JOB=1:N] LOG COMMAND [ARGUMENTS...]`.
#   train_cmd  data preparation, statistics and scoring
#   cuda_cmd   trainings and, with --ngpu, all else that runs networks (extraction, inference, sweeps ...)
# shellcheck shell=bash

# local: on this machine. stdout: the same, and the logs are shown as well. slurm: on a cluster;
# conf/slurm.conf says how. sge, pbs, ssh: with Kaldi's or ESPnet's wrapper put into utils/.
cmd_backend=${cmd_backend:-local}

# --retries: how often a job that the cluster lost (a dead node, preemption) is submitted again.
# Options for all jobs go here too, e.g. --time 8:00:00 or --mem 8G.
case ${cmd_backend} in
    local)
        export train_cmd="run.pl"
        export cuda_cmd="run.pl"
        ;;
    stdout)
        export train_cmd="stdout.pl"
        export cuda_cmd="stdout.pl"
        ;;
    slurm)
        export train_cmd="slurm.pl --retries 2"
        export cuda_cmd="slurm.pl --retries 2"
        ;;
    sge)
        export train_cmd="queue.pl"
        export cuda_cmd="queue.pl"
        ;;
    pbs | ssh)
        export train_cmd="${cmd_backend}.pl"
        export cuda_cmd="${cmd_backend}.pl"
        ;;
    *)
        echo "cmd.sh: unknown cmd_backend '${cmd_backend}': use local, stdout, slurm, sge, pbs or ssh" >&2
        return 1
        ;;
esac

for _wrapper in "${train_cmd%% *}" "${cuda_cmd%% *}"; do
    if ! command -v "${_wrapper}" >/dev/null; then
        echo "cmd.sh: cmd_backend=${cmd_backend} needs ${_wrapper}: put Kaldi's or ESPnet's into utils/" >&2
        return 1
    fi
done
unset _wrapper
