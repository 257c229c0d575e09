# To be sourced: the commands that run jobs. Their command line is that of Kaldi's run.pl and
# queue.pl: `X.pl [options] [JOB=1:N] LOG COMMAND [ARGUMENTS...]`.
#   train_cmd  data preparation, statistics, extraction, inference and scoring
#   cuda_cmd   trainings
# shellcheck shell=bash

# local: on this machine. stdout: the same, and the logs are shown as well.
cmd_backend=${cmd_backend:-local}

case ${cmd_backend} in
    local)
        export train_cmd="run.pl"
        export cuda_cmd="run.pl"
        ;;
    stdout)
        export train_cmd="stdout.pl"
        export cuda_cmd="stdout.pl"
        ;;
    slurm | sge | pbs | ssh | jhu)
        echo "cmd.sh: cmd_backend=${cmd_backend} is not supported: jobs run on this machine only;" \
            "use cmd_backend=local" >&2
        return 1
        ;;
    *)
        echo "cmd.sh: unknown cmd_backend '${cmd_backend}': use local or stdout" >&2
        return 1
        ;;
esac
