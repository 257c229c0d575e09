#!/usr/bin/env bash
# Makes a new recipe: egs2/TEMPLATE/tse_ser1/setup.sh egs2/<corpus>/tse_ser1
set -e -u -o pipefail

if [ $# -ne 1 ]; then
    echo "Usage: $0 <target-dir>, e.g. $0 egs2/my_corpus_mix/tse_ser1" >&2
    exit 2
fi
target=$1
template=$(cd "$(dirname "$0")" && pwd -P)
egs2=$(dirname "$(dirname "${target}")")

if [ ! -d "${egs2}/TEMPLATE" ]; then
    echo "$0: ${egs2}/TEMPLATE does not exist; the target has to be egs2/<corpus>/tse_ser1" >&2
    exit 2
fi
if [ -e "${target}" ]; then
    echo "$0: ${target} exists already; choose another name or remove it" >&2
    exit 2
fi

mkdir -p "${target}"
# What a recipe changes is copied, with the paper's configurations to begin with ...
cp -R "${template}"/{run.sh,cmd.sh,local} "${template}/../../iemocap_mix/tse_ser1/conf" "${target}"
# ... and what all recipes share is linked.
for name in tse_ser.sh status.sh path.sh db.sh utils; do
    ln -s "../../TEMPLATE/tse_ser1/${name}" "${target}/${name}"
done
for name in slurm.conf tests; do
    rm -rf "${target}/conf/${name}"
    ln -s "../../../TEMPLATE/tse_ser1/conf/${name}" "${target}/conf/${name}"
done
rm -rf "${target}/conf/systems"
mkdir "${target}/conf/systems" # one's own beside those of the paper
for path in "${template}"/conf/systems/*.yaml; do
    ln -s "../../../../TEMPLATE/tse_ser1/conf/systems/${path##*/}" "${target}/conf/systems"
done
echo "Made ${target}. Now fill in ${target}/local/data.sh."
