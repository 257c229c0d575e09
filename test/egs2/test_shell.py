"""The shell part of the recipes: shellcheck, layout, options and setup.sh."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell_recipes import COMMON, ROOT, STAGES, TEMPLATE, bash, calls, run

from espnet_tse_ser.configuration import chain, read_configuration

RECIPES = sorted(p.parent for p in ROOT.glob("egs2/*/*_ser1/run.sh") if p.parts[-3] != "TEMPLATE")


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
    links = {name: f"../../TEMPLATE/tse_ser1/{name}" for name in ("tse_ser.sh", "status.sh")}
    links |= {n: f"../../TEMPLATE/common/{n}" for n in ("path.sh", "cmd.sh", "db.sh", "utils")}
    links["conf/slurm.conf"] = "../../../TEMPLATE/common/conf/slurm.conf"
    if directory.name == "se_ser1":
        links["se_ser.sh"] = "../../TEMPLATE/se_ser1/se_ser.sh"
        links["conf/systems"] = "../../../TEMPLATE/se_ser1/conf/systems"
        unmatched = "conf/sweeps/unmatched.yaml"
        links[unmatched] = f"../../../../TEMPLATE/se_ser1/{unmatched}"
    else:
        links["conf/sweeps"] = "../../../TEMPLATE/common/conf/sweeps"
    for name, target in links.items():
        assert os.readlink(directory / name) == target
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


def test_a_new_recipe_of_noise(tmp_path):
    egs2 = shutil.copytree(ROOT / "egs2", tmp_path / "egs2", symlinks=True)
    setup = "TEMPLATE/tse_ser1/setup.sh --from ravdess_noise/se_ser1 new_noise/se_ser1"
    assert bash(setup, egs2).returncode == 0
    of, new = (egs2 / name / "se_ser1" for name in ("ravdess_noise", "new_noise"))
    for path in of.glob("conf/**/*.yaml"):
        made = new / path.relative_to(of)
        assert made.read_bytes() == path.read_bytes() and not made.is_symlink()
        if path.name.startswith("train_"):
            assert read_configuration(made) == read_configuration(path)
    assert (new / "se_ser.sh").resolve() == egs2 / "TEMPLATE/se_ser1/se_ser.sh"
    assert (new / "conf/systems/trnet.yaml").is_file() and not (new / "conf/systems").is_symlink()
    result = bash("./run.sh --help", new)
    assert result.returncode == 0 and "[clean 20 15 10 5 0]" in result.stdout


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
