# To be sourced from a recipe's directory: finds the tools and sets the environment of every job.
# shellcheck shell=bash disable=SC2034,SC1091
MAIN_ROOT=${PWD}/../../..

export PATH=${PWD}/utils:${PATH}
export PYTHONPATH=${MAIN_ROOT}${PYTHONPATH:+:${PYTHONPATH}}
if [ ! -f "${MAIN_ROOT}/tools/activate_python.sh" ]; then
    echo "tools/activate_python.sh is missing: run \`make -C tools\` in the repository (an empty file" \
        "there means: use the python3 on PATH)" >&2
    exit 1
fi
. "${MAIN_ROOT}/tools/activate_python.sh"

# Data directories are sorted by bytes, whatever the language of the machine.
export LC_ALL=C
# Jobs that run side by side must not each take all cores; trainings set their own number.
export OMP_NUM_THREADS=1
# Large tensors in huge pages: else a quarter of a large extractor's training is page faults.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
export PYTHONIOENCODING=UTF-8
# Classes that a configuration names as module:Class are in files there.
export ESPNET_TSE_SER_CODE=${PWD}/local
export NCCL_SOCKET_IFNAME="^lo,docker,virbr,vmnet,vboxnet"

. local/path.sh
