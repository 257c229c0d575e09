#!/usr/bin/env bash
# Makes a new recipe: egs2/TEMPLATE/tse_ser1/setup.sh [--from RECIPE] egs2/<corpus>/tse_ser1
# One of noise: egs2/TEMPLATE/tse_ser1/setup.sh --from egs2/ravdess_noise/se_ser1 egs2/<corpus>/se_ser1
set -e -u -o pipefail

usage() {
    echo "Usage: $0 [--from <recipe-dir>] <target-dir>, e.g. $0 --from egs2/ravdess_mix/tse_ser1" \
        "egs2/my_corpus_mix/tse_ser1" >&2
    exit 2
}

template=$(cd "$(dirname "$0")" && pwd -P)
from=${template}
conf=${template}/../../iemocap_mix/tse_ser1/conf
if [ "${1:-}" = --from ] && [ $# -gt 1 ]; then
    from=$2
    conf=$2/conf
    shift 2
fi
[ $# -eq 1 ] && [[ $1 != -* ]] || usage
target=$1
egs2=$(dirname "$(dirname "${target}")")

fail() {
    echo "$0: $*" >&2
    exit 2
}
[ -d "${egs2}/TEMPLATE" ] ||
    fail "${egs2}/TEMPLATE does not exist; the target has to be egs2/<corpus>/tse_ser1"
[ ! -e "${target}" ] || fail "${target} exists already; choose another name or remove it"
for path in "${from}"/{run.sh,local} "${conf}"; do
    [ -e "${path}" ] || fail "--from ${from}: there is no ${path}; give the directory of a recipe"
done

mkdir -p "${target}"
# What a recipe changes is copied, as real files: who writes one writes no other.
cp -RL "${from}"/{run.sh,local} "${conf}" "${target}"
# The path of a base begins at the real file, which is now where a link was.
while read -r link; do
    file=$(realpath "${link}")
    base=$(sed -n 's/^base: *\([^ ]*\).*/\1/p' "${file}")
    [ -n "${base}" ] || continue
    base=$(realpath -m --relative-to "$(dirname "${link}")" "${file%/*}/${base}")
    sed -i "s|^base:.*|base: ${base}|" "${target}/conf/${link#"${conf}/"}"
done < <(find "${conf}" -type l -name "*.yaml")
# What all recipes share is linked, unless RECIPE has its own.
scripts=(tse_ser1/{tse_ser,status}.sh)
[ ! -e "${from}/se_ser.sh" ] || scripts+=(se_ser1/se_ser.sh)
for name in "${scripts[@]}" common/{path.sh,cmd.sh,db.sh,utils,conf/slurm.conf,conf/sweeps}; do
    shared=${egs2}/TEMPLATE/${name}
    name=${name#*/}
    rm -rf "${target:?}/${name}"
    if [ "${from}" != "${template}" ] && [ -e "${from}/${name}" ] && [ ! -L "${from}/${name}" ]; then
        cp -RL "${from}/${name}" "${target}/${name}"
    else
        ln -sr "${shared}" "${target}/${name}"
    fi
done
echo "Made ${target}. Now fill in ${target}/local/data.sh."
