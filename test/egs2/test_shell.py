"""The shell part of the recipes: shellcheck, options, setup.sh, and steps that are done once.

`tse_ser.sh` is run here with a stand-in for Python that notes each command and does nothing, so
that this tests the wiring of the stages and not the stages.
"""

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_tse_ser.configuration import chain, read_configuration

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "egs2/TEMPLATE/tse_ser1"
COMMON = ROOT / "egs2/TEMPLATE/common"
RECIPES = sorted(p.parent for p in ROOT.glob("egs2/*_mix/tse_ser1/run.sh"))
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
    for file in wav.scp utt2spk; do echo "a b" > data/$set/$file; done
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


@pytest.fixture
def egs2(tmp_path):
    """A copy of the TEMPLATE and of the configurations that a new recipe begins with."""
    shutil.copytree(TEMPLATE.parent, tmp_path / "egs2/TEMPLATE")
    conf = tmp_path / "egs2/iemocap_mix/tse_ser1/conf"
    conf.mkdir(parents=True)
    for name in ("train_tse", "train_ser", "train_tse_ser"):
        (conf / f"{name}.yaml").write_text(f"name: {name}\n")
    shutil.copytree(TEMPLATE / "conf/systems", conf / "systems")
    (tmp_path / "espnet_tse_ser").symlink_to(ROOT / "espnet_tse_ser")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/activate_python.sh").write_text("")
    return tmp_path / "egs2"


@pytest.fixture
def recipe(egs2):
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


@pytest.fixture
def run_pl(recipe):
    """The wrapper itself, for tests of more than which commands are run."""
    shutil.copy(COMMON / "utils/run.pl", recipe / "utils/run.pl")


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


def test_shellcheck():
    patterns = ("egs2/*/*/*.sh", "egs2/*/*/*/*.sh", ".ci/run")
    # resolved, as most of a recipe are links into the TEMPLATE
    scripts = sorted({p.resolve() for pattern in patterns for p in ROOT.glob(pattern)})
    assert len(scripts) > 10
    command = [Path(sys.executable).parent / "shellcheck", *scripts]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("directory", RECIPES, ids=lambda d: d.parent.name)
def test_recipe_layout(directory):
    for name in ("tse_ser.sh", "status.sh"):
        assert os.readlink(directory / name) == f"../../TEMPLATE/tse_ser1/{name}"
    for name in ("path.sh", "cmd.sh", "db.sh", "utils"):
        assert os.readlink(directory / name) == f"../../TEMPLATE/common/{name}"
    for name in ("conf/slurm.conf", "conf/sweeps"):
        assert os.readlink(directory / name) == f"../../../TEMPLATE/common/{name}"
    assert (directory / "local/path.sh").is_file()
    for name in ("run.sh", "local/data.sh"):
        assert os.access(directory / name, os.X_OK)
    assert '"$@"' in (directory / "run.sh").read_text().splitlines()[-1]


@pytest.mark.parametrize("directory", RECIPES, ids=lambda d: d.parent.name)
def test_data_sh_help_lists_its_options(directory):
    result = bash("local/data.sh --help", directory)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines and all(re.match(r"--\w+ \S.* # \w", line) for line in lines)


# --- options --------------------------------------------------------------------------------


def parse(words, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text(
        "set -e -u\n"
        "stop_stage=1\ntext=\nflag=false\nhelp_message='the help'\n"
        f". {COMMON}/utils/parse_options.sh\n"
        'echo "$stop_stage|$text|$flag|$*"\n'
    )
    return bash(f"bash {script} {words}", tmp_path)


@pytest.mark.parametrize(
    "words, printed",
    [
        ("", "1||false|"),
        ("--stop_stage 3", "3||false|"),
        ("--stop-stage 3 --flag true", "3||true|"),
        ("--text '--a 1 --b \"2 3\"'", '1|--a 1 --b "2 3"|false|'),
        ("--text x --text ''", "1||false|"),
        ("--text '$(echo no)'", "1|$(echo no)|false|"),
        ("--text x left --over", "1|x|false|left --over"),
        ("--help", "the help"),
    ],
)
def test_parse_options(words, printed, tmp_path):
    result = parse(words, tmp_path)
    assert (result.returncode, result.stdout) == (0, printed + "\n"), result.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        ("--stop_stages 3", "unknown option --stop_stages"),
        ("--a[0] 3", "unknown option --a[0]"),
        ("--text", "--text needs a value"),
        ("--text=x", "write it as --name value"),
        ("--flag maybe", "expected true or false, not 'maybe'"),
    ],
)
def test_parse_options_errors(words, message, tmp_path):
    result = parse(words, tmp_path)
    assert result.returncode == 1
    assert message in result.stderr


def test_help_lists_every_option_once_with_the_recipe_s_value(recipe):
    result = bash("./run.sh --nj 7 --help", recipe)
    assert result.returncode == 0, result.stderr
    block = (TEMPLATE / "tse_ser.sh").read_text().split("# End of options")[0]
    names = re.findall(r"^([a-z_]+)=", block, re.MULTILINE)
    assert len(names) > 25
    listed = re.findall(r"^  --(\w+) +\S.*\[.*\]$", result.stdout, re.MULTILINE)
    assert listed == names
    assert re.search(r"--nj .*\[7\]", result.stdout)
    assert re.findall(r"^ +\d+ (\w+)", result.stdout, re.MULTILINE) == STAGES


@pytest.mark.parametrize(
    "options, message",
    [
        ("--stage nothing", "--stage nothing"),
        ("--stage 18", "--stage 18"),
        ("--stage joint --stop_stage 3", "comes after"),
        ("--nj none", "--nj none"),
        ("--max_jobs 0", "--max_jobs 0"),
        ("--ngpu -1", "--ngpu -1"),
        ("--folds ''", "--folds is empty"),
        ("--folds '1 two'", "--folds '1 two'"),
        ("--folds '1 2 1'", "1 is there twice"),
        ("--expdir ''", "--expdir is empty"),
        ("--tse_config conf/none.yaml", "--tse_config conf/none.yaml: no such file"),
        ("--folds '1 01'", "--folds '1 01'"),
        ("--more_seeds 00", "--more_seeds '00'"),
        ("--expdir exp_JOB", "--expdir 'exp_JOB': only letters"),
        ("--dumpdir 'R&D'", "--dumpdir 'R&D': only letters"),
        ("--num_nodes 2", "--num_nodes 2 needs a cluster"),
        ("--labels 'ang;touch\tPWN'", "--labels"),
        ("--labels 'ang $HOME'", "--labels 'ang $HOME'"),
        ("--labels 'ang *'", "--labels 'ang *'"),
        ("--labels 'ang,hap neu'", "--labels 'ang,hap neu'"),
        ("--labels 'ang ../hap'", "--labels 'ang ../hap'"),
        ("--labels 'ang neu ang'", "ang is there twice"),
        ("--labels $'ang\\nneu'", "--labels $'ang\\nneu': a line break"),
        ("--snr_range $'-5\\n5'", "--snr_range $'-5\\n5': a line break"),
        ("--source_set ..", "--source_set '..': give the name of a directory in data/"),
        ("--source_set 'a;b'", "--source_set 'a;b'"),
        ("--source_set JOB", "--source_set 'JOB'"),
        ("--sweeps ../../run", "--sweeps: '../../run' of conf/sweeps: only letters"),
        (
            "--sweeps '$(touch${IFS}PWN)'",
            "--sweeps: '$(touch${IFS}PWN)' of conf/sweeps: only letters",
        ),
        ("--tse_tag ../x", "the tag '../x': only letters"),
        ("--ser_tag 'a b'", "the tag 'a b': only letters"),
        ("--joint_tag a/b", "the tag 'a/b': only letters"),
        ("--joint_tag a+b", "the tag 'a+b': only letters"),
        ("--systems 'ft ft'", "--systems: 'ft' is there twice"),
        ("--systems 'ft *'", "--systems: no system '*'; known: clean_clean clean_noisy"),
        ("--systems best", "--systems: no system 'best'; known: clean_clean clean_noisy"),
        ("--mix_tag JOB", "--mix_tag 'JOB'"),
        ("--expdir -x", "--expdir '-x': only letters"),
        ("--dumpdir '$HOME'", "--dumpdir '$HOME': only letters"),
        ("--hf_repo 'me/x;y'", "--hf_repo 'me/x;y': expected user/name"),
        ("leftover", "'leftover'"),
    ],
)
def test_wrong_option_values(options, message, recipe):
    result = run(recipe, options)
    assert result.returncode == 2
    assert message in result.stderr
    assert not calls(recipe)
    assert not (recipe / "PWN").exists()


def test_backends_that_are_not_there_are_refused(recipe):
    for backend, message in (
        ("slum", "unknown cmd_backend 'slum': use local, stdout, slurm, sge, pbs or ssh"),
        ("sge", "cmd_backend=sge needs queue.pl: put Kaldi's or ESPnet's into utils/"),
    ):
        result = run(recipe, cmd_backend=backend)
        assert result.returncode == 1
        assert message in result.stderr
        assert not calls(recipe)


def test_another_wrapper_can_take_the_place_of_ours(recipe):
    # The contract of queue.pl, as small as it can be: options, JOB=1:N, log, command.
    (recipe / "utils/queue.pl").write_text(
        "#!/usr/bin/env python3\n"
        "import os, subprocess, sys\n"
        "words, last = sys.argv[1:], None\n"
        "while words[0].startswith('-') or '=' in words[0]:\n"
        "    word = words.pop(0)\n"
        "    if '=' in word:\n"
        "        last = int(word.split(':')[1])\n"
        "    else:\n"
        "        words.pop(0)\n"
        "words = [w if w and not w.isspace() else repr(w) for w in words]\n"
        "for n in range(1, (last or 1) + 1):\n"
        "    log, *command = [w.replace('JOB', str(n)) if last else w for w in words]\n"
        "    os.makedirs(os.path.dirname(log), exist_ok=True)\n"
        "    with open(log, 'w') as stream:\n"
        "        subprocess.run(['bash', '-c', ' '.join(command)], stdout=stream, check=True)\n"
    )
    (recipe / "utils/queue.pl").chmod(0o755)
    result = run(recipe, '--folds "1 2"', cmd_backend="sge")
    assert result.returncode == 0, result.stderr
    assert len(list(recipe.glob("exp/*/fold*/.done"))) == 8


def test_missing_db_value_is_named(tmp_path):
    command = "unset RAVDESS LIBRISPEECH; local/data.sh"
    result = bash(command, ROOT / "egs2/ravdess_mix/tse_ser1")
    assert result.returncode == 1
    assert "Fill the value of 'RAVDESS' of db.sh" in result.stderr
    result = bash("unset LIBRISPEECH; RAVDESS=x local/data.sh", ROOT / "egs2/ravdess_mix/tse_ser1")
    assert "'LIBRISPEECH'" in result.stderr


def test_esd_is_made_only_on_demand(tmp_path):
    """data/esd of the IEMOCAP recipe, with a stand-in that notes what is prepared."""
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$3 $*" >&2\n')
    python.chmod(0o755)
    directory = tmp_path / "egs2/iemocap_mix/tse_ser1"
    shutil.copytree(ROOT / "egs2", tmp_path / "egs2", symlinks=True)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/activate_python.sh").write_text(f"export PATH={tmp_path}:${{PATH}}\n")
    corpora = "unset ESD; export IEMOCAP=x LIBRISPEECH=y"
    without = bash(f"{corpora}; local/data.sh", directory)
    assert without.returncode == 0 and "--output_dir data/esd" not in without.stderr
    result = bash(f"{corpora}; local/data.sh --esd true", directory)
    assert result.returncode == 1 and "Fill the value of 'ESD' of db.sh" in result.stderr
    result = bash(f"{corpora}; ESD=z local/data.sh --esd true", directory)
    assert result.returncode == 0
    last = result.stderr.splitlines()[-1]
    assert last.startswith("esd ") and "--root z" in last
    assert last.endswith("--complete true --output_dir data/esd")


def test_missing_installation_is_named(recipe):
    (recipe / "../../../tools/activate_python.sh").unlink()
    result = run(recipe)
    assert result.returncode == 1
    assert "run `make -C tools`" in result.stderr
    assert not calls(recipe)


# --- setup.sh -------------------------------------------------------------------------------


def test_setup_wants_one_new_directory_beside_the_template(egs2):
    setup = "TEMPLATE/tse_ser1/setup.sh"
    for arguments in ("", "a b", "--from", "--from a", "--form a b", "-x"):
        result = bash(f"{setup} {arguments}", egs2)
        assert result.returncode == 2
        assert "Usage" in result.stderr
    result = bash(f"{setup} elsewhere/new/tse_ser1", egs2)
    assert result.returncode == 2
    assert "elsewhere/TEMPLATE does not exist" in result.stderr
    assert bash(f"{setup} new/tse_ser1", egs2).returncode == 0
    result = bash(f"{setup} new/tse_ser1", egs2)
    assert result.returncode == 2
    assert "exists already" in result.stderr


@pytest.mark.parametrize("source", ["", "--from egs2/ravdess_mix/tse_ser1"])
def test_a_new_recipe_has_files_of_its_own(tmp_path, source):
    """One can be written over and no other changes, of this recipe or of one that it comes from."""
    egs2 = shutil.copytree(ROOT / "egs2", tmp_path / "egs2", symlinks=True)
    new = egs2 / "new_mix/tse_ser1"
    result = bash(f"egs2/TEMPLATE/tse_ser1/setup.sh {source} egs2/new_mix/tse_ser1", tmp_path)
    assert result.returncode == 0, result.stderr
    of = egs2 / ("ravdess_mix" if source else "iemocap_mix") / "tse_ser1"
    names = [p.relative_to(of) for p in of.glob("conf/**/*.yaml") if p.parent.name != "sweeps"]
    assert len(names) > 14 and Path("conf/systems/ft.yaml") in names
    for name in [*names, *map(Path, ("run.sh", "local/data.sh"))]:
        assert not (new / name).is_symlink()
        same = (new / name).read_bytes() == (of / name).read_bytes()
        assert same or not source and name.suffix == ".sh"
    before = {p: p.read_bytes() for p in egs2.rglob("*") if p.is_file()}
    for name in ("conf/train_ser.yaml", "conf/systems/ft.yaml"):
        result = bash(f"cp {of}/conf/train_tse.yaml {new}/{name}", tmp_path)
        assert result.returncode == 0, result.stderr
    changed = {p for p, content in before.items() if p.read_bytes() != content}
    assert changed == {new / "conf/train_ser.yaml", new / "conf/systems/ft.yaml"}
    links = {p.relative_to(new): p.resolve() for p in new.rglob("*") if p.is_symlink()}
    assert links == {p.relative_to(of): p.resolve() for p in of.iterdir() if p.is_symlink()} | {
        Path(f"conf/{name}"): egs2 / "TEMPLATE/common/conf" / name
        for name in ("slurm.conf", "sweeps")
    }


def test_a_recipe_hands_on_what_it_has_in_place_of_a_link(tmp_path):
    egs2 = shutil.copytree(ROOT / "egs2", tmp_path / "egs2", symlinks=True)
    for name in ("cmd.sh", "conf/slurm.conf"):
        (egs2 / "ravdess_mix/tse_ser1" / name).unlink()
        (egs2 / "ravdess_mix/tse_ser1" / name).write_text("its own\n")
    setup = "TEMPLATE/tse_ser1/setup.sh --from ravdess_mix/tse_ser1 new_mix/tse_ser1"
    assert bash(setup, egs2).returncode == 0
    for name in ("cmd.sh", "conf/slurm.conf"):
        new = egs2 / "new_mix/tse_ser1" / name
        assert new.read_text() == "its own\n" and not new.is_symlink()


def test_a_new_recipe_has_the_configurations_of_its_model(tmp_path):
    """Also where it has a file of its own in place of a link to one with a base."""
    egs2 = shutil.copytree(ROOT / "egs2", tmp_path / "egs2", symlinks=True)
    of, new = (egs2 / name / "tse_ser1/conf" for name in ("iemocap_mix", "new_mix"))
    (of / "train_ser.yaml").unlink()
    (of / "train_ser.yaml").symlink_to("tuning/train_ser_hubert_base_frozen_cnn.yaml")
    (of / "tuning/train_tse_10pct.yaml").symlink_to(
        "../../../../ravdess_mix/tse_ser1/conf/tuning/train_tse_10pct.yaml"
    )
    setup = "egs2/TEMPLATE/tse_ser1/setup.sh egs2/new_mix/tse_ser1"
    assert bash(setup, tmp_path).returncode == 0
    paths = sorted(of.glob("**/train_*.yaml"))
    assert len(paths) > 15
    for path in paths:
        made = new / path.relative_to(of)
        assert read_configuration(made) == read_configuration(path) and not made.is_symlink()
    assert chain(new / "train_ser.yaml")[1] == str(new / "tuning/train_ser_hubert_base_frozen.yaml")
    assert chain(new / "tuning/train_tse_10pct.yaml")[1:] == [
        str(egs2 / "ravdess_mix/tse_ser1/conf/train_tse.yaml")
    ]


def test_setup_wants_a_recipe_to_begin_with(egs2):
    setup = "TEMPLATE/tse_ser1/setup.sh --from"
    for source, missing in (("none", "none/run.sh"), ("iemocap_mix/tse_ser1", "tse_ser1/run.sh")):
        result = bash(f"{setup} {source} new/tse_ser1", egs2)
        assert result.returncode == 2
        assert f"--from {source}: there is no " in result.stderr and missing in result.stderr
        assert not (egs2 / "new").exists()


def test_new_recipe_says_what_to_fill_in(egs2):
    assert bash("TEMPLATE/tse_ser1/setup.sh new/tse_ser1", egs2).returncode == 0
    result = bash("./run.sh", egs2 / "new/tse_ser1", LIBRISPEECH="somewhere")
    assert result.returncode == 1
    assert "fill in how data/emo is made" in result.stderr
    assert "local/data.sh failed" in result.stderr


# --- stages and steps -----------------------------------------------------------------------


def test_all_stages_then_nothing_is_done_again(recipe, run_pl):
    result = run(recipe, '--folds "1 2" --seed 5')
    assert result.returncode == 0, result.stderr
    assert re.search(r"Stage 17 upload done in \d+ s: nothing", result.stdout)
    headers = re.findall(r"Stage (\d+) (\w+): ", result.stdout)
    assert [name for _, name in headers] == STAGES
    assert [int(number) for number, _ in headers] == list(range(1, 18))
    assert "the table" in result.stdout
    assert not list(recipe.glob("exp/.batch*")) and not list(recipe.glob("**/.lock*"))
    done = calls(recipe)
    count = {n: sum(c.startswith(n + " ") for c in done) for n in {c.split()[0] for c in done}}
    assert count == {
        "data.sh": 1,
        "format_audio": 6,  # 3 sets: one job each, and combining
        "mixture_table": 1,
        "check_data": 1,
        "simulate": 2,
        "tse_stats": 1,
        "tse_train": 1,
        "extract": 2,
        "tse_score": 1,
        "ser_stats": 3,
        "ser_train": 6,
        "tse_ser_train": 2,
        "recognize": 14,
        "preservation": 1,
        "score": 1,
        "results": 1,
        "evaluate": 1,
        "sweeps_report": 1,
        "pack": 2,
    }
    assert (
        "ser_train --config conf/train_ser.yaml --scp dump/denoised_default/wav.scp "
        "--data_dir dump/mix --split data/mix/splits/fold2 "
        "--stats exp/ser_stats_default/denoised/fold2/feats_stats.npz "
        "--output_dir exp/ser_denoised_default/fold2 --seed 5 --labels ang hap neu sad --ngpu 0"
    ) in done
    assert (
        "recognize --model_dir exp/tse_ser_ft_default/fold1 --data_dir dump/mix "
        "--scp dump/mix/wav.scp --ids data/mix/splits/fold1/test.lst "
        "--output exp/scores/ft/default/fold1/hyp.tsv "
        "--output_audio exp/scores/ft/default/fold1/audio "
        "--batch_size 16"
    ) in done

    again = run(recipe, '--folds "1 2" --seed 5 --nj 3 --batch_size 2 --max_jobs 5')
    assert again.returncode == 0, again.stderr
    assert calls(recipe) == []


def test_features_of_a_frozen_frontend_are_kept(recipe):
    assert run(recipe, "--stop_stage extract").returncode == 0
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    calls(recipe)
    stages = "--folds 1 --systems noisy_noisy --stage ser_stats --stop_stage ser"
    assert run(recipe, stages).returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done] == ["ser_features"] * 2 + ["ser_stats", "ser_train"]
    options = "--output_dir dump/feats_default/noisy --dtype float32"
    assert f"--scp dump/mix/wav.scp {options} --job 1 --nj 1" in done[0]
    assert done[1].endswith(f"{options} --combine --nj 1")
    feats = "--scp dump/mix/wav.scp --feats dump/feats_default/noisy "
    assert feats in done[2] and feats in done[3]
    # Inference needs those of what its systems are tested on, and none for the joint model.
    (recipe / "exp/tse_ser_scratch_default/fold1").mkdir(parents=True)
    (recipe / "exp/tse_ser_scratch_default/fold1/.done").write_text("")
    (recipe / "exp/ser_clean_default/fold1").mkdir(parents=True)
    (recipe / "exp/ser_clean_default/fold1/.done").write_text("")
    names = "clean_clean clean_noisy clean_denoised scratch"
    stage = f"--folds 1 --systems '{names}' --stage infer --stop_stage infer"
    assert run(recipe, stage).returncode == 0
    done = calls(recipe)
    made = {c.split("--output_dir ")[1].split()[0] for c in done if c.startswith("ser_features")}
    assert made == {"dump/feats_default/clean", "dump/feats_default/denoised_default"}
    read = {c.split("scores/")[1].split("/")[0]: "--feats" in c for c in done if "hyp.tsv" in c}
    assert read == {
        "clean_clean": True,
        "clean_noisy": True,
        "clean_denoised": True,
        "scratch": False,
    }


@pytest.mark.parametrize(
    ("config", "options", "kept"),
    [
        ("frontend: 'ssl'  # HuBERT\nfrontend_conf:\n  finetune: false\n", "", "float32"),
        ("frontend: ssl\n", "--feats_dtype float16", "float16"),
        ("frontend: ssl\n", "--feats_dtype none", None),
        ("{frontend: SSL}\n", "", "float32"),
        ("frontend: ssl\nfrontend_conf:\n  finetune: true\n", "", None),
        ("frontend: ssl\nfrontend_conf:\n  finetune: True\n", "", None),
        ("frontend: ssl\nfrontend_conf: {'finetune': 'on'}\n", "", None),
        ("frontend: ssl\nfrontend_conf: {layer: weighted}\n", "", None),
        ("frontend: logmel\n", "", None),
        ("encoder: shift_cnn\n", "", None),
    ],
)
def test_which_features_are_kept(recipe, config, options, kept):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    calls(recipe)
    (recipe / "conf/train_ser.yaml").write_text(config)
    stage = f"--systems clean_noisy --stage ser_stats --stop_stage ser_stats {options}"
    assert run(recipe, stage).returncode == 0
    done = calls(recipe)
    assert len(done) == (1 if kept is None else 3)
    assert all(f"--dtype {kept}" in c for c in done[:-1]) and ("--feats" in done[-1]) == bool(kept)


def test_a_configuration_that_is_none_stops_before_anything_is_made(recipe):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    calls(recipe)
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\nfrontend_conf: {finetune: maybe}\n")
    result = run(recipe, "--systems clean_noisy --stage ser_stats")
    assert result.returncode == 2 and not calls(recipe)
    message = "error: conf/train_ser.yaml: frontend_conf: finetune: expected true or false, got"
    assert message in result.stderr


def test_the_check_shows_what_dev_is_and_what_is_never_tested(recipe):
    shown = ["fold 1: train 6, dev 3", "9 mixtures: no violation"]
    shown.append("39 utterances of fold 0 are never tested: x")
    stand_in = recipe / "stand_in"
    lines = ["INFO: check audio of emo: 9 done", *(f"INFO: {text}" for text in shown[:2])]
    lines = "".join(f"echo '12:00:00,000 {line}'\n" for line in [*lines, f"WARNING: {shown[2]}"])
    stand_in.write_text(f"{stand_in.read_text()}if [[ $2 == *.check_data ]]; then\n{lines}fi\n")
    for _ in range(2):  # also when it is done already
        result = run(recipe, "--stop_stage check")
        assert result.returncode == 0, result.stderr
        assert re.findall(r"^    (\S.*)$", result.stdout, re.MULTILINE) == shown


def test_a_gpu_for_all_that_run_networks(recipe, run_pl):
    (recipe / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    options = "--folds 1 --ngpu 1 --max_jobs 1 --stop_stage sweeps"
    result = run(recipe, options, CUDA_VISIBLE_DEVICES="0")
    assert result.returncode == 0, result.stderr
    commands = {True: set(), False: set()}
    for call in calls(recipe):
        commands["--device cuda" in call].add(call.split()[0] + " --combine" * ("--comb" in call))
    assert commands[True] == {"extract", "ser_features", "recognize", "evaluate"}
    assert not commands[True] & commands[False]
    # it is no setting
    assert run(recipe, options.replace("--ngpu 1", "--ngpu 0")).returncode == 0
    assert calls(recipe) == []


def test_tests_are_named_by_patterns(recipe):
    for name in ("snr_5", "snr_-5", "talkers_3"):
        (recipe / f"conf/sweeps/{name}.yaml").write_text("snr: 0\n")
    for sweeps, named in (
        ("", ["snr_-5", "snr_0", "snr_5", "talkers_3"]),
        ("talkers_3 snr_?", ["snr_0", "snr_5", "talkers_3"]),
        ("snr_* snr_0", ["snr_-5", "snr_0", "snr_5"]),
        ("none", []),
    ):
        (recipe / "stand_in").write_text('#!/bin/sh\necho "$@" >> calls.txt; exit 7\n')
        run(recipe, f"--sweeps '{sweeps}'")
        assert calls(recipe)[0].endswith(f" --sweeps {' '.join(named)}")
    result = run(recipe, "--sweeps 'snr_0 overlap_*'")
    assert result.returncode == 2 and "--sweeps: 'overlap_*' of conf/sweeps: only" in result.stderr


def test_a_test_reads_the_sources_that_it_names(recipe):
    (recipe / "conf/sweeps/other.yaml").write_text("{sources: esd}  # new\n")
    result = run(recipe, "--stage sweeps --stop_stage sweeps --sweeps 'other snr_0'")
    assert result.returncode == 1
    assert "dump/clean/esd/.done is missing" in result.stderr


def test_stages_by_name_and_number(recipe):
    assert run(recipe, "--stop-stage mixture_table").returncode == 0
    assert [c.split()[0] for c in calls(recipe)][-1] == "mixture_table"
    assert run(recipe, "--stage check --stop_stage 4").returncode == 0
    assert [c.split()[0] for c in calls(recipe)] == ["check_data", "simulate", "simulate"]


def test_a_stage_without_what_it_needs(recipe):
    result = run(recipe, "--stage simulate")
    assert result.returncode == 1
    assert "data/mix/.done is missing: run the stage that makes it first" in result.stderr
    assert not (recipe / "dump/mix").exists()


def test_other_settings_stop_and_say_what_differs(recipe):
    assert run(recipe, "--stop_stage tse").returncode == 0
    calls(recipe)
    result = run(recipe, "--stop_stage tse --tse_args '--max_epoch 3'")
    assert result.returncode == 1
    assert "exp/tse_default was made with other settings" in result.stderr
    assert "> --max_epoch 3" in result.stderr
    assert "Remove exp/tse_default" in result.stderr
    assert calls(recipe) == []
    # the remedies: another tag, or a new directory
    assert run(recipe, "--stop_stage tse --tse_args '--max_epoch 3' --tse_tag b").returncode == 0
    assert calls(recipe)[-1].startswith("tse_train")
    shutil.rmtree(recipe / "exp/tse_default")
    assert run(recipe, "--stop_stage tse --tse_args '--max_epoch 3'").returncode == 0
    assert len(calls(recipe)) == 1


def test_a_changed_base_of_a_config_is_noticed(recipe):
    """As a change of the configuration itself, by every step that reads it."""
    for kind in ("tse", "ser", "tse_ser"):
        base = (recipe / f"conf/train_{kind}.yaml").rename(recipe / f"conf/base_{kind}.yaml")
        (recipe / f"conf/train_{kind}.yaml").write_text(f"base: {base.name}\n")
    options = "--folds 1 --stage 1 --stop_stage joint --systems 'noisy_noisy scratch'"
    assert run(recipe, options).returncode == 0
    for kind, made in (
        *(("tse", "tse_stats_default"), ("tse", "tse_default")),
        *(("ser", "ser_stats_default/noisy"), ("ser", "ser_noisy_default/fold1")),
        *(("ser", "tse_ser_scratch_default/fold1"), ("tse_ser", "tse_ser_scratch_default/fold1")),
    ):
        record = (recipe / f"exp/{made}/.done").read_text()
        assert re.search(rf"^\d+ \d+ conf/base_{kind}.yaml$", record, re.MULTILINE), made
    assert run(recipe, options).returncode == 0
    with (recipe / "conf/base_tse_ser.yaml").open("a") as stream:
        stream.write("grad_clip: 1\n")
    result = run(recipe, options)
    assert result.returncode == 1
    assert "exp/tse_ser_scratch_default/fold1 was made with other settings" in result.stderr
    (recipe / "conf/base_tse.yaml").unlink()
    calls(recipe)
    result = run(recipe, options)
    assert result.returncode == 2 and calls(recipe) == []
    assert "conf/train_tse.yaml: line 1: base: base_tse.yaml: no such file" in result.stderr


def test_a_changed_config_is_noticed(recipe):
    assert run(recipe, "--stop_stage tse_stats").returncode == 0
    (recipe / "conf/train_tse.yaml").write_text("name: other\n")
    result = run(recipe, "--stop_stage tse_stats")
    assert result.returncode == 1
    assert "conf/train_tse.yaml" in result.stderr


def test_a_change_upstream_is_noticed_below(recipe):
    assert run(recipe, "--stop_stage simulate").returncode == 0
    shutil.rmtree(recipe / "data/mix")
    result = run(recipe, "--stop_stage simulate --seed 1")
    assert result.returncode == 1
    assert "dump/mix was made with other settings" in result.stderr
    assert "data/mix/mixtures.tsv" in result.stderr


def test_a_retrained_model_is_tested_again(recipe):
    options = "--systems noisy_noisy --folds 1"
    assert run(recipe, options).returncode == 0
    calls(recipe)
    shutil.rmtree(recipe / "exp/ser_noisy_default/fold1")
    assert run(recipe, options).returncode == 0
    names = [c.split()[0] for c in calls(recipe)]
    assert names == ["ser_train", "recognize", "score", "results", "evaluate", "sweeps_report"]


def test_more_folds_add_to_what_is_there(recipe):
    options = "--systems noisy_noisy"
    assert run(recipe, f"{options} --folds 1").returncode == 0
    calls(recipe)
    assert run(recipe, f"{options} --folds '1 2'").returncode == 0
    names = [c.split()[0] for c in calls(recipe)]
    assert names.count("ser_train") == names.count("recognize") == 1


def test_another_corpus_root_prepares_again(recipe):
    assert run(recipe, "--stop_stage 1").returncode == 0
    calls(recipe)
    assert run(recipe, "--stop_stage 1", IEMOCAP="/elsewhere").returncode == 0
    # the same data comes out of it here, so nothing below is done again
    assert calls(recipe) == ["data.sh "]


def test_systems_get_what_they_need_and_no_more(recipe):
    assert run(recipe, "--folds 1 --systems 'clean_clean clean_noisy'").returncode == 0
    done = calls(recipe)
    assert not {c.split()[0] for c in done} & {"tse_train", "extract", "tse_score", "tse_ser_train"}
    rows = {c.split("exp/scores/")[1].split("/fold")[0] for c in done if c.startswith("recognize")}
    assert rows == {"clean_clean/default", "clean_noisy/default"}
    # What a system starts from is trained and not tested.
    assert run(recipe, "--folds 1 --systems ft").returncode == 0
    done = calls(recipe)
    assert "exp/ser_denoised_default/fold1" in next(c for c in done if c.startswith("ser_train"))
    assert "--ser_dir exp/ser_denoised_default/fold1" in next(
        c for c in done if c.startswith("tse_ser_train")
    )
    rows = {c.split("exp/scores/")[1].split("/fold")[0] for c in done if c.startswith("recognize")}
    assert rows == {"ft/default"}


def test_a_system_added_with_one_file_runs_alone(recipe):
    assert run(recipe, "--folds 1").returncode == 0
    calls(recipe)
    text = "train: noisy\ntest: noisy\nrecogniser: conf/train_ser_big.yaml\n"
    declare(recipe, "noisy_big", text)
    (recipe / "conf/train_ser_big.yaml").write_text("name: big\n")
    assert run(recipe, f"--folds 1 --systems '{PAPER} noisy_big'").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done] == [
        *("ser_stats", "ser_train", "recognize", "score", "results", "evaluate", "sweeps_report")
    ]
    assert "--output_dir exp/ser_noisy_big/fold1" in done[1]
    assert "--row noisy_big/big conf/train_ser_big.yaml" in done[3]
    assert "--row noisy_big/big exp/ser_noisy_big conf/train_ser_big.yaml" in done[5]
    status = bash(f"./status.sh --folds 1 --systems '{PAPER} noisy_big'", recipe)
    assert re.search(r"scores of noisy_big big +done", status.stdout)


def test_two_joint_configurations_and_two_front_ends(recipe):
    for name in ("tse_b", "tse_ser_b"):
        (recipe / f"conf/train_{name}.yaml").write_text(f"name: {name}\n")
    for tse, joint in itertools.product(("tse", "tse_b"), ("tse_ser", "tse_ser_b")):
        configs = f"--tse_config conf/train_{tse}.yaml --joint_config conf/train_{joint}.yaml"
        result = run(recipe, f"--folds 1 --systems 'base ft' --stop_stage score {configs}")
        assert result.returncode == 0, result.stderr
    rows = {str(p.parent.relative_to(recipe)) for p in recipe.glob("exp/scores/*/*/fold1")}
    assert rows == {
        *(f"exp/scores/base/{tag}" for tag in ("default", "b+default")),
        *("exp/scores/ft/default", "exp/scores/ft/default+default+b"),
        *("exp/scores/ft/b+default+default", "exp/scores/ft/b+default+b"),
    }
    trained = [c for c in calls(recipe) if c.split()[0] in ("tse_train", "ser_train")]
    assert len(trained) == 4


def test_a_front_end_from_elsewhere(recipe):
    """It is not trained, and nothing is counted for it; what is made of it has its tag."""
    model = recipe / "elsewhere/tcn"
    model.mkdir(parents=True)
    for name in ("config.yaml", "valid.loss.best.pth"):
        (model / name).write_text("a: 1\n")
    options = "--folds 1 --systems 'base ft' --stop_stage joint --frontend elsewhere/tcn"
    result = run(recipe, options)
    assert result.returncode == 0, result.stderr
    done = calls(recipe)
    assert "front_end --source elsewhere/tcn --output_dir exp/tse_tcn" in done
    assert not [c for c in done if c.split()[0] in ("tse_train", "tse_stats")]
    assert "extract --model_dir exp/tse_tcn --data_dir dump/mix" in "\n".join(done)
    assert "--tse_dir exp/tse_tcn " in next(c for c in done if c.startswith("tse_ser_train"))
    status = bash(f"./status.sh {options}", recipe)
    assert re.search(r"tse_tcn +done", status.stdout)
    assert run(recipe, options).returncode == 0
    assert calls(recipe) == []
    # Beside it one that is trained, and with a rate that the model does not say.
    assert run(recipe, "--folds 1 --systems base --stop_stage joint").returncode == 0
    assert [c.split()[0] for c in calls(recipe)][:2] == ["tse_stats", "tse_train"]
    options = options.replace("tcn", "tcn/valid.loss.best.pth --tse_tag b --frontend_fs 16000")
    assert run(recipe, options).returncode == 0
    source = "elsewhere/tcn/valid.loss.best.pth"
    command = f"front_end --source {source} --output_dir exp/tse_b --frontend_fs 16000"
    assert command in calls(recipe)


def model_elsewhere(recipe):
    """A directory with the files of a front-end."""
    model = recipe / "elsewhere"
    model.mkdir()
    for name in ("config.yaml", "valid.loss.best.pth"):
        (model / name).write_text("a: 1\n")
    return model


def test_a_front_end_that_was_refused_is_asked_for_again(recipe):
    model_elsewhere(recipe)
    options = "--folds 1 --systems base --stop_stage tse --frontend elsewhere"
    assert run(recipe, options, FAIL_ON="front_end").returncode == 1
    result = run(recipe, f"{options} --frontend_fs 16000")
    assert result.returncode == 0, result.stderr
    assert calls(recipe)[-1].endswith("--frontend_fs 16000")
    # But what stands there is not made anew with other settings, be it a training.
    for name in ("front_end.json", "config.yaml"):
        (recipe / "exp/tse_elsewhere/front_end.json").rename(recipe / "exp/tse_elsewhere" / name)
        result = run(recipe, options)
        assert result.returncode == 1 and "was made with other settings" in result.stderr


def test_a_system_with_a_front_end_from_elsewhere(recipe):
    declare(recipe, "base_b", "train: denoised\ntest: denoised\nfront_end: user/model.b\n")
    assert run(recipe, "--folds 1 --systems 'base base_b' --stop_stage score").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done if "exp/tse_" in c.partition("--output_dir")[2]] == [
        *("tse_stats", "tse_train", "front_end")
    ]
    assert "front_end --source user/model.b --output_dir exp/tse_model.b" in done
    assert (recipe / "exp/scores/base_b/model.b+default/fold1").is_dir()


def test_a_front_end_from_elsewhere_that_changes_is_noticed(recipe):
    model = model_elsewhere(recipe)
    options = "--folds 1 --systems base --stop_stage extract --frontend elsewhere"
    assert run(recipe, options).returncode == 0
    (model / "valid.loss.best.pth").write_text("a: 2\n")
    result = run(recipe, options)
    assert result.returncode == 1 and "exp/tse_elsewhere was made with other set" in result.stderr
    # What it says helps, and all below follows. (The hub's models are known by their record alone.)
    shutil.rmtree(recipe / "exp/tse_elsewhere")
    result = run(recipe, f"{options} --frontend_fs 16000")
    assert result.returncode == 1
    assert "dump/denoised_elsewhere was made with other settings" in result.stderr
    assert "exp/tse_elsewhere/front_end.json" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("elsewhere", "elsewhere: there is no such directory or file"),
        ("conf", "conf: has no config.yaml or meta.yaml"),
        ("x|y/tcn", "'x|y/tcn': a | is in it, which stands between fields; rename it"),
    ],
)
def test_a_front_end_from_nowhere(recipe, name, message):
    (recipe / "x|y/tcn").mkdir(parents=True)
    for file in ("config.yaml", "valid.loss.best.pth"):
        (recipe / "x|y/tcn" / file).write_text("a: 1\n")
    result = run(recipe, f"--frontend '{name}'")
    assert result.returncode == 2 and message in result.stderr and calls(recipe) == []


def test_hypotheses_of_another_program(recipe):
    (recipe / "other.tsv").write_text("id\tlabel\n")
    declare(recipe, "other", "train: elsewhere\ntest: noisy\nhypotheses: other.tsv\n")
    assert run(recipe, "--folds 1 --systems 'noisy_noisy other'").returncode == 0
    done = calls(recipe)
    assert [c.split()[0] for c in done].count("import_hypotheses") == 1
    assert "--row other/other other.tsv" in next(c for c in done if c.startswith("score"))
    assert "other/" not in next(c for c in done if c.startswith("evaluate"))


def test_joint_training_from_scratch_gets_what_it_needs(recipe):
    assert run(recipe, "--folds 1 --systems scratch --labels 'ang neu'").returncode == 0
    from_scratch = (
        "--ser_config conf/train_ser.yaml --labels ang neu "
        "--stats exp/ser_stats_default/denoised/fold1/feats_stats.npz "
    )
    done = calls(recipe)
    assert [from_scratch in c for c in done if c.startswith("tse_ser_train")] == [True]
    assert not any(c.startswith("ser_train") for c in done)


def test_every_stage_gets_how_mixtures_are_made(recipe):
    options = '--folds 1 --levels snr --snr_range "-2 3" --loudness_range "-40 -35"'
    options += " --gender_state same"
    assert run(recipe, options).returncode == 0
    done = calls(recipe)
    joint = next(c for c in done if c.startswith("tse_ser_train"))
    mixing = ("levels=snr", "snr=[-2,3]", "loudness=[-40,-35]")
    assert " ".join(f"--mixing_conf {option}" for option in mixing) in joint
    levels = "--levels snr --snr_range -2 3 --loudness_range -40 -35"
    assert f"{levels} --gender_state same" in next(
        c for c in done if c.startswith("mixture_table ")
    )
    test = next(c for c in done if c.startswith("evaluate "))
    assert f"--scheme loso --gender_state same {levels}" in test
    scored = next(c for c in done if c.startswith("score "))
    assert re.findall(r"--row (\S+)", scored) == [f"{name}/default" for name in PAPER.split()]
    assert "--sweeps snr_0" in next(c for c in done if c.startswith("sweeps_report "))


def test_lost_results_are_made_again(recipe):
    assert run(recipe, "--folds 1").returncode == 0
    calls(recipe)
    for lost, steps in (
        ("RESULTS.md", ["results"]),
        ("RESULTS_SWEEPS.md", ["sweeps_report"]),
        ("plots/ladder_ua.png", ["results"]),
        ("plots/sweep_x.png", ["sweeps_report"]),
        ("plots", ["results", "sweeps_report"]),
    ):
        bash(f"rm -r {lost}", recipe / "exp")
        result = run(recipe, "--folds 1")
        assert result.returncode == 0 and " is gone or empty" in result.stdout
        assert [c.split()[0] for c in calls(recipe)] == steps, lost


def test_a_failing_step_stops_with_the_end_of_its_log(recipe, run_pl):
    result = run(recipe, FAIL_ON="tse_stats")
    assert result.returncode == 1
    assert "error: asked to fail" in result.stderr
    log = "exp/tse_stats_default/log/tse_stats.log"
    assert f"failed: exp/tse_stats_default (log in {log})" in result.stderr
    assert f"--- end of {log}" in result.stderr
    assert not (recipe / "exp/tse_stats_default/.done").exists()
    assert "tse_train" not in (recipe / "calls.txt").read_text()
    assert run(recipe, "--stop_stage tse_stats").returncode == 0


def test_a_failing_training_lets_the_others_finish(recipe, run_pl):
    options = '--folds "1 2 3" --max_jobs 3 --stop_stage ser --systems noisy_noisy'
    result = run(recipe, options, FAIL_ON="ser_noisy_default/fold2", SECONDS_A_CALL="0.05")
    assert result.returncode == 1
    assert "failed: exp/ser_noisy_default/fold2" in result.stderr
    done = sorted(p.parent.name for p in recipe.glob("exp/ser_noisy_default/*/.done"))
    assert done == ["fold1", "fold3"]
    calls(recipe)
    assert run(recipe, options).returncode == 0
    assert len(calls(recipe)) == 1


def test_max_jobs_bounds_the_trainings(recipe, run_pl):
    stand_in = (recipe / "stand_in").read_text()
    (recipe / "stand_in").write_text(
        stand_in + "if [[ $2 == *.ser_train ]]; then\n"
        "touch busy.$$; beside=(busy.*); echo ${#beside[@]} >> counts.txt\n"
        "sleep 0.3; rm busy.$$\nfi\n"
    )
    options = "--max_jobs 2 --stop_stage ser --systems noisy_noisy"
    assert run(recipe, options).returncode == 0
    counts = [int(line) for line in (recipe / "counts.txt").read_text().split()]
    assert len(counts) == 5
    assert max(counts) == 2


def test_a_signal_ends_the_running_steps_and_the_next_run_goes_on(recipe, run_pl):
    options = "--systems clean_clean --folds '1 2 3'"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    calls(recipe)
    command = f"exec ./run.sh --python ./stand_in {options} --stop_stage ser --max_jobs 2"
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=recipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SECONDS_A_CALL": "60",
        },
    )
    begun = recipe / "exp/ser_clean_default/fold1/.begun"
    for _ in range(1000):
        if begun.exists() and (recipe / "calls.txt").exists():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in errors
    assert not (recipe / "exp/ser_clean_default/fold1/.done").exists()
    calls(recipe)
    result = run(recipe, f"{options} --stop_stage ser")
    assert result.returncode == 0
    assert "fold1: going on with what was begun" in result.stdout
    assert {c.split()[0] for c in calls(recipe)} == {"ser_train"}


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


def test_two_scripts_at_once(recipe, run_pl):
    options = "--systems noisy_noisy --folds 1"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    first = start(recipe, f"{options} --stop_stage ser", SECONDS_A_CALL="3")
    lock = recipe / "exp/ser_noisy_default/fold1/.lock"
    pid = wait_for(lambda: lock.exists() and lock.read_text().split()[1])
    second = run(recipe, options)
    assert second.returncode == 1
    assert (
        f"exp/ser_noisy_default/fold1: process {pid} on {os.uname().nodename} is working on it"
        in second.stderr
    )
    assert f"remove {lock.relative_to(recipe)}" in second.stderr
    assert first.wait(30) == 0
    assert sum(c.startswith("ser_train") for c in calls(recipe)) == 1
    assert not lock.exists()
    # another fold is another matter
    first = start(recipe, f"{options} --stage ser --stop_stage ser --folds 2", SECONDS_A_CALL="3")
    wait_for((recipe / "exp/ser_noisy_default/fold2/.lock").exists)
    assert run(recipe, options).returncode == 0
    assert first.wait(30) == 0


def processes_in(directory):
    """Command lines of the processes that work in a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_text())
    return found


def test_a_script_that_is_killed_leaves_nothing_behind(recipe, run_pl):
    options = "--systems noisy_noisy --folds '1 2'"
    assert run(recipe, f"{options} --stop_stage ser_stats").returncode == 0
    calls(recipe)
    killed = start(recipe, f"{options} --stop_stage ser", SECONDS_A_CALL="60")
    lock = recipe / "exp/ser_noisy_default/fold1/.lock"
    wait_for(lambda: (recipe / "calls.txt").exists())
    script = int(lock.read_text().split()[1])
    os.kill(script, signal.SIGKILL)
    killed.wait(10)
    assert lock.exists() and "group" in lock.read_text()
    result = run(recipe, f"{options} --stop_stage ser")
    assert result.returncode == 0, result.stderr
    assert not processes_in(recipe)
    assert not list(recipe.glob("**/.lock*")) and not list(recipe.glob("exp/.batch*"))


def test_a_lock_of_another_machine_is_respected(recipe):
    directory = recipe / "dump/mix"
    directory.mkdir(parents=True)
    (directory / ".lock").write_text("elsewhere 12 3456\nsince yesterday by: ./tse_ser.sh\n")
    result = run(recipe, "--stop_stage simulate")
    assert result.returncode == 1
    assert (
        "dump/mix: process 12 on elsewhere is working on it (since yesterday by: ./tse_ser.sh); "
        "wait for it or stop it. If it has ended (or its machine), remove dump/mix/.lock"
    ) in result.stderr
    (directory / ".lock").unlink()
    assert run(recipe, "--stop_stage simulate").returncode == 0


def test_more_seeds_train_and_test_once_more(recipe):
    options = "--systems 'noisy_noisy joint_noisy' --folds '1 2' --seed 3"
    assert run(recipe, options).returncode == 0
    calls(recipe)
    assert run(recipe, f"{options} --more_seeds '7 8'").returncode == 0
    done = calls(recipe)
    names = [c.split()[0] for c in done]
    assert {n: names.count(n) for n in names} == {
        **{"ser_train": 4, "tse_ser_train": 4, "recognize": 8, "score": 1, "results": 1},
        "evaluate": 1,
        "sweeps_report": 1,
    }
    joint = next(
        c for c in done if "tse_ser_joint_noisy_default/fold2_seed8" in c and "tse_ser_train" in c
    )
    assert "--ser_dir exp/ser_noisy_default/fold2_seed8" in joint and "--seed 8" in joint
    assert "--split data/mix/splits/fold2 " in joint
    score = next(c for c in done if c.startswith("score"))
    assert "--folds 1 2 --seed 3 --seeds 7 8" in score
    for wrong in ("'7 3'", "'7 7'", "x"):
        assert run(recipe, f"{options} --more_seeds {wrong}").returncode == 2


def test_the_status_of_every_training(recipe, run_pl):
    options = "--systems 'clean_clean noisy_noisy joint_noisy' --folds '1 2'"
    assert run(recipe, options, FAIL_ON="ser_noisy_default/fold2").returncode == 1
    result = bash(f"./status.sh {options}", recipe)
    assert result.returncode == 0, result.stderr
    lines = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()]
    assert lines[0] == ["", "all", "fold1", "fold2"]
    assert lines[1] == ["tse_default", "done"]
    assert lines[3] == ["ser_noisy_default", "done", "FAILED"]
    assert lines[4] == ["tse_ser_joint_noisy_default", "-", "-"]
    assert lines[5] == ["scores of clean_clean default", "-", "-"]
    assert "FAILED: exp/ser_noisy_default/fold2/log/ser_train.log (exit status 2)" in result.stdout
    assert not (recipe / "exp/scores").exists()


def test_after_ctrl_c_the_jobs_have_ended(recipe, run_pl):
    # They get their time to save; nobody else may begin before.
    assert run(recipe, "--stop_stage mixture_table").returncode == 0
    (recipe / "stand_in").write_text(
        REAL + "trap 'sleep 2; echo saved >>saved; exit 75' TERM\n"
        "echo started >>calls.txt; sleep 30 & wait $!\n"
    )
    calls(recipe)
    process = start(recipe, "--stage simulate --stop_stage simulate")
    wait_for((recipe / "calls.txt").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert (recipe / "saved").read_text() == "saved\n"


@pytest.mark.parametrize("options", ["size=4k", "nr_inodes=4"])
def test_marks_on_a_full_disk_do_not_block_what_follows(options, recipe):
    assert run(recipe, "--stop_stage mixture_table").returncode == 0
    place = recipe / "dump/mix"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", place]
    if os.getuid() != 0 or subprocess.run(mount).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        fill = "head -c 4096 /dev/zero >fill; touch fill1 fill2 fill3; true"
        bash(fill, place)
        result = run(recipe, "--stage simulate --stop_stage simulate")
        assert result.returncode == 1
        assert "dump/mix" in result.stderr and "make room" in result.stderr
        bash("rm -f fill*; mount -o remount,size=1m,nr_inodes=100 .", place)
        result = run(recipe, "--stage simulate --stop_stage simulate")
        assert result.returncode == 0, result.stderr
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


# --- names that reach a shell ---------------------------------------------------------------

HOSTILE = [
    *("A;touch${IFS}PWN;:", "$(touch${IFS}PWN)", "`touch${IFS}PWN`", "$HOME", "a|touch${IFS}PWN"),
    *("a b", "a\nb", "a\tb", "a'b", 'a"b', "a\\b", "*", "[a]", "{a,b}", "JOB", "xJOBy", "-n", "~"),
    *("a&b", "a>PWN", "#a", "!", "a%b", "ü"),
]


def test_names_of_sets_that_a_shell_would_act_on(recipe):
    assert run(recipe, "--stop_stage 1").returncode == 0
    for name in HOSTILE:
        calls(recipe)
        shutil.copytree(recipe / "data/emo", recipe / "data" / name)
        result = run(recipe, "--stop_stage 1")
        assert result.returncode == 1, name
        assert "only letters, digits and" in result.stderr and "rename the directory" in (
            result.stderr
        )
        assert calls(recipe) == [] and not (recipe / "PWN").exists()
        shutil.rmtree(recipe / "data" / name)
    (recipe / "data/a+b.c=d,e:f@2-g_h").mkdir()
    for file in ("wav.scp", "utt2spk"):
        (recipe / "data/a+b.c=d,e:f@2-g_h" / file).write_text("a b")
    assert run(recipe, "--stop_stage 1").returncode == 0
    assert len(calls(recipe)) == 2


ODD_CONFIG = "conf/$HOME JOB $(touch PWN);touch PWN 'x' \"y\" *.yaml"


def test_names_of_configurations_reach_the_command_as_they_are(recipe, run_pl):
    """In jobs of one and of several parts, and with wrappers that let a shell expand words."""
    options = "--systems 'noisy_noisy joint_noisy' --folds 1 --tse_tag a --ser_tag b --joint_tag c"
    (recipe / ODD_CONFIG).write_text("frontend: ssl\n")
    config = shlex.quote(ODD_CONFIG)
    configs = f"--tse_config {config} --ser_config {config} --joint_config {config}"
    result = run(recipe, f"{options} {configs} --stop_stage joint")
    assert result.returncode == 0, result.stderr
    found = [c for c in calls(recipe) if f"--config {ODD_CONFIG} " in c]
    expected = ["tse_stats", "tse_train", *["ser_features"] * 2, "ser_stats", "ser_train"]
    assert [c.split()[0] for c in found] == [*expected, "tse_ser_train"]
    assert not (recipe / "PWN").exists()


def test_names_of_configurations_reach_the_command_through_launch(recipe, run_pl):
    """Trainings on several GPUs are started by espnet2.bin.launch, which calls a wrapper itself."""
    text = (recipe / "stand_in").read_text()
    launch = f'[ "$2" != espnet2.bin.launch ] || exec {sys.executable} "$@"\n'
    (recipe / "stand_in").write_text(text.replace("set -eu\n", f"set -eu\n{launch}"))
    (recipe / ODD_CONFIG).write_text("")
    assert run(recipe, "--stop_stage check").returncode == 0
    calls(recipe)
    options = (
        f"--stage tse --stop_stage tse --ngpu 2 --tse_tag a --tse_config {shlex.quote(ODD_CONFIG)}"
    )
    result = run(recipe, options, CUDA_VISIBLE_DEVICES="0,1")
    assert result.returncode == 0, result.stderr
    (call,) = calls(recipe)
    assert call.startswith(f"tse_train --config {ODD_CONFIG} --pool dump/clean/pretrain --output_")
    assert call.endswith("--seed 0 --ngpu 2 --multiprocessing_distributed True")
    assert not (recipe / "PWN").exists() and (recipe / "exp/tse_a/log/tse_train.log").exists()


@pytest.mark.parametrize("name", ["a|b", "a\nb", "-a"])
def test_names_of_configurations_that_the_script_cannot_take(recipe, name):
    (recipe / f"{name}.yaml").write_text("")
    result = bash(f"./run.sh --python ./stand_in --tse_config {shlex.quote(name)}.yaml", recipe)
    assert result.returncode == 2 and "--tse_config" in result.stderr
    assert not calls(recipe)


# --- done that is not done ------------------------------------------------------------------

WRITING = (
    STAND_IN
    + r"""
option() { # NAME WORDS...
    local word last
    for word; do [ "${last:-}" != "--$1" ] || echo "$word"; last=$word; done
}
dir=$(option output_dir "$@") file=$(option output "$@") audio=$(option output_audio "$@")
write() { mkdir -p "$(dirname "$1")"; echo x >"$1"; }
list() { write "$1/audio/a.flac"; echo "a $PWD/$1/audio/a.flac" >"$1/$2"; }
[ -z "$file" ] || write "$file"
[ -z "$audio" ] || list "$audio" wav.scp
case $2,$* in
    *.format_audio,*--combine* | *.simulate,*--combine* | *.extract,*--combine*)
        list "$dir" wav.scp; write "$dir/utt2spk"; write "$dir/spk2utt" ;;
    *.mixture_table,*) write "$dir/splits/fold1/test.lst" ;;
    *.ser_features,*--combine*)
        write "$dir/a.ark"; echo "a $PWD/$dir/a.ark:12" >"$dir/feats.scp"; write "$dir/index.tsv" ;;
    *.tse_stats,*) write "$dir/stats.json" ;;
    *.ser_stats,*) write "$dir/fold1/feats_stats.npz" ;;
    *_train,*) write "$dir/config.yaml"; write "$dir/1epoch.pth"
        ln -sf 1epoch.pth "$dir/valid.ua.best.pth" ;;
    *.score,*) for row in noisy_noisy joint_noisy; do
        write exp/scores/$row/default/score_utt.tsv; done ;;
    *.results,*) write exp/results.json; write exp/plots/ladder_ua.png ;;
    *.evaluate,*) write "$dir/noisy_noisy/default/score_utt.tsv" ;;
    *.sweeps_report,*) write exp/sweeps.json; write exp/plots/sweep_snr.png ;;
esac
"""
)
DONE = "--folds 1 --systems 'noisy_noisy joint_noisy'"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A recipe of which all stages are done, by a stand-in that writes what is to be written."""
    make = {f.__name__: f.__wrapped__ for f in (egs2, recipe)}
    directory = make["recipe"](make["egs2"](tmp_path_factory.mktemp("finished")))
    (directory / "stand_in").write_text(WRITING)
    (directory / "conf/train_ser.yaml").write_text("frontend: ssl\n")
    result = run(directory, DONE)
    assert result.returncode == 0, result.stderr
    calls(directory)
    return directory


EXTRACTED = "exp/scores/joint_noisy/default/fold1/audio"
LOST = [  # files of a step, and what is done again when they are gone
    ("data/emo/wav.scp data/pretrain/utt2spk", "data.sh"),
    ("dump/clean/emo/wav.scp", "format_audio format_audio"),
    ("dump/clean/interferer/audio/a.flac", "format_audio format_audio"),
    ("data/mix/mixtures.tsv data/mix/splits/fold1/test.lst", "mixture_table"),
    ("dump/mix/wav.scp dump/mix/audio/a.flac", "simulate simulate"),
    ("dump/denoised_default/audio/a.flac", "extract extract"),
    ("dump/feats_default/noisy/a.ark", "ser_features ser_features"),
    ("exp/tse_stats_default/stats.json", "tse_stats"),
    ("exp/tse_default/scoring/score_utt.tsv", "tse_score"),
    ("exp/ser_stats_default/noisy/fold1/feats_stats.npz", "ser_stats"),
    ("exp/scores/noisy_noisy/default/fold1/hyp.tsv", "recognize"),
    (f"{EXTRACTED}/audio/a.flac {EXTRACTED}/wav.scp", "recognize"),
    ("exp/scores/noisy_noisy/default/score_utt.tsv", "score"),
    ("exp/RESULTS.md exp/results.json exp/plots/ladder_ua.png", "results"),
    ("exp/sweeps/snr_0/noisy_noisy/default/score_utt.tsv", "evaluate"),
    ("exp/RESULTS_SWEEPS.md exp/plots/sweep_snr.png", "sweeps_report"),
    ("exp/tse_ser_joint_noisy_default/fold1.zip", "pack"),
]


@pytest.mark.parametrize("which", [0, -1, "emptied"])
def test_what_was_written_and_is_gone_is_made_again(finished, which):
    """One file of every step at once: each looks at its own files, not at those of others."""
    gone = [files.split()[0 if which == "emptied" else which] for files, _ in LOST]
    for name in gone:
        (finished / name).unlink()
        if which == "emptied":
            (finished / name).touch()
    result = run(finished, DONE)
    assert result.returncode == 0, result.stderr
    expected = " ".join(commands for _, commands in LOST).split()
    assert sorted(c.split()[0] for c in calls(finished)) == sorted(expected)
    said = re.findall(r": again, as (\S+) is gone or empty", result.stdout)
    assert sorted(name.removeprefix(f"{finished}/") for name in said) == sorted(gone)
    assert all((finished / name).read_text() for name in gone)
    assert run(finished, DONE).returncode == 0 and calls(finished) == []


@pytest.mark.parametrize("stage", ["tse", "ser", "joint"])
@pytest.mark.parametrize("lost", ["valid.ua.best.pth", "1epoch.pth", "config.yaml"])
def test_a_training_whose_weights_are_gone_goes_on(finished, tmp_path, stage, lost):
    shutil.copytree(finished.parents[2], tmp_path, symlinks=True, dirs_exist_ok=True)
    copy = tmp_path / "egs2/new_mix/tse_ser1"
    name = {
        "tse": "tse_default",
        "ser": "ser_noisy_default/fold1",
        "joint": "tse_ser_joint_noisy_default/fold1",
    }
    directory = f"exp/{name[stage]}"
    (copy / directory / lost).unlink()
    result = run(copy, f"{DONE} --stage {stage} --stop_stage {stage}")
    assert result.returncode == 0, result.stderr
    gone = "valid.ua.best.pth" if lost == "1epoch.pth" else lost
    assert f"{directory}: again, as {directory}/{gone} is gone or empty" in result.stdout
    (call,) = calls(copy)
    assert call.split()[0] == {"joint": "tse_ser_train"}.get(stage, f"{stage}_train")


def test_a_directory_of_plots_that_is_removed(finished):
    shutil.rmtree(finished / "exp/plots")
    assert run(finished, DONE).returncode == 0
    assert [c.split()[0] for c in calls(finished)] == ["results", "sweeps_report"]


def test_what_belongs_to_nobody_may_go(finished):
    """A corpus' audio in a list, logs; and who has an older version's marks has no .wrote."""
    path = finished / "dump/clean/emo/wav.scp"
    path.write_text(path.read_text() + "b /corpora/b.wav\n")
    shutil.rmtree(finished / "dump/mix/log")
    (finished / "exp/scores/.wrote").unlink()
    (finished / "exp/scores/noisy_noisy/default/score_utt.tsv").unlink()
    result = run(finished, f"{DONE} --stop_stage score")
    assert result.returncode == 0 and calls(finished) == []
