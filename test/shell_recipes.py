"""Recipes whose shell is run with a stand-in for Python that notes each command and does nothing.

This tests the wiring of the stages and not the stages.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "egs2/TEMPLATE/tse_ser1"
COMMON = ROOT / "egs2/TEMPLATE/common"
STAGES = (
    "data mixture_table check simulate tse_stats tse extract tse_score ser_stats ser joint infer "
    "score results sweeps pack upload"
).split()
REAL = rf"""#!/usr/bin/env bash
# called as: python -m espnet_tse_ser.bin.COMMAND OPTIONS
set -eu
[ "$2" != espnet_tse_ser.bin.systems ] || exec {sys.executable} "$@" # what is to be done is real
"""
STAND_IN = (
    REAL
    + r"""
echo "${*:2}" | sed 's/^espnet_tse_ser.bin.//' >> calls.txt
if [[ "$*" == *${FAIL_ON:-never}* ]]; then echo "error: asked to fail"; exit 2; fi
sleep ${SECONDS_A_CALL:-0}
if [[ $2 == *.front_end ]]; then echo "${*:3}" > "$6/front_end.json"; fi
if [[ $2 == *.results ]]; then
    mkdir -p exp/plots
    echo the table | tee exp/plots/ladder_ua.png > exp/RESULTS.md
fi
if [[ $2 == *.sweeps_report ]]; then
    echo the sweeps | tee exp/plots/sweep_x.png > exp/RESULTS_SWEEPS.md
fi
for set in emo interferer pretrain; do mkdir -p dump/clean/$set; done
if [[ $2 == *.mixture_table ]]; then echo "${*:3}" > data/mix/mixtures.tsv; fi
"""
)
# What run.pl does, one job after the other, without the start of a Python for each.
QUICK = r"""#!/usr/bin/env bash
last=1
while [[ $1 == -* || $1 == JOB=1:* ]]; do
    [[ $1 == -* ]] && shift 2 || { last=${1#JOB=1:}; shift; }
done
status=0
for ((job = 1; job <= last; job++)); do
    mkdir -p "${1%/*}"
    words=${*:2}
    bash -c "${words//JOB/${job}}" </dev/null >"${1//JOB/${job}}" 2>&1 || status=1
done
exit ${status}
"""
DATA_SH = r"""#!/usr/bin/env bash
echo "data.sh $*" >> calls.txt
for set in emo interferer pretrain; do
    mkdir -p data/$set
    for file in wav.scp utt2spk utt2emo utt2fold; do echo "a b" > data/$set/$file; done
done
"""


def bash(command, cwd, **env):
    """Run a bash command line with this Python first on PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, **env},
        timeout=300,  # a loaded machine
    )


def make_egs2(directory):
    """A copy of the TEMPLATE and of the configurations that a new recipe begins with."""
    shutil.copytree(TEMPLATE.parent, directory / "egs2/TEMPLATE")
    conf = directory / "egs2/iemocap_mix/tse_ser1/conf"
    conf.mkdir(parents=True)
    for name in ("train_tse", "train_ser", "train_tse_ser"):
        (conf / f"{name}.yaml").write_text(f"name: {name}\n")
    shutil.copytree(TEMPLATE / "conf/systems", conf / "systems")
    (directory / "espnet_tse_ser").symlink_to(ROOT / "espnet_tse_ser")
    (directory / "tools").mkdir()
    (directory / "tools/activate_python.sh").write_text("")
    return directory / "egs2"


def make_recipe(egs2):
    """A recipe made by setup.sh, with a local/data.sh and stand-ins for Python and run.pl."""
    result = bash("TEMPLATE/tse_ser1/setup.sh new_mix/tse_ser1", egs2)
    assert result.returncode == 0, result.stderr
    directory = egs2 / "new_mix/tse_ser1"
    (directory / "local/data.sh").write_text(DATA_SH)
    assert os.readlink(directory / "conf/sweeps") == "../../../TEMPLATE/common/conf/sweeps"
    (directory / "conf/sweeps").unlink()
    (directory / "conf/sweeps").mkdir()
    (directory / "conf/sweeps/snr_0.yaml").write_text("snr: 0\n")
    declare(directory, "joint_noisy", "train: joint\ntest: joint\nstarts_from: noisy_noisy\n")
    declare(directory, "scratch", "train: joint\ntest: joint\n")
    for name, text in (("stand_in", STAND_IN), ("utils/run.pl", QUICK)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory


def declare(recipe, name, text):
    """Add a system to a recipe; it is not one of those that `run` runs if none are named."""
    (recipe / f"conf/systems/{name}.yaml").write_text(f"label: {name}\nrow: 9\n{text}")


PAPER = "clean_clean clean_noisy noisy_noisy clean_denoised base ft"


def run(recipe, options="", **env):
    if "--systems" not in options:
        options += f" --systems '{PAPER}'"
    return bash(f"./run.sh --python ./stand_in --nj 1 {options}", recipe, **env)


def calls(recipe):
    """The noted commands since the last look."""
    path = recipe / "calls.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def start(recipe, options, **env):
    """Start the recipe's script as the leader of a process group, as a terminal would."""
    return subprocess.Popen(
        ["bash", "-c", f"exec ./run.sh --python ./stand_in --nj 1 {options}"],
        cwd=recipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env},
    )


def wait_for(condition):
    for _ in range(1500):
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it does not come")
