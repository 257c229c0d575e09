"""What ravdess_mix makes of its corpora, with a stub in place of their preparation."""

import os
import subprocess

import pytest
from recipes import copy_of_the_recipes

CORPORA = "RAVDESS LIBRISPEECH SPEECHOCEAN762 ASED".split()
# python3 -m espnet_tse_ser.bin.prepare CORPUS ... --output_dir DIRECTORY
PREPARE = """#!/usr/bin/env bash
mkdir -p "${!#}"
for utt in 2 1; do echo "$3-${utt} x" >> "${!#}/wav.scp"; done
"""


@pytest.fixture
def data_sh(tmp_path):
    """``data_sh(*options)``: run it; returns the recipe, the exit status and what was said."""
    recipe = copy_of_the_recipes(tmp_path).parents[1] / "ravdess_mix/tse_ser1"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(PREPARE)
    (tmp_path / "bin/python3").chmod(0o755)
    (tmp_path / "tools/activate_python.sh").write_text(f'export PATH="{tmp_path}/bin:${{PATH}}"\n')

    def data_sh(*options, **corpora):
        environment = os.environ | dict.fromkeys(CORPORA, "/corpus") | corpora
        done = subprocess.run(
            ["local/data.sh", *options], cwd=recipe, env=environment, capture_output=True, text=True
        )
        return recipe, done.returncode, done.stderr

    return data_sh


def test_what_is_pretrained_on_too(data_sh):
    recipe, status, errors = data_sh("--pretrain_too", "speechocean762,ased")
    assert (status, errors) == (0, "")
    ids = [line.split()[0] for line in (recipe / "data/pretrain/wav.scp").read_text().splitlines()]
    assert ids == [
        f"{corpus}-{n}" for corpus in ("ased", "librispeech", "speechocean762") for n in "12"
    ]
    assert len((recipe / "data/interferer/wav.scp").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["timit"], "--pretrain_too timit: this recipe knows speechocean762 and ased"),
        (["ased,ased"], "--pretrain_too ased,ased: has ased twice; give each corpus once"),
        (["ased", "--piece_seconds", "4"], "--pretrain_too is for whole utterances; drop it or"),
    ],
)
def test_what_cannot_be(data_sh, options, message):
    recipe, status, errors = data_sh("--pretrain_too", *options)
    assert status == 1 and errors.startswith(message)
    assert not (recipe / "data").exists()


def test_a_corpus_that_is_nowhere(data_sh):
    _, status, errors = data_sh("--pretrain_too", "ased", ASED="")
    assert status == 1 and errors.startswith("Fill the value of 'ASED' of db.sh")
