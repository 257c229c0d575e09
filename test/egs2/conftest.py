"""Recipes for the tests of the shell part."""

import shutil

import pytest
from shell_recipes import COMMON, make_egs2, make_recipe


@pytest.fixture
def egs2(tmp_path):
    return make_egs2(tmp_path)


@pytest.fixture
def recipe(egs2):
    return make_recipe(egs2)


@pytest.fixture
def run_pl(recipe):
    """The wrapper itself, for tests of more than which commands are run."""
    shutil.copy(COMMON / "utils/run.pl", recipe / "utils/run.pl")
